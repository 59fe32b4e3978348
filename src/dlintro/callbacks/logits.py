"""Watches a run: keeps the logits and labels of the test images for the pictures and tables after the test."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


class KeepLogits(Callback):
    """Keeps logits (N, K) and labels (N,) of the last test, in the data set's order, on the CPU."""

    def __init__(self) -> None:
        self._seen = 0

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._seen = 0

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._seen == 0:
            # One tensor for all images: small ones that stay would take the memory of a batch's activations apart.
            num_images = len(trainer.test_dataloaders.dataset)  # type: ignore[union-attr]
            self._logits_NK = torch.empty(num_images, outputs.shape[1])
            self._labels_N = torch.empty(num_images, dtype=batch[1].dtype)
        rows = slice(self._seen, self._seen + len(batch[1]))
        self._logits_NK[rows] = outputs.detach()
        self._labels_N[rows] = batch[1]
        self._seen += len(batch[1])

    @property
    def logits_NK(self) -> torch.Tensor:
        return self._logits_NK[: self._seen]

    @property
    def labels_N(self) -> torch.Tensor:
        return self._labels_N[: self._seen]
