"""How far a job has come, from its folder alone: the one place that two runners, and a later one, agree by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dlintro.errors import RunError, UsageError
from dlintro.run.record import Record, read_record

FINAL = ("ok", "diverged", "unavailable")  # results
FAILURES = ("failed", "oom")  # final too, unless sweep.retry=failed


@dataclass(frozen=True)
class Retry:
    """Whether a failed job is done again. `attempts`: how many it had when this sitting of the sweep first looked, if
    it had failed by then and sweep.retry=failed was typed; else None. No clock is asked: one attempt more, by whichever
    runner, is the retry."""

    attempts: int | None

    def leaves(self, folder: Path, status: str) -> bool:
        """Whether the job in `folder` is left as it is."""
        if status not in FAILURES:
            return status in FINAL
        return self.attempts is None or attempts(folder) != self.attempts


def attempts(folder: Path) -> int:
    """How often the job has been begun or gone on with."""
    return int(stored(folder).get("attempts") or 0)


def standing(folder: Path, ours: bool = False) -> str:
    """The status in the job's record; `queued` where there is none, `interrupted` where it says running but no other
    process holds the folder's lock (`ours`: this one does), `running` where one does."""
    status = str(stored(folder).get("status", "queued"))
    if status in ("running", "interrupted", *FAILURES) and not ours and is_locked(folder):
        return "running"  # a run that is gone on with has its old record until it trains
    return "interrupted" if status == "running" else status


def stored(folder: Path) -> dict[str, Any]:
    """The job's record; a damaged one is none, and the job is done again."""
    try:
        return read_record(folder)
    except (UsageError, RunError):
        return {}


def is_locked(folder: Path) -> bool:
    """Whether a living process runs the job; the lock goes with it, however it dies."""
    if not (folder / ".lock").exists():
        return False
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def end_record(folder: Path, status: str, error: str, attempt: int) -> bool:
    """Writes the end of a job that couldn't write it itself. False where another process has it by now.
    `attempt`: which one this was."""
    record = Record(folder)
    if not record.claim():
        return False
    old = stored(folder)
    record.update(**{key: value for key, value in old.items() if key in record.fields})
    record.update(attempts=attempt)
    record.finish(status, error)
    return True
