"""The live table of a sweep: a row a setting, as many as the terminal has room for."""

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console, Group

from dlintro.sweep.display import Display
from dlintro.sweep.plan import Job
from dlintro.sweep.state import State

SIZES = [2**power for power in range(2, 12)]  # 10 batch sizes x 3 rates x 3 seeds: 90 jobs, 30 settings


class Fake(State):
    def __init__(self, folder: Path) -> None:
        self.folder, self.n_jobs, self.elsewhere, self.running, self.stopped_by = folder, 2, [], [], None
        self.jobs = [job(size, rate, seed) for seed in range(3) for size in SIZES for rate in ("0.001", "0.01", "0.1")]
        self.statuses = {job.name: "queued" for job in self.jobs}
        self.waiting = list(self.jobs)

    def end(self, display: Display, status: str, accuracy: float | None) -> None:
        done = self.waiting.pop(0)
        self.statuses[done.name] = status
        (self.folder / done.name).mkdir()
        (self.folder / done.name / "record.json").write_text(json.dumps({"status": status, "best/val/acc": accuracy}))
        display.ended(done, 10.0)

    def begin(self) -> None:
        begun = self.waiting.pop(0)
        self.statuses[begun.name] = "running"
        folder = self.folder / begun.name
        folder.mkdir()
        (folder / "metrics.csv").write_text("step,epoch,val/acc\n100,3,0.9123\n")
        self.running.append(SimpleNamespace(job=begun, since=0.0))  # type: ignore[arg-type]


def job(size: int, rate: str, seed: int) -> Job:
    settings: Any = SimpleNamespace(seed=seed, trainer=SimpleNamespace(max_epochs=10))
    words = ["model=flatnet", f"data.batch_size={size}", f"optim.lr={rate}", f"seed={seed}"]
    return Job(f"batch_size_{size}-lr_{rate}-seed_{seed}", "0" * 8, words, settings)


def drawn(display: Display, columns: int, rows: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, width=columns, height=rows, no_color=True)
    display.live.console = console
    console.print(Group(display._head(), *display._table()))
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_ninety_jobs_are_a_table_that_the_terminal_has_room_for(
    columns: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = Fake(tmp_path)
    display = Display(state)
    for number in range(35):  # the first seed of all settings, the second of five
        state.end(display, "ok", 0.9 + number / 1000)
    state.end(display, "diverged", None)
    state.begin()
    state.begin()
    lines = drawn(display, columns, 24)
    assert len(lines) < 24 and all(len(line) < columns for line in lines)
    assert re.match(r"[━─]+  36/90 jobs  about \d+ (s|min) left  1 diverged", lines[0])
    assert lines[1].split() == ["setting", "done", "val", "accuracy", "now"]
    rows = {re.split(r"  | \d/", line)[0]: line for line in lines[2:]}
    assert re.fullmatch(r"batch size 4, lr 0.001 +2/3 +91.50 ± 2.12 %", rows["batch size 4, lr 0.001"])
    assert re.fullmatch(r"batch size 8, lr 0.1 +2/3 +90.50 % +1 diverged", rows["batch size 8, lr 0.1"])
    running = rows["batch size 16, lr 0.001"]
    assert re.match(r"batch size 16, lr 0.001 +1/3 +90.60 % +seed 1  (epoch )?3/10", running)
    assert ("val/acc 91.23%" in running) == (columns > 60)
    assert lines[-1] == "and 10 settings more: 10 with results"
    assert list(rows)[:-1] == sorted(list(rows)[:-1], key=lambda row: int(re.split(r"[ ,]", row)[2]))


def test_all_settings_are_shown_where_there_is_room(tmp_path: Path) -> None:
    lines = drawn(Display(Fake(tmp_path)), 80, 40)
    assert len(lines) == 32 and "more" not in lines[-1]
    assert lines[0] == f"{'─' * 12}  0/90 jobs  {tmp_path.name}"
