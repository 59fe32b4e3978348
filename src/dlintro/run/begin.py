"""Steers: a resumed run changes nothing in its folder until Lightning has restored everything.

Lightning trusts a checkpoint. It would silently skip a missing part, or fail in the first step because of a part of the
wrong kind. This file therefore compares everything that can be compared before the training starts.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from dlintro.callbacks.averaging import WarmedUpEMA
from dlintro.callbacks.checkpoints import Checkpoints
from dlintro.callbacks.throughput import Throughput
from dlintro.data import ImageDataModule
from dlintro.errors import Unresumable, UsageError, one_line
from dlintro.models.length import accumulation, steps_in
from dlintro.models.tally import Tally
from dlintro.run.record import FIELDS

# Exceptions that reading an altered checkpoint may raise.
ODD = (KeyError, TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError)
AVERAGED = ("current_model_state", "averaging_state")  # Lightning's WeightAveraging needs both


class Begin(Callback):
    """Calls `touch` once, when the training starts. `checkpoint` is restored before that, if there is one. Raises
    Unresumable before `touch` if the checkpoint isn't this run's, and UsageError if it lies beyond the run's end."""

    def __init__(self, touch: Callable[[], None], checkpoint: Path | None) -> None:
        self.touch, self.checkpoint = touch, checkpoint
        self.done = False
        self._numbers: dict[str, int] = {}

    def __call__(self, trainer: L.Trainer) -> None:
        if self.done:
            return
        if self.checkpoint is not None:
            with self._whole():
                check_optimizers(trainer, self._numbers)
        self.done = True
        self.touch()

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        try:
            yield
        except UsageError:
            raise
        except ODD as error:
            raise Unresumable(
                f"{self.checkpoint}: damaged, so no run can resume from it ({one_line(error)})"
            ) from error

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        with self._whole():
            self._check(trainer, checkpoint)

    def _check(self, trainer: L.Trainer, checkpoint: Mapping[str, Any]) -> None:
        compare("loops", trainer.fit_loop.state_dict(), checkpoint["loops"]["fit_loop"])
        check_counts(trainer, checkpoint)
        states = checkpoint["callbacks"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # not declared (Lightning 2.6)
            own = callback.state_dict()
            ours = type(callback).__module__.startswith("dlintro.")
            compare(callback.state_key, own, states.get(callback.state_key, {}), none_is_any=not ours)
            if isinstance(callback, (Checkpoints, Throughput)) and not states.get(callback.state_key):
                raise ValueError(f"callbacks: no {callback.state_key}")
            if isinstance(callback, WarmedUpEMA) and (gone := [part for part in AVERAGED if part not in checkpoint]):
                raise ValueError(f"no {gone[0]}")
        ours = checkpoint["dlintro"]
        compare("dlintro.tally", {"interval": Tally().interval, "epoch": Tally().epoch}, ours["tally"])
        compare("dlintro.values", dict.fromkeys(ours["values"], 0.0), ours["values"])
        if unknown := ours["values"].keys() - set(FIELDS):
            raise ValueError(f"dlintro.values: {sorted(unknown)[0]}")
        self._numbers = {name: len(checkpoint[name]) for name in ("optimizer_states", "lr_schedulers")}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep a run that stopped early and was killed before its end from training on."""
        stopped = trainer.early_stopping_callback
        trainer.should_stop |= bool(self.checkpoint and stopped and stopped.stopped_epoch)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self(trainer)


def check_optimizers(trainer: L.Trainer, numbers: Mapping[str, int]) -> None:
    """Raise ValueError if a restored optimizer or schedule doesn't fit this network after this number of steps.
    `numbers` tells how many of each the checkpoint has."""
    schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
    for name, own in (("optimizer_states", trainer.optimizers), ("lr_schedulers", schedules)):
        if numbers[name] != len(own):
            raise ValueError(f"{name}: {numbers[name]} instead of {len(own)}")
    for optimizer in trainer.optimizers:
        if trainer.global_step and not optimizer.state and not isinstance(optimizer, torch.optim.SGD):
            raise ValueError("optimizer_states: no state of the steps that were taken")
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                shape = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
                if shape not in ((), tuple(parameter.shape)):
                    raise ValueError(f"optimizer_states: {name} has the shape {shape}")
                if value is not None and not torch.as_tensor(value).isfinite().all():
                    raise ValueError(f"optimizer_states: {name} is not finite")
        for group in optimizer.param_groups:
            plain = {key: float(value) for key, value in optimizer.defaults.items() if type(value) in (int, float)}
            compare("optimizer_states", plain, group)
            if not all(type(beta) is float for beta in group.get("betas", ())):
                raise ValueError(f"optimizer_states.betas is {group['betas']}")
    for schedule in schedules:
        if schedule.last_epoch != trainer.global_step:
            raise ValueError(f"lr_schedulers: {schedule.last_epoch} steps instead of {trainer.global_step}")


def compare(place: str, own: Any, found: Any, none_is_any: bool = False) -> None:
    """Raise ValueError if a checkpoint's value isn't of the same kind as the run's own: if its type is another one or a
    number isn't finite. It may lack what a later version added. Where the run has None before the training, it may have
    a number or, with `none_is_any` (for callbacks of other packages), anything."""
    if isinstance(own, Mapping):
        if not isinstance(found, Mapping):
            raise ValueError(f"{place} is not a mapping")
        for key, value in found.items():
            if key in own:
                compare(f"{place}.{key}", own[key], value, none_is_any)
        return
    if isinstance(own, list):
        if not isinstance(found, list) or len(found) != len(own):
            raise ValueError(f"{place} is not a list of {len(own)}")
        for ours, theirs in zip(own, found, strict=True):
            compare(place, ours, theirs, none_is_any)
        return
    if isinstance(own, torch.Tensor):
        whole = isinstance(found, torch.Tensor) and found.shape == own.shape
    elif own is None or type(own) in (int, float):
        kinds = (int,) if type(own) is int and place.startswith("loops") else (int, float)  # a Timer starts with 0
        whole = (own is None and (found is None or none_is_any)) or (type(found) in kinds and math.isfinite(found))
    else:
        whole = isinstance(found, type(own))
    if not whole:
        raise ValueError(f"{place} is {str(found)[:60]}")


def check_counts(trainer: L.Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Raise ValueError if a checkpoint's steps, loop counters and images seen disagree with each other or with the
    data. Raise UsageError if the checkpoint lies beyond the last epoch of a training that was made shorter."""
    for name, (found, right) in expectations(trainer, checkpoint).items():
        if found != right:
            raise ValueError(f"its counts disagree: {name} is {found} instead of {right}")
    done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    if trainer.max_epochs not in (None, -1) and done > trainer.max_epochs:
        raise UsageError(
            f"trainer.max_epochs={trainer.max_epochs}: the run has trained for {done} epochs already; use {done} or "
            f"more"
        )


def expectations(trainer: L.Trainer, checkpoint: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return what the checkpoint says and what it should say, by name."""
    data: ImageDataModule = trainer.datamodule  # type: ignore[attr-defined]  # not declared (Lightning 2.6)
    loops = checkpoint["loops"]["fit_loop"]
    steps = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    batches, epochs, place = loops["epoch_loop.batch_progress"], loops["epoch_progress"], loops["state_dict"]
    [loader] = place["combined_loader"]
    counts = [*counters(loops), checkpoint["epoch"], checkpoint["global_step"], *loader.values()]
    if not all(type(count) is int and 0 <= count < 2**53 for count in counts):
        raise ValueError("a counter is not a count")
    per_epoch, images = data.num_train_batches(), data.num_train
    if data.drop_last:
        images = per_epoch * data.batch_size
    whole, rest = divmod(batches["total"]["processed"], per_epoch)
    ended = epochs["current"]["processed"] - whole  # an epoch has fewer batches if a limit ends it
    return {
        "steps": (
            checkpoint["global_step"], steps_in(trainer, whole, per_epoch) + rest // accumulation(trainer, whole),
        ),
        "steps of the loop": (steps["total"]["completed"], checkpoint["global_step"]),
        "images seen": (
            checkpoint["dlintro"]["images_seen"], whole * images + min(rest * data.batch_size, images),
        ),
        "batches of the data": (loader["epoch"] * per_epoch + loader["batches"], batches["total"]["processed"]),
        "batches of the epoch": (batches["current"]["processed"] % per_epoch, rest),
        "epochs": (0 <= ended <= bool(rest), True),
        "epoch": (checkpoint["epoch"], epochs["current"]["processed"] - (ended or not rest)),
    }  # fmt: skip


def counters(progress: Mapping[str, Any]) -> list[Any]:
    """Return all counts of Lightning's progress. Raise ValueError if those of one thing are more than one apart."""
    found: list[Any] = []
    for name, value in progress.items():
        if isinstance(value, Mapping) and name in ("total", "current"):
            if max(value.values()) - min(value.values()) > 1:
                raise ValueError(name)
            found += value.values()
        elif isinstance(value, Mapping) and name != "state_dict":
            found += counters(value)
    return found
