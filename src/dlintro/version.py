"""dlintro's version, and the changes of each version in the meaning of a run's numbers."""

import re

VERSION = "0.2.0"
CHANGES = {  # oldest first
    "0.2.0": (
        "val/loss, test/loss and train_eval/loss are the plain cross entropy (they were the training's own loss, with "
        "label smoothing or squared error), and an accumulated step weights its images equally (it weighted batches)"
    )
}


def changes_between(first: str | None, last: str | None = VERSION) -> str | None:
    """Say in one line how the numbers of two versions differ in meaning; None if they don't, or if a run doesn't say
    its version."""
    if first is None or last is None:
        return None
    changes = [f"since {v} {what}" for v, what in CHANGES.items() if ordered(first) < ordered(v) <= ordered(last)]
    return f"dlintro {first} then, {last} now: {'; '.join(changes)}" if changes else None


def ordered(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d{1,9}", version)))
