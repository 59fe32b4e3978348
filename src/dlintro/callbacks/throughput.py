"""Watches a run: logs images per second and memory at each logging interval."""

import time
from typing import Any

import lightning as L
import psutil
import torch
from lightning.pytorch.callbacks import Callback

from dlintro.callbacks.interval import ends_interval, evaluates_after
from dlintro.memory import on_accelerator


class Throughput(Callback):
    """Logs train/images_per_second (of training steps, without validation), memory/ram_bytes, memory/device_bytes."""

    def __init__(self) -> None:
        self.num_images, self.seconds = 0, 0.0  # of training steps only, including those before a resume
        self._process = psutil.Process()
        self._since: float | None = None
        self._images = 0

    @property
    def images_per_second(self) -> float | None:
        return self.num_images / self.seconds if self.seconds else None

    def state_dict(self) -> dict[str, Any]:
        running = time.perf_counter() - self._since if self._since is not None else 0.0
        return {"images": self.num_images + self._images, "seconds": self.seconds + running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.num_images, self.seconds = state_dict["images"], state_dict["seconds"]

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._since is None:
            self._since, self._images = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._images += len(batch[1]) * trainer.world_size
        if not ends_interval(trainer, batch_idx):
            return
        on_device = on_accelerator(pl_module.device)
        if on_device:
            torch.accelerator.synchronize()
        now = time.perf_counter()
        seconds = now - (self._since or now)
        self.num_images, self.seconds = self.num_images + self._images, self.seconds + seconds
        row = {
            "train/images_per_second": self._images / max(seconds, 1e-9),
            "memory/ram_bytes": float(self._process.memory_info().rss),
        }
        if on_device:
            row["memory/device_bytes"] = float(torch.accelerator.memory_allocated())
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step)
        self._since, self._images = None if evaluates_after(trainer, batch_idx) else now, 0
