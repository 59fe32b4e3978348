"""What a sweep shows while it runs: a live table in a terminal, a line a job elsewhere."""

import csv
import statistics
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dlintro.errors import RunError
from dlintro.reader import MOST_CURVE_BYTES, opened
from dlintro.sweep.plan import Job
from dlintro.sweep.standing import FAILURES, stored
from dlintro.sweep.state import State
from dlintro.text import duration, printable

LAST_ENDED = 6  # rows
TAIL_BYTES = 4096
STYLES = {
    "ok": "green",
    "failed": "red",
    "oom": "red",
    "diverged": "yellow",
    "unavailable": "yellow",
    "running": "cyan",
}


class Display:
    def __init__(self, state: State) -> None:
        self.state = state
        self.console = Console(highlight=False)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._seconds: dict[str, list[float]] = {}  # of the jobs that ended here, by setting
        self._ended: deque[str] = deque(maxlen=LAST_ENDED)
        self._num_ended = sum(1 for job in state.jobs if job not in state.waiting)
        self._said_elsewhere = False

    def __enter__(self) -> Self:
        num_done, num = self._num_ended, len(self.state.jobs)
        before = f", {num_done} of them done before" if num_done else ""
        jobs = "1 job" if num == 1 else f"{num} jobs"
        self.console.print(f"{jobs}{before}; each job's output is in its train.log", markup=False)
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()

    def update(self) -> None:
        if self.live is not None:
            self.live.update(self._table(), refresh=True)
        elif self.state.elsewhere and not (self.state.running or self.state.waiting or self._said_elsewhere):
            self._said_elsewhere = True
            self.console.print(
                f"waiting for what another process runs: {', '.join(j.name for j in self.state.elsewhere)}"
            )

    def ended(self, job: Job, seconds: float | None) -> None:
        """A job has ended, after so many seconds of this process's (None: it ran elsewhere)."""
        self._num_ended += 1
        self._ended.append(job.name)
        if seconds is not None:
            self._seconds.setdefault(setting(job), []).append(seconds)
        if self.live is None:
            status = self.state.statuses[job.name]
            words = [f"[{self._num_ended}/{len(self.state.jobs)}]", status, job.name, self._result(job.name)]
            words += [f"{seconds:.1f} s" if seconds is not None else "(elsewhere)", self._left()]
            print("  ".join(word for word in words if word), flush=True)

    def _result(self, name: str) -> str:
        record = stored(self.state.folder / name)
        if record.get("error") and record["status"] != "interrupted":
            return printable(record["error"])
        acc = record.get("best/test/acc")
        return f"test {acc:.2%}" if isinstance(acc, float) else ""

    def _left(self) -> str:
        """The time left, by the jobs of the same setting that have ended, or by all."""
        if not self._seconds or self.state.stopped_by is not None:
            return ""
        over_all = statistics.mean(second for seconds in self._seconds.values() for second in seconds)
        seconds = sum(statistics.mean(self._seconds.get(setting(job), [over_all])) for job in self.state.waiting)
        for running in self.state.running:
            whole = statistics.mean(self._seconds.get(setting(running.job), [over_all]))
            seconds += max(0.0, whole - (time.monotonic() - running.since))
        return f"about {duration(seconds / self.state.n_jobs)} to go" if seconds else ""

    def _table(self) -> Group:
        state = self.state
        counts = Counter(state.statuses.values())
        said = [f"{count} {status}" for status, count in counts.items() if status not in ("queued", "interrupted")]
        if state.waiting:
            said.append(f"{len(state.waiting)} queued")
        head = f"{state.folder.name}: {self._num_ended} of {len(state.jobs)} done ({', '.join(said)})"
        if state.stopped_by is not None:
            head += "; stopping at the next checkpoints, Ctrl-C again kills the jobs"
        elif left := self._left():
            head += f"; {left}"
        table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
        for header, justify in (("job", "left"), ("status", "left"), ("epoch", "right"), ("val/acc", "right"),
                                ("images/s", "right"), ("time", "right"), ("", "left")):  # fmt: skip
            table.add_column(header, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        failed = [name for name, status in state.statuses.items() if status in FAILURES and name not in self._ended]
        for name in [*failed[-LAST_ENDED:], *self._ended]:
            self._add_row(table, name, "")
        for running in state.running:
            self._add_row(table, running.job.name, duration(time.monotonic() - running.since))
        for job in state.elsewhere:
            self._add_row(table, job.name, "elsewhere")
        return Group(Text(head), table)

    def _add_row(self, table: Table, name: str, since: str) -> None:
        status = self.state.statuses[name]
        record = stored(self.state.folder / name)
        last = last_readings(self.state.folder / name / "metrics.csv")
        acc, speed = last.get("val/acc"), last.get("train/images_per_second")
        seconds = record.get("fit_seconds")
        time_said = since or (duration(seconds) if isinstance(seconds, float) else "")
        table.add_row(
            Text(name),
            Text(status, STYLES.get(status, "")),
            last.get("epoch", ""),
            f"{float(acc):.2%}" if acc else "",
            f"{float(speed):,.0f}" if speed else "",
            time_said,
            Text(printable(record.get("error") or "")),
        )


def setting(job: Job) -> str:
    """The job without its seed."""
    return " ".join(word for word in job.overrides if not word.startswith("seed="))


def last_readings(path: Path) -> dict[str, str]:
    """The last reading of each metric in the end of a metrics.csv that is being written."""
    try:
        with opened(path, MOST_CURVE_BYTES) as file:
            header = file.readline(TAIL_BYTES).decode(errors="replace")
            size = file.seek(0, 2)
            file.seek(max(len(header), size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).decode(errors="replace").splitlines()
    except (OSError, RunError):
        return {}
    names = header.strip().split(",")
    found: dict[str, Any] = {}
    for row in csv.reader(lines):
        if len(row) == len(names):  # not one that is cut off
            found |= {name: value for name, value in zip(names, row, strict=True) if value}
    return found
