"""Decides when curves are read and evaluation happens. The classifier and the callbacks share these rules."""

import lightning as L


def evaluates_after(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return whether the Trainer evaluates after this batch: at an epoch's end, or where `EvalGrid` says so."""
    interval = trainer.val_check_batch  # in batches; infinite if the epoch's length isn't known
    return trainer.is_last_batch or (interval is not None and (batch_idx + 1) % interval == 0)


def steps_after(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return whether the optimizer steps after this batch. An epoch's last step may accumulate fewer batches."""
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch


def ends_interval(trainer: L.Trainer, batch_idx: int) -> bool:
    """Return whether the training curves are read after this batch. With accumulation, a reading waits for the
    optimizer's step, so that its images, learning rate and step number belong together. An evaluation always ends an
    interval. A short epoch then has a point too, and training times include no evaluation."""
    num_batches: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set, but not declared (Lightning 2.6)
    whole, done = trainer.accumulate_grad_batches, batch_idx + 1
    passed = done % whole == 0 and done // num_batches > (done - whole) // num_batches
    return passed or evaluates_after(trainer, batch_idx)
