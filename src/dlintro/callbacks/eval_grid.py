"""Steers a run: evaluates within epochs at numbers of images that are the same for every batch size."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from dlintro.callbacks.interval import steps_after


class EvalGrid(Callback):
    """Evaluates after each epoch, after the Trainer's last step, and after the first step that reaches a multiple of
    `every_images` images seen (None: never).

    An epoch has 6,875 steps at batch size 8 and 14 at 4,096. Curves that are read only after each epoch can't be
    compared.
    """

    def __init__(self, every_images: int | None) -> None:
        self.every_images = every_images
        self._cell = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._cell = self._cell_at(self._images_seen(pl_module))

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        steps_now = steps_after(trainer, batch_idx)
        is_last_step = trainer.global_step + 1 == trainer.max_steps
        cell = self._cell_at(self._images_seen(pl_module) + len(batch[1]) * trainer.world_size)
        evaluates = steps_now and (cell > self._cell or is_last_step)
        if evaluates:
            self._cell = cell
        # After the batch, Lightning's loop evaluates if the batch's number is a multiple of this.
        trainer.val_check_batch = batch_idx + 1 if evaluates else trainer.num_training_batches

    def _cell_at(self, images: int) -> int:
        return images // self.every_images if self.every_images else 0

    @staticmethod
    def _images_seen(pl_module: L.LightningModule) -> int:
        images: int = pl_module.images_seen  # type: ignore[assignment]
        return images
