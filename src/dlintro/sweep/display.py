"""Shows a running sweep: in a terminal a live table with a row per setting, elsewhere a line per job."""

import csv
import statistics
import time
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dlintro.errors import RunError
from dlintro.reader import MOST_CURVE_BYTES, opened
from dlintro.sweep.plan import Job, label, seedless, value, varied
from dlintro.sweep.standing import FAILURES, stored
from dlintro.sweep.state import Running, State
from dlintro.terminal import Field, Live, fitted
from dlintro.text import duration, printable

TAIL_BYTES = 4096
LOST = (*FAILURES, "diverged", "unavailable")  # in red or yellow, as they have no result
HEADERS = ("setting", "done", "val accuracy", "now")  # validation chooses, so the test set isn't watched


class Display:
    def __init__(self, state: State) -> None:
        self.state = state
        self.live = Live()
        self.settings: dict[str, list[Job]] = {}
        for job in state.jobs:
            self.settings.setdefault(setting(job), []).append(job)
        self._names = readable({text: jobs[0] for text, jobs in self.settings.items()})
        self._seconds: dict[str, list[float]] = {}  # of the jobs that ended here, by setting
        waiting = {job.name for job in state.waiting}
        self._accuracies = {j.name: self._accuracy(j.name) for j in state.jobs if j.name not in waiting}
        self._num_ended = len(self._accuracies)
        self._last_ended: deque[str] = deque(maxlen=100)  # settings
        self._said_elsewhere = False

    def __enter__(self) -> Self:
        num_done, num = self._num_ended, len(self.state.jobs)
        before = f", {num_done} of them done before" if num_done else ""
        jobs = "1 job" if num == 1 else f"{num} jobs"
        print(f"{jobs}{before}; each job's output is in its train.log", flush=True)
        self.live.start()
        self.live.show_fields([Field("", "checking that the jobs can run", 0)])
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def update(self) -> None:
        state = self.state
        if self.live.console is not None:
            self.live.show(Group(self._head(), *self._table()))
        elif state.elsewhere and not (state.running or state.waiting or self._said_elsewhere):
            self._said_elsewhere = True
            print(f"waiting for what another process runs: {', '.join(j.name for j in state.elsewhere)}", flush=True)

    def ended(self, job: Job, seconds: float | None) -> None:
        """Note that a job has ended after so many seconds in this process (None if another process ran it)."""
        self._num_ended += 1
        self._accuracies[job.name] = self._accuracy(job.name)
        self._last_ended.append(setting(job))
        if seconds is not None:
            self._seconds.setdefault(setting(job), []).append(seconds)
        status = self.state.statuses[job.name]
        if self.live.console is None or status in LOST:
            words = [f"[{self._num_ended}/{len(self.state.jobs)}]", status, job.name, self._result(job.name)]
            words += [f"{seconds:.1f} s" if seconds is not None else "(elsewhere)"]
            words += [f"about {duration(left)} to go" if (left := self._seconds_left()) else ""]
            print("  ".join(word for word in words if word), flush=True)

    def _accuracy(self, name: str) -> float | None:
        found = stored(self.state.folder / name).get("best/val/acc")
        return found if isinstance(found, float) else None

    def _result(self, name: str) -> str:
        record = stored(self.state.folder / name)
        if record.get("error") and record["status"] != "interrupted":
            return printable(record["error"])
        acc = self._accuracies[name]
        return "" if acc is None else f"val/acc {acc:.2%}"

    def _seconds_left(self) -> float:
        """The time left, estimated from ended jobs of the same setting, or of all; 0 if it isn't known."""
        if not self._seconds or self.state.stopped_by is not None:
            return 0.0
        seconds = sum(self._whole(job) for job in self.state.waiting)
        seconds += sum(self._left_of(running) for running in self.state.running)
        return seconds / self.state.n_jobs

    def _whole(self, job: Job) -> float:
        """The seconds that a job takes."""
        over_all = [second for seconds in self._seconds.values() for second in seconds]
        return statistics.mean(self._seconds.get(setting(job), over_all))

    def _left_of(self, running: Running) -> float:
        return max(0.0, self._whole(running.job) - (time.monotonic() - running.since))

    def _head(self) -> Text:
        state = self.state
        num, counts = len(state.jobs), Counter(state.statuses.values())
        fields = [Field("", f"{self._num_ended}/{num} jobs", 0)]
        if state.stopped_by is not None:
            fields.append(
                Field("", "stopping at the next checkpoints; Ctrl-C again kills the jobs", 1, short="stopping")
            )
        elif left := self._seconds_left():
            fields.append(Field("", f"about {duration(left)} left", 1))
        fields += [Field("", f"{counts[status]} {status}", 2) for status in LOST if counts[status]]
        fields.append(Field("", state.folder.name, 3))
        return fitted(fields, self.live.width, self._num_ended / num, bar_rank=2)

    def _table(self) -> Iterator[Table | Text]:
        """The rows that fit into the terminal, the running settings first, and a line on the others."""
        room = max(1, self.live.height - 4)
        names = list(self.settings)
        shown = names
        if len(names) > room:
            busy = [setting(job) for job in [*(r.job for r in self.state.running), *self.state.elsewhere]]
            lost = [text for text in names if any(self.state.statuses[j.name] in LOST for j in self.settings[text])]
            wanted = dict.fromkeys([*busy, *reversed(self._last_ended), *lost, *self._queued(), *names])
            chosen = set(list(wanted)[:room])
            shown = [text for text in names if text in chosen]
        rows = [[self._names[text], self._done(text), self._mean(text)] for text in shown]
        widths = [max(map(cell_len, column)) for column in zip(HEADERS[:3], *rows, strict=True)]
        widths[0] = min(widths[0], self.live.width // 2)
        gap = 2 if self.live.width >= 70 else 1
        table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, show_edge=False, header_style="dim")
        for header, width, justify in zip(HEADERS, widths, ("left", "right", "right"), strict=False):
            table.add_column(header, width=width, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        table.add_column(HEADERS[3], no_wrap=True)
        for text, row in zip(shown, rows, strict=True):
            now = fitted(list(self._now(text)), max(8, self.live.width - sum(widths) - 3 * gap))
            table.add_row(*map(Text, row), now)
        yield table
        if hidden := len(names) - len(shown):
            queued = sum(1 for text in set(names) - set(shown) if text in self._queued())
            done = hidden - queued
            said = [f"{done} with results" if done else "", f"{queued} queued" if queued else ""]
            yield Text(f"and {hidden} settings more: {', '.join(filter(None, said))}", "dim", no_wrap=True)

    def _queued(self) -> list[str]:
        """The settings of which no job has begun."""
        waiting = {job.name for job in self.state.waiting}
        return [text for text, jobs in self.settings.items() if all(job.name in waiting for job in jobs)]

    def _done(self, text: str) -> str:
        jobs = self.settings[text]
        return f"{sum(job.name in self._accuracies for job in jobs)}/{len(jobs)}"

    def _mean(self, text: str) -> str:
        found = [acc for job in self.settings[text] if (acc := self._accuracies.get(job.name)) is not None]
        if not found:
            return ""
        spread = f" ± {100 * statistics.stdev(found):.2f}" if len(found) > 1 else ""
        return f"{100 * statistics.mean(found):.2f}{spread} %"

    def _now(self, text: str) -> Iterator[Field]:
        """Say how far the setting's running job is, and how many of its jobs have no result."""
        jobs = self.settings[text]
        counts = Counter(self.state.statuses[job.name] for job in jobs)
        yield from (Field("", f"{counts[status]} {status}", 0) for status in LOST if counts[status])
        running = [running for running in self.state.running if setting(running.job) == text]
        elsewhere = sum(job in self.state.elsewhere for job in jobs)
        if running:
            yield from self._how_far(running[0])
        if len(running) > 1:
            yield Field("", f"and {len(running) - 1} more", 2)
        if elsewhere:
            yield Field("", f"{elsewhere} in another process", 3, short="elsewhere")

    def _how_far(self, running: Running) -> Iterator[Field]:
        settings, last = running.job.settings, last_readings(self.state.folder / running.job.name / "metrics.csv")
        yield Field("seed", str(settings.seed), 1)
        if "epoch" in last and settings.trainer.max_epochs is not None:
            epochs = f"{last['epoch']}/{settings.trainer.max_epochs}"
            yield Field("epoch", epochs, 2, short=epochs)
        elif "step" in last:
            yield Field("step", last["step"], 2)
        else:
            yield Field("", "starting", 2)
        if self._seconds and (left := self._left_of(running)):
            yield Field("", f"{duration(left)} left", 3)
        if "val/acc" in last:
            yield Field("val/acc", f"{float(last['val/acc']):.2%}", 4)


def readable(jobs: dict[str, Job]) -> dict[str, str]:
    """The settings' names in the table: what differs between them."""
    keys = [key for key in varied([job.overrides for job in jobs.values()]) if key != "seed"]
    if not keys:
        return {text: f"{job.settings.choices.model} {job.settings.choices.data}" for text, job in jobs.items()}
    return {
        text: ", ".join(label(key, value(key, job.overrides)).replace("_", " ") for key in keys)
        for text, job in jobs.items()
    }


def setting(job: Job) -> str:
    """The job without its seed."""
    return " ".join(seedless(job.overrides))


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
