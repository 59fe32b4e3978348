"""Steers: writes the checkpoints `last` and `best` (on validation), and stops the run when it is asked to.

Checkpoints are written only where Lightning 2.6 resumes exactly: after an optimizer step that doesn't end its epoch, or
at an epoch's end, after its validation.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from dlintro.callbacks.interval import evaluates_after
from dlintro.errors import Interrupted, RunError, disk_trouble, one_line
from dlintro.text import tell

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
PATIENCE = 5.0  # seconds after a signal in which an epoch's evaluation may still end, so that the epoch is saved
LEAST_APART = 30.0  # seconds since the last checkpoint from which one is written before an evaluation


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames, so that a file with a checkpoint's name is always a whole checkpoint. The
    last one is kept as the previous one: disks fail, too."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        try:
            # Not Lightning's way, which goes through the memory and the system's temporary folder.
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # RuntimeError is what torch makes of an OSError
            partial.unlink(missing_ok=True)
            raise RunError(f"{target}: can't be written ({disk_trouble(error) or one_line(error)})") from error
        if target.name == LAST and target.is_file():
            target.replace(target.with_name(PREVIOUS))
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Checkpoints(Checkpoint):
    """`last.ckpt` at every epoch's end, every so many steps or minutes, and on a signal; `best.ckpt` at the epoch of
    the highest val/acc (the first of equals)."""

    def __init__(
        self,
        folder: Path,
        notes: Callable[[], dict[str, Any]],
        every_steps: int | None = None,
        every_minutes: float | None = None,
    ) -> None:
        self.notes = notes  # what else a resume asks for
        self.last, self.best = folder / LAST, folder / BEST
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.best_epoch: int | None = None
        self.best_acc: float | None = None
        self.signum: int | None = None
        self.signalled_at = 0.0
        self.due = False
        self.saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch, "best_acc": self.best_acc}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.best.is_file():
            self.best_epoch, self.best_acc = state_dict["best_epoch"], state_dict["best_acc"]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint |= self.notes()

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
        self.signum, self.signalled_at = signum, time.monotonic()
        tell("\nstopping at the next checkpoint; again to stop at once")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # Lightning would end a run at max_steps without validating its weights
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self.due |= self.every_steps is not None and stepped and trainer.global_step % self.every_steps == 0
        # A resume wouldn't make up for an evaluation that was still to come: what is due then waits for the next step.
        if not stepped or trainer.should_stop or evaluates_after(trainer, batch_idx):
            self._leave_if_asked_long_ago()
            return
        seconds = time.monotonic() - self.saved_at
        self.due |= self.signum is not None
        self.due |= self.every_minutes is not None and seconds >= 60 * self.every_minutes
        # The epoch's evaluation can be longer than anybody waits for it to end: then this one is gone on from.
        is_last_but_one = batch_idx + 1 + trainer.accumulate_grad_batches >= trainer.num_training_batches
        self.due |= seconds >= LEAST_APART and is_last_but_one
        if self.due:
            self._save(trainer, self.last)
        if self.signum is not None:
            raise Interrupted(self.signum)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Nothing can be saved here: no resume could make up for half an evaluation."""
        self._leave_if_asked_long_ago()

    def _leave_if_asked_long_ago(self) -> None:
        """Where nothing can be saved, but something was: the run goes on from there."""
        if self.signum is not None and time.monotonic() - self.signalled_at > PATIENCE and self.last.is_file():
            raise Interrupted(self.signum)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        acc: float = pl_module.values["val/acc"]  # type: ignore[index, assignment]  # Classifier's; Lightning's is float32
        if self.best_acc is None or acc > self.best_acc:
            self.best_epoch, self.best_acc = trainer.current_epoch, acc
            self._save(trainer, self.best)
        self._save(trainer, self.last)
        if self.signum is not None:
            raise Interrupted(self.signum)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.signum is not None:  # since the last epoch's end: the test is left to a resume
            raise Interrupted(self.signum)

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # first the curves: a checkpoint never knows more than they do
        trainer.save_checkpoint(path)
        self.saved_at, self.due = time.monotonic(), False
