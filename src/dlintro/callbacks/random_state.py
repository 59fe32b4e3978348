"""Steers: puts the random state of a checkpoint back, so that a resumed run draws what it would have."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback


class RandomState(Callback):
    """The order of the images and the augmentation need none of this; dropout does."""

    def __init__(self) -> None:
        self.to_restore: dict[str, torch.Tensor] | None = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["random_state"] = {"cpu": torch.get_rng_state()}
        if pl_module.device.type != torch.get_rng_state().device.type:
            module = torch.get_device_module(pl_module.device)
            checkpoint["random_state"]["device"] = module.get_rng_state().cpu()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.to_restore = checkpoint.get("random_state")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.to_restore is None:
            return
        torch.set_rng_state(self.to_restore["cpu"])
        if "device" in self.to_restore:
            torch.get_device_module(pl_module.device).set_rng_state(self.to_restore["device"])
        self.to_restore = None
