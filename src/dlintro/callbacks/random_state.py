"""Steers a run: restores the random state of a checkpoint, so that a resumed run draws the same numbers."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback


class RandomState(Callback):
    """Saves and restores the random state of PyTorch, Python and NumPy. Dropout needs PyTorch's, and a network of the
    user's own may draw from the others. The order of the images and the augmentation need none of them."""

    def __init__(self) -> None:
        self.to_restore: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        numpys: Any = np.random.get_state(legacy=False)  # noqa: NPY002  # np.random.rand() and the like draw from it
        numpys["state"]["key"] = torch.from_numpy(numpys["state"]["key"])
        checkpoint["random_state"] = {"cpu": torch.get_rng_state(), "python": random.getstate(), "numpy": numpys}
        if pl_module.device.type != torch.get_rng_state().device.type:
            module = torch.get_device_module(pl_module.device)
            checkpoint["random_state"]["device"] = module.get_rng_state().cpu()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.to_restore = checkpoint.get("random_state")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.to_restore is None:
            return
        torch.set_rng_state(self.to_restore["cpu"])
        random.setstate(self.to_restore["python"])
        numpys = self.to_restore["numpy"]
        numpys["state"]["key"] = numpys["state"]["key"].numpy()
        np.random.set_state(numpys)  # noqa: NPY002
        if "device" in self.to_restore:
            torch.get_device_module(pl_module.device).set_rng_state(self.to_restore["device"])
        self.to_restore = None
