"""How a classifier learns: loss, optimizer, learning-rate schedule. Plain values in, PyTorch's own objects out."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR, StepLR

from dlintro.errors import UsageError

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LR_RULES: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
}
STEP_DECAY, STEP_PARTS = 0.1, 3  # schedule=step: a tenth of the rate after each third of the steps
SHORTEST_CYCLE = 4  # steps; a shorter run keeps its rate
ONE_CYCLE_WARMUP = 0.3  # share of the steps, where optim.warmup is 0: OneCycleLR's own default


@dataclass(frozen=True)
class Optim:
    """The keys `optim.*`. `warmup` is a share of all steps; `ema` a decay per step (0: no averaged weights)."""

    name: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] | list[float] = (0.9, 0.999)
    schedule: str = "none"
    warmup: float = 0.0
    lr_rule: str = "none"
    lr_reference_batch: int = 128
    label_smoothing: float = 0.0
    loss: str = "cross_entropy"
    ema: float = 0.0

    def __post_init__(self) -> None:
        for key, value, legal in (
            ("name", self.name, ("sgd", "adam", "adamw")),
            ("schedule", self.schedule, ("none", "step", "cosine", "onecycle")),
            ("lr_rule", self.lr_rule, tuple(LR_RULES)),
            ("loss", self.loss, ("cross_entropy", "mse", "bce")),
        ):
            if value not in legal:
                raise UsageError(f"optim.{key}={value}: use one of {', '.join(legal)}")
        if self.nesterov and not (self.name == "sgd" and self.momentum > 0):
            raise UsageError("optim.nesterov=true: needs optim.name=sgd and optim.momentum above 0, 0.9 say")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise UsageError(f"optim.label_smoothing={self.label_smoothing}: only with optim.loss=cross_entropy")

    def scaled_lr(self, images_per_step: int) -> float:
        """The learning rate for this batch size: `lr` at `lr_reference_batch`, scaled by `lr_rule`."""
        return self.lr * LR_RULES[self.lr_rule](images_per_step / self.lr_reference_batch)

    def optimizer(self, parameters: Iterable[nn.Parameter], lr: float, fused: bool) -> Optimizer:
        parameters = list(parameters)
        if self.name == "sgd":
            return torch.optim.SGD(
                parameters, lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov, fused=fused
            )
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        beta1, beta2 = map(float, self.betas)
        return kind(parameters, lr, (beta1, beta2), weight_decay=self.weight_decay, fused=fused)

    def scheduler(self, optimizer: Optimizer, num_steps: int) -> LRScheduler | None:
        """The schedule over `num_steps` optimizer steps, to be stepped after each of them; None for a constant rate."""
        lr = optimizer.param_groups[0]["lr"]
        warmup = min(round(self.warmup * num_steps), num_steps - 1)
        if self.schedule == "onecycle":
            if num_steps < SHORTEST_CYCLE:
                return None
            # OneCycleLR divides by the lengths of the rise and of the fall, less one.
            pct_start = min(max(warmup, 2), num_steps - 2) / num_steps if warmup else ONE_CYCLE_WARMUP
            # Its cycling of the momentum would overwrite optim.momentum and optim.betas.
            return OneCycleLR(optimizer, lr, total_steps=num_steps, pct_start=pct_start, cycle_momentum=False)
        main: LRScheduler | None = None
        if self.schedule == "cosine":
            main = CosineAnnealingLR(optimizer, num_steps - warmup)
        elif self.schedule == "step":
            main = StepLR(optimizer, max(1, math.ceil((num_steps - warmup) / STEP_PARTS)), STEP_DECAY)
        if not warmup:
            return main
        ramp = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        return ramp if main is None else SequentialLR(optimizer, [ramp, main], milestones=[warmup])

    def loss_function(self, num_classes: int) -> LossFunction:
        """(logits_BK, labels_B) -> the batch's mean loss."""
        if self.loss == "bce":
            if num_classes != 2:
                raise UsageError(f"optim.loss=bce: for two classes, here are {num_classes}; use cross_entropy")
            return binary_cross_entropy
        return mse_on_one_hot if self.loss == "mse" else nn.CrossEntropyLoss(label_smoothing=self.label_smoothing)


def binary_cross_entropy(logits_B2: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """On one logit, log p(1)/p(0): with the other fixed at zero it is their difference."""
    logit_B = logits_B2[:, 1] - logits_B2[:, 0]
    return F.binary_cross_entropy_with_logits(logit_B, labels_B.to(logit_B.dtype))


def mse_on_one_hot(logits_BK: torch.Tensor, labels_B: torch.Tensor) -> torch.Tensor:
    """The squared loss of regression, against 1 for the true class and 0 for the others."""
    return F.mse_loss(logits_BK, F.one_hot(labels_B, logits_BK.shape[1]).to(logits_BK.dtype))
