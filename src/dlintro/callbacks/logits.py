"""Watches: keeps the test images' logits and labels, for the pictures and tables after the test."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


class KeepLogits(Callback):
    """Of the last test, in the data set's order: (N, K) and (N,), on the CPU."""

    def __init__(self) -> None:
        self._logits: list[torch.Tensor] = []
        self._labels: list[torch.Tensor] = []

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._logits, self._labels = [], []

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._logits.append(outputs.detach().float().cpu())
        self._labels.append(batch[1].cpu())

    @property
    def logits_NK(self) -> torch.Tensor:
        return torch.cat(self._logits)

    @property
    def labels_N(self) -> torch.Tensor:
        return torch.cat(self._labels)
