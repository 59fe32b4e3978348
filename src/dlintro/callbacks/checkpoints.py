"""Steers a run: writes the checkpoints `last` and `best` (on validation), and stops on Ctrl-C or SIGTERM.

Checkpoints are written only at points from which Lightning 2.6 resumes exactly. These are the end of an optimizer step
within an epoch, and the end of an epoch, after its validation.
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
from dlintro.target import falls
from dlintro.text import tell

LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.ckpt"
BEST_BY = ("val/acc", "val/loss", "val/balanced_acc")
PATIENCE = 5.0  # seconds for which a stopping run waits for an epoch's evaluation, so that the epoch is saved
LEAST_APART = 30.0  # before an evaluation a checkpoint is written if the last one is this many seconds old


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to another file and renames it, so that a file with a checkpoint's name is always whole. The
    last checkpoint before it is kept as `previous.ckpt`, in case the disk damages the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        try:
            # Lightning would copy the checkpoint through memory and the system's temporary folder.
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch may turn an OSError into a RuntimeError
            partial.unlink(missing_ok=True)
            raise RunError(f"{target}: can't be written ({disk_trouble(error) or one_line(error)})") from error
        if target.name == LAST and target.is_file():
            target.replace(target.with_name(PREVIOUS))
        partial.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Checkpoints(Checkpoint):
    """Writes `last.ckpt` at the end of every epoch, after a number of steps or minutes, and on a signal. Writes
    `best.ckpt` at the epoch with the best `chosen_by`, one of BEST_BY, or the first of several. `best_values` has that
    epoch's metrics."""

    def __init__(
        self,
        folder: Path,
        notes: Callable[[], dict[str, Any]],
        every_steps: int | None = None,
        every_minutes: float | None = None,
        chosen_by: str = "val/acc",
    ) -> None:
        self.notes = notes  # returns what else a resume needs
        self.last, self.best = folder / LAST, folder / BEST
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.chosen_by = chosen_by
        self.best_epoch: int | None = None
        self.best_values: dict[str, float | None] = dict.fromkeys(BEST_BY)
        self.signum: int | None = None
        self.signalled_at = 0.0
        self.due = False
        self.saved_at = time.monotonic()
        self._handlers: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best_epoch": self.best_epoch} | {state_name(name): value for name, value in self.best_values.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.best.is_file():
            self.best_epoch = state_dict["best_epoch"]
            # An earlier version's checkpoint has the accuracy alone.
            self.best_values = {name: state_dict.get(state_name(name)) for name in BEST_BY}

    def forget_best(self) -> None:
        self.best_epoch, self.best_values = None, dict.fromkeys(BEST_BY)

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
        tell("\nstopping at the next checkpoint; press Ctrl-C again to stop at once")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # Lightning would end a run at max_steps without validating its weights
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        self.due |= self.every_steps is not None and stepped and trainer.global_step % self.every_steps == 0
        # A resume would skip an evaluation that is still to come, so a checkpoint that is due waits for the next step.
        if not stepped or trainer.should_stop or evaluates_after(trainer, batch_idx):
            self._leave_if_asked_long_ago()
            return
        seconds = time.monotonic() - self.saved_at
        self.due |= self.signum is not None
        self.due |= self.every_minutes is not None and seconds >= 60 * self.every_minutes
        # The epoch's evaluation may take longer than a stopping run waits. It then resumes from this checkpoint.
        is_last_but_one = batch_idx + 1 + trainer.accumulate_grad_batches >= trainer.num_training_batches
        self.due |= seconds >= LEAST_APART and is_last_but_one
        if self.due:
            self._save(trainer, self.last)
        if self.signum is not None:
            raise Interrupted(self.signum)

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        """Nothing can be saved here, as no resume can continue an evaluation."""
        self._leave_if_asked_long_ago()

    def _leave_if_asked_long_ago(self) -> None:
        """Stop where nothing can be saved, if there is an earlier checkpoint to resume from."""
        if self.signum is not None and time.monotonic() - self.signalled_at > PATIENCE and self.last.is_file():
            raise Interrupted(self.signum)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        values: dict[str, float] = pl_module.values  # type: ignore[assignment]  # the Classifier's; Lightning's are float32
        before, now = self.best_values[self.chosen_by], values[self.chosen_by]
        if before is None or (now < before if falls(self.chosen_by) else now > before):
            self.best_epoch, self.best_values = trainer.current_epoch, {name: values[name] for name in BEST_BY}
            self._save(trainer, self.best)
        self._save(trainer, self.last)
        if self.signum is not None:
            raise Interrupted(self.signum)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.signum is not None:  # it came after the last epoch; a resume will do the test
            raise Interrupted(self.signum)

    def _save(self, trainer: L.Trainer, path: Path) -> None:
        for logger in trainer.loggers:
            logger.save()  # the curves come first: a checkpoint never knows more than they do
        trainer.save_checkpoint(path)
        self.saved_at, self.due = time.monotonic(), False


def state_name(metric: str) -> str:
    return metric.replace("val/", "best_")
