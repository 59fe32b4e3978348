"""Steers: writes the checkpoints `last` and `best` (on validation), and stops the run when it is asked to.

Checkpoints are written only where Lightning 2.6 resumes exactly: after an optimizer step that doesn't end its epoch, or
at an epoch's end, after its validation.
"""

import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from dlintro.callbacks.interval import evaluates_after
from dlintro.errors import Interrupted


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a file with a checkpoint's name is always a whole checkpoint."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        super().save_checkpoint(checkpoint, partial, storage_options)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Checkpoints(Checkpoint):
    """`last.ckpt` at every epoch's end, every so many steps or minutes, and on a signal; `best.ckpt` at the epoch of
    the highest val/acc (the first of equals)."""

    def __init__(self, folder: Path, every_steps: int | None = None, every_minutes: float | None = None) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.ckpt"
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.best_epoch: int | None = None
        self.best_acc: float | None = None
        self.signum: int | None = None
        self.due = False
        self.saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch, "best_acc": self.best_acc}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_epoch, self.best_acc = state_dict["best_epoch"], state_dict["best_acc"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._handlers[signum] = signal.signal(signum, self._ask_to_stop)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers = {}

    def _ask_to_stop(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            raise KeyboardInterrupt
        self.signum = signum
        print("\nstopping at the next checkpoint; again to stop at once", flush=True)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # Lightning would end a run at max_steps without validating its weights
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self.due |= self.every_steps is not None and stepped and trainer.global_step % self.every_steps == 0
        # A resume wouldn't make up for an evaluation that was still to come: what is due then waits for the next step.
        if not stepped or trainer.should_stop or evaluates_after(trainer, batch_idx):
            return
        minutes = (time.monotonic() - self.saved_at) / 60
        if self.due or self.signum is not None or (self.every_minutes is not None and minutes >= self.every_minutes):
            self._save(trainer, self.last)
        if self.signum is not None:
            raise Interrupted(self.signum)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        acc = float(trainer.callback_metrics["val/acc"])
        if self.best_acc is None or acc > self.best_acc:
            self.best_epoch, self.best_acc = trainer.current_epoch, acc
            self._save(trainer, self.best)
        self._save(trainer, self.last)
        if self.signum is not None:
            raise Interrupted(self.signum)

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # first the curves: a checkpoint never knows more than they do
        trainer.save_checkpoint(path)
        self.saved_at, self.due = time.monotonic(), False
