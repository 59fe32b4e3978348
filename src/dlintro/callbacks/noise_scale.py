"""Watches a run: measures the gradient noise scale from the gradients of two batch sizes at the same weights."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

SMALL = 64  # images; b of the formula
MOST_PARTS = 32  # small batches per reading; together they form the large one, B = 2,048
Batch = tuple[torch.Tensor, torch.Tensor]


def noise_and_gradient(gradients: Iterable[Sequence[torch.Tensor]], small: int) -> tuple[float, float]:
    """Return unbiased estimates of (trace of the covariance of one image's gradient, squared length of the true
    gradient) from the gradients of two or more batches of `small` images (McCandlish et al. 2018, appendix A.1)."""
    sums: list[torch.Tensor] = []
    small_squared, num = 0.0, 0
    for gradient in gradients:  # one at a time, so that a reading takes no more memory than a step
        small_squared += float(sum(part.square().sum() for part in gradient))
        sums = [total + part for total, part in zip(sums, gradient, strict=True)] if sums else list(gradient)
        num += 1
    large, small_squared = small * num, small_squared / num
    large_squared = float(sum((total / num).square().sum() for total in sums))
    trace = (small_squared - large_squared) / (1 / small - 1 / large)
    return trace, (large * large_squared - small * small_squared) / (large - small)


class NoiseScale(Callback):
    """Estimates the batch size up to which a larger batch mostly averages noise away: trace / squared gradient.

    Numerator and denominator are averaged separately over the readings. These are taken after each epoch and, because
    the scale grows while the loss falls, after the 1st, 2nd, 4th, 8th ... evaluation. The model is in evaluation mode
    and images aren't augmented. A reading therefore draws no random number, and the training stays the same.

    `draw(num, number)` returns `num` training images and their labels, different ones for each `number`.
    """

    def __init__(self, draw: Callable[[int, int], Batch], num_train: int, batch_size: int) -> None:
        self.draw, self.batch_size = draw, batch_size
        self.parts = min(MOST_PARTS, num_train // SMALL)
        self.trace, self.grad_squared = 0.0, 0.0  # sums over the readings
        self.num_evaluations, self._due = 0, False

    @property
    def noise_scale(self) -> float | None:
        """The estimate; None if the gradient is too small to be told from the noise."""
        return self.trace / self.grad_squared if self.grad_squared > 0 and self.trace > 0 else None

    def state_dict(self) -> dict[str, Any]:
        return {"trace": self.trace, "grad_squared": self.grad_squared, "num_evaluations": self.num_evaluations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.trace, self.grad_squared = state_dict["trace"], state_dict["grad_squared"]
        self.num_evaluations = state_dict["num_evaluations"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.num_evaluations += 1
        self._due = self.num_evaluations.bit_count() == 1  # a power of two

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._due:  # Lightning turns gradients off in on_validation_end
            self.read(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.read(trainer, pl_module)

    def gradient(
        self, pl_module: L.LightningModule, images_BCHW: torch.Tensor, labels_B: torch.Tensor
    ) -> list[torch.Tensor]:
        """Return the gradient of the mean loss of these images. It is computed in pieces of the training's batch size,
        so that it takes no more memory than the training."""
        parameters = [p for p in pl_module.parameters() if p.requires_grad]
        total: list[torch.Tensor] = []
        for images, labels in zip(images_BCHW.split(self.batch_size), labels_B.split(self.batch_size), strict=True):
            mean = pl_module.training_loss(pl_module(images), labels)  # type: ignore[operator]
            loss = mean * (len(labels) / len(labels_B))
            piece = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            total = [sum_ + part for sum_, part in zip(total, piece, strict=True)] if total else list(piece)
        return total

    def read(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._due = False
        if self.parts < 2:
            return
        batch = self.draw(SMALL * self.parts, trainer.global_step)
        images_BCHW, labels_B = (part.to(pl_module.device) for part in batch)
        with pl_module.evaluating(), torch.enable_grad():  # type: ignore[operator]  # Classifier's
            parts = zip(images_BCHW.split(SMALL), labels_B.split(SMALL), strict=True)
            trace, grad_squared = noise_and_gradient((self.gradient(pl_module, *part) for part in parts), SMALL)
        self.trace, self.grad_squared = self.trace + trace, self.grad_squared + grad_squared
        if self.noise_scale is not None:
            for logger in trainer.loggers:
                logger.log_metrics({"noise_scale": self.noise_scale}, step=trainer.global_step)
