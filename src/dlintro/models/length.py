"""Counts the optimizer steps of a training.

The Trainer could tell, but Lightning 2.6 would make the loader for it, and then wouldn't restore a resumed training's
place in that loader.
"""

import math
from itertools import pairwise
from typing import Any

import lightning as L
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch.callbacks import GradientAccumulationScheduler


def num_steps(trainer: L.Trainer) -> int | None:
    """Return the optimizer steps of all epochs; None if neither max_epochs nor max_steps ends the training."""
    most = trainer.max_steps if trainer.max_steps > 0 else None
    batches = num_batches(trainer)
    if trainer.max_epochs in (None, -1) or batches is None:
        return most
    steps = steps_in(trainer, trainer.max_epochs, batches)
    return steps if most is None else min(steps, most)


def steps_in(trainer: L.Trainer, epochs: int, batches: int) -> int:
    """Return the optimizer steps in the first `epochs` of `batches` each. A billion epochs take no longer than one."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # not declared (Lightning 2.6)
    changes = {epoch for c in callbacks if isinstance(c, GradientAccumulationScheduler) for epoch in c.scheduling}
    parts = pairwise([*sorted({0} | {epoch for epoch in changes if epoch < epochs}), epochs])
    return sum((end - start) * math.ceil(batches / accumulation(trainer, start)) for start, end in parts)


def num_batches(trainer: L.Trainer) -> int | None:
    """Return the batches of each process in an epoch; None if the loader doesn't know its length."""
    data = training_data(trainer)
    if hasattr(data, "num_train_batches"):
        batches: int | None = data.num_train_batches(trainer.world_size)
    else:
        batches = sized_len(trainer.fit_loop._data_source.dataloader())
        batches = batches and math.ceil(batches / trainer.world_size)  # Lightning divides a loader in this way
    limit = trainer.limit_train_batches  # includes overfit_batches
    if isinstance(limit, int):
        return limit if batches is None else min(batches, limit)
    return batches and int(batches * limit)


def training_data(trainer: L.Trainer) -> Any:
    """Return the data module or loader that fit() was given. `trainer.datamodule` may be that of an earlier fit()."""
    return trainer.fit_loop._data_source.instance


def accumulation(trainer: L.Trainer, epoch: int) -> int:
    """Return the batches in an optimizer step of this epoch."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # not declared (Lightning 2.6)
        if isinstance(callback, GradientAccumulationScheduler):
            return callback.get_accumulate_grad_batches(epoch)
    return trainer.accumulate_grad_batches
