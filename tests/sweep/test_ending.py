"""What the terminal shows at a sweep's end."""

import io
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dlintro.settings.conf import defaults
from dlintro.sweep.answer import answers, headline
from dlintro.sweep.ending import show_ending
from dlintro.sweep.groups import study
from dlintro.sweep.plan import Job
from dlintro.sweep.report import write_report
from dlintro.sweep.runs import read
from tests.sweep.fake import write_sweep
from tests.sweep.test_answer import validation
from tests.sweep.test_report import words


class NoCode:
    code = None


def shown(
    folder: Path, params: Mapping[str, Any], width: int, capsys: pytest.CaptureFixture[str], **how: Any
) -> tuple[list[str], list[str]]:
    """(the lines that rich draws, the commands to type next)"""
    write_sweep(folder, params, changed=how.get("changed"))
    found = study(*read([folder]))
    jobs = [
        Job(run.name, "", [f"{key}={value}" for key, value in run.overrides.items()], NoCode())  # type: ignore[arg-type]
        for run in found.runs
    ]
    screen = io.StringIO()
    console = Console(file=screen, width=width, force_terminal=how.get("terminal", True), color_system=None)
    show_ending(found, jobs, folder, console)
    return screen.getvalue().splitlines(), [line.strip() for line in capsys.readouterr().out.splitlines()]


SIZES = {"data.batch_size": [8, 32, 128, 4096], "optim.lr_rule": ["none", "linear"], "seed": [0, 1, 2]}


@pytest.mark.parametrize("width", [60, 80])
def test_each_setting_is_a_row_and_none_is_cut(tmp_path: Path, width: int, capsys: pytest.CaptureFixture[str]) -> None:
    changed: dict[int, Any] = validation(0.90, 0.91, 0.95, 0.93, 0.92, 0.91, 0.90, 0.89)
    changed[23] |= {"status": "diverged"}
    lines, _ = shown(tmp_path / "s", SIZES, width, capsys, changed=changed)
    assert all(len(line.rstrip()) <= width for line in lines) and not any("…" in line for line in lines)
    table = [" ".join(line.split()) for line in lines[: lines.index("")]]
    assert set(" ".join(table[:-8]).split()) == {"lr", "rule", "batch", "size", "validation", "%", "test", "seeds"}
    assert table[-8] == "none 32 95.00 ± 0.10 5.00 ± 0.10 3 best"
    assert table[-1] == "linear 4,096 88.95 ± 0.07 11.05 ± 0.07 2 of 3 left out"


def test_the_sentence_is_the_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = shown(tmp_path / "s", SIZES, 80, capsys, changed=validation(0.90, 0.91, 0.95, 0.93))
    said = headline(answers(study(*read([tmp_path / "s"]))))
    assert said in " ".join(" ".join(lines).split())
    assert said in words(write_report([tmp_path / "s"], tmp_path / "s"))


def test_of_many_settings_the_best_ten_are_shown_and_the_others_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = [round(0.01 * (1 + place), 2) for place in range(14)]
    changed = validation(*[0.90 + 0.005 * place for place in range(14)], seeds=1)
    lines, _ = shown(tmp_path / "s", {"optim.lr": rates}, 80, capsys, changed=changed)
    assert [line.split()[0] for line in lines[1:11]] == [f"{rate:g}" for rate in rates[:3:-1]]
    assert lines[11] == "4 more settings are in the report."


def test_a_pipe_gets_plain_lines_with_each_sentence_on_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, _ = shown(tmp_path / "s", SIZES, 80, capsys, changed=validation(0.90, 0.91, 0.95, 0.93), terminal=False)
    assert headline(answers(study(*read([tmp_path / "s"])))) in lines
    assert not any("\x1b" in line for line in lines)


def test_what_to_type_next_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dlintro.sweep.ending.typed", lambda name: f"dlintro-{name}")
    changed = validation(0.90, 0.91, 0.95, 0.93, 0.92, 0.91, 0.90, 0.89)
    _, commands = shown(Path("s"), SIZES, 60, capsys, changed=changed)
    assert commands[0] == "dlintro-tensorboard s"
    assert "dlintro-train data.batch_size=32 optim.lr_rule=none" in commands
    (evaluate,) = [command for command in commands if command.startswith("dlintro-evaluate")]
    assert (Path(shlex.split(evaluate)[1]) / "record.json").is_file()
    assert all(key.partition("=")[0] in defaults() for key in shlex.split(commands[-1])[1:])
