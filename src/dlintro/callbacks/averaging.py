"""Steers a run: averages the weights exponentially (EMA). The averages are validated, saved and tested."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging


class WarmedUpEMA(WeightAveraging):
    """Lightning's averaging with a decay of min(decay, (1 + n) / (10 + n)) at update n. After the 430 steps of an epoch
    of MNIST, a constant 0.999 would still hold 65 % of the random initial weights."""

    def __init__(self, decay: float) -> None:
        def average(averaged: torch.Tensor, current: torch.Tensor, num_averaged: Any) -> torch.Tensor:
            if not averaged.is_floating_point():  # batch norm's count of batches
                return current
            count = torch.as_tensor(num_averaged, dtype=averaged.dtype, device=averaged.device)
            return averaged.lerp(current, 1 - ((1 + count) / (10 + count)).clamp(max=decay))

        super().__init__(avg_fn=average)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A run that is resumed after its last epoch skips the training, where Lightning would copy the average.
        self.on_train_end(trainer, pl_module)
