"""Watches: a bar, a line per epoch, and after 20 steps how long the whole run will take."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from dlintro.text import duration

ESTIMATE_STEPS = 20
LONG_MINUTES = 10


class Bar(TQDMProgressBar):
    """Lightning's, for the training steps alone and only in a terminal: a log file gets the lines of `Lines`."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)
        if not sys.stderr.isatty():
            self.disable()

    def init_validation_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def init_test_tqdm(self) -> Tqdm:
        return Tqdm(disable=True)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return {}


class Lines(Callback):
    """What a person wants to read while it trains."""

    def __init__(self, cheaper: str) -> None:
        self.cheaper = cheaper  # overrides that make the run shorter
        self._start = 0.0
        self._steps = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._steps = 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        if self._steps == 2:  # the first steps are slower: memory is taken, kernels are chosen
            self._start = time.monotonic()
        if self._steps == ESTIMATE_STEPS + 2:
            seconds = (time.monotonic() - self._start) / ESTIMATE_STEPS
            batches = (trainer.max_epochs or 1) * trainer.num_training_batches
            if trainer.max_steps > 0:
                batches = min(batches, trainer.max_steps * trainer.accumulate_grad_batches)
            self._say_estimate(seconds * (batches - trainer.fit_loop.epoch_loop.total_batch_idx - 1))

    def _say_estimate(self, seconds: float) -> None:
        print(f"about {duration(seconds)} of training to go", flush=True)
        if seconds > LONG_MINUTES * 60:
            print(f"a cheaper run: {self.cheaper}   (Ctrl-C stops this one)", flush=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = trainer.callback_metrics
        if not trainer.sanity_checking and "val/acc" in metrics:
            epochs = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            print(f"{epochs}  val/acc {metrics['val/acc']:.2%}  val/loss {metrics['val/loss']:.4f}", flush=True)
