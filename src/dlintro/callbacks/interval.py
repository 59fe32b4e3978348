"""When the training curves are read: one rule for the classifier and for the callbacks."""

import lightning as L


def ends_interval(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether the training curves are read after this batch. An epoch's end always ends an interval, so that a short
    epoch has its point too."""
    num_batches: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set, but not declared (Lightning 2.6)
    return (batch_idx + 1) % num_batches == 0 or trainer.is_last_batch
