"""Makes PyTorch's loss, optimizer and learning-rate schedule as an `Optim` describes them."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR, StepLR

from dlintro.errors import UsageError
from dlintro.settings.keys import Optim

LossFunction = Callable[..., torch.Tensor]

STEP_DECAY, STEP_PARTS = 0.1, 3  # schedule=step divides the rate by 10 after each third of the steps
SHORTEST_CYCLE = 4  # steps; a shorter run has a constant rate
ONE_CYCLE_WARMUP = 0.3  # share of the steps if optim.warmup is 0; OneCycleLR's own default


def make_optimizer(
    optim: Optim, parameters: Iterable[nn.Parameter], lr: float, fused: bool, backbone: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """Make the optimizer. `parameters` learn with the rate `lr`, and those of `backbone` with optim.backbone_lr, to
    which optim.lr_rule does the same as to `lr`."""
    decay, groups = optim.weight_decay, groups_of(optim, parameters)
    if optim.backbone_lr is not None:
        groups += [group | {"lr": lr * optim.backbone_lr / optim.lr} for group in groups_of(optim, backbone)]
    if optim.name == "sgd":
        return torch.optim.SGD(groups, lr, optim.momentum, weight_decay=decay, nesterov=optim.nesterov, fused=fused)
    kind = torch.optim.Adam if optim.name == "adam" else torch.optim.AdamW
    beta1, beta2 = map(float, optim.betas)
    return kind(groups, lr, (beta1, beta2), weight_decay=decay, fused=fused)


def groups_of(optim: Optim, parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Return the parameters in the groups that optim.decay_biases asks for, leaving out those without parameters."""
    parameters = list(parameters)
    if optim.decay_biases:
        groups: list[dict[str, Any]] = [{"params": parameters}]
    else:  # almost all vectors are biases and scales of normalisation layers
        groups = [{"params": [parameter for parameter in parameters if parameter.ndim >= 2]}]
        groups += [{"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def make_scheduler(optim: Optim, optimizer: Optimizer, num_steps: int) -> LRScheduler | None:
    """Make the schedule for `num_steps` optimizer steps, to be stepped after each; None for a constant rate."""
    rates = [group["lr"] for group in optimizer.param_groups]
    warmup = min(round(optim.warmup * num_steps), num_steps - 1)
    if optim.schedule == "onecycle":
        if num_steps < SHORTEST_CYCLE:
            return None
        # OneCycleLR divides by (steps of the rise - 1) and (steps of the fall - 1).
        pct_start = min(max(warmup, 2), num_steps - 2) / num_steps if warmup else ONE_CYCLE_WARMUP
        # cycle_momentum=True would overwrite optim.momentum and optim.betas.
        return OneCycleLR(optimizer, rates, total_steps=num_steps, pct_start=pct_start, cycle_momentum=False)
    main: LRScheduler | None = None
    if optim.schedule == "cosine":
        main = CosineAnnealingLR(optimizer, num_steps - warmup)
    elif optim.schedule == "step":
        main = StepLR(optimizer, max(1, math.ceil((num_steps - warmup) / STEP_PARTS)), STEP_DECAY)
    if not warmup:
        return main
    ramp = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return ramp if main is None else SequentialLR(optimizer, [ramp, main], milestones=[warmup])


def loss_function(optim: Optim, num_classes: int) -> LossFunction:
    """Return the function from (logits_BK, labels_B) to the batch's mean loss or, with reduction="none", to the loss
    of each image (B,)."""
    if optim.loss == "bce":
        if num_classes != 2:
            raise UsageError(f"optim.loss=bce needs two classes, not {num_classes}; use optim.loss=cross_entropy")
        return binary_cross_entropy
    return mse_on_one_hot if optim.loss == "mse" else partial(F.cross_entropy, label_smoothing=optim.label_smoothing)


def binary_cross_entropy(logits_B2: torch.Tensor, labels_B: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Compute the loss on one logit, log p(1)/p(0), which is the difference of the two."""
    logit_B = logits_B2[:, 1] - logits_B2[:, 0]
    return F.binary_cross_entropy_with_logits(logit_B, labels_B.to(logit_B.dtype), reduction=reduction)


def mse_on_one_hot(logits_BK: torch.Tensor, labels_B: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    """Compute the squared error against 1 for the true class and 0 for the others, as the mean over the classes."""
    one_hot_BK = F.one_hot(labels_B, logits_BK.shape[1]).to(logits_BK.dtype)
    squared = F.mse_loss(logits_BK, one_hot_BK, reduction=reduction)
    return squared.mean(1) if reduction == "none" else squared
