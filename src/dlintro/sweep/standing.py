"""Tells a job's status from its folder alone, so that several runners agree, now and later."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dlintro.errors import RunError, UsageError
from dlintro.run.record import Record, read_record

FINAL = ("ok", "diverged", "unavailable")  # these are results
FAILURES = ("failed", "oom")  # also final, unless sweep.retry=failed


@dataclass(frozen=True)
class Retry:
    """Decides whether a failed job runs again. `attempts` is the number of its attempts when this start of the sweep
    first looked, if it had failed and sweep.retry=failed was typed, else None. One more attempt, by any runner, is the
    retry; clocks don't count."""

    attempts: int | None

    def leaves(self, folder: Path, status: str) -> bool:
        """Return whether the job in `folder` stays as it is."""
        if status not in FAILURES:
            return status in FINAL
        return self.attempts is None or attempts(folder) != self.attempts


def attempts(folder: Path) -> int:
    """Return how often the job has been started or resumed."""
    return int(stored(folder).get("attempts") or 0)


def standing(folder: Path, ours: bool = False) -> str:
    """Return the status in the job's record, or `queued` without a record. If another process holds the folder's lock,
    the job is `running`. If none does (or `ours`: this process does), a running record means `interrupted`."""
    status = str(stored(folder).get("status", "queued"))
    if status in ("running", "interrupted", *FAILURES) and not ours and is_locked(folder):
        return "running"  # a resumed run has its old record until it trains
    return "interrupted" if status == "running" else status


def stored(folder: Path) -> dict[str, Any]:
    """Return the job's record, or {} if it is missing or damaged; the job then runs again."""
    try:
        return read_record(folder)
    except (UsageError, RunError):
        return {}


def is_locked(folder: Path) -> bool:
    """Return whether a living process runs the job. The lock ends with the process, however that dies."""
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
    """Write the end of a job that couldn't write it itself. `attempt` is the number of its attempt. Returns False if
    another process has the job by now."""
    record = Record(folder)
    if not record.claim():
        return False
    old = stored(folder)
    record.update(**{key: value for key, value in old.items() if key in record.fields})
    record.update(attempts=attempt)
    record.finish(status, error)
    return True
