"""What is drawn in a terminal, as pyte shows it: one live line, and whatever else is printed above it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from dlintro.terminal import Field, fitted
from tests.terminal import in_terminal

FIELDS = (
    Field("epoch", "2/10", 0),
    Field("step", "1,234/4,300", 2, short="1,234/4,300"),
    Field("loss", "0.123", 4),
    Field("val/acc", "97.61%", 3),
    Field("", "34,421 images/s", 5, short="34,421/s"),
    Field("", "10 min left", 1),
)
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)[0-7]m|\x1b\[[34]8[;:]")

# Everybody who writes while a line is drawn: print, standard error, a log, half lines, a worker, a long path.
WRITERS = """
import logging, os, sys
from dlintro.command import set_up_logging
from dlintro.terminal import Field, Live, track
set_up_logging()
with Live() as live:
    for number in range(3):
        live.show_fields([Field("step", f"{number}/3", 0), Field("loss", "0.123", 1)], number / 3)
        print(f"printed {number}")
        print(f"said {number}", file=sys.stderr)
        logging.getLogger("dlintro.x").warning("logged %d", number)
        print("half a line", end=" ", flush=True)
        live.show_fields([Field("step", f"{number}/3", 0), Field("loss", "0.456", 1)], number / 3)
        print("and its end")
    if os.fork() == 0:
        print("from a worker", flush=True)
        os._exit(0)
    os.wait()
    live.show_fields([Field("step", "3/3", 0)], 1.0)
    print("/long/path" * 12)
print("the end")
"""
PRINTED = [f"{what} {number}" for number in range(3) for what in ("printed", "said", "logged")]


def lines_of(text: str) -> list[str]:
    return [line for line in text.replace("\r", "").split("\n") if line]


@pytest.mark.parametrize("width", [59, 79, 199])
def test_a_line_is_made_shorter_by_whole_fields(width: int) -> None:
    line = fitted(FIELDS, width, 0.5).plain
    assert len(line) <= width
    whole = {text for field in FIELDS for text in (field.text, field.short) if text}
    *bar, rest = re.split(r"^[━─]+  ", line)
    assert set(re.split(r"  +", rest)) <= whole and len(bar) == (width == 199)
    assert line.endswith("epoch 2/10  step 1,234/4,300  loss 0.123  val/acc 97.61%  34,421 images/s  10 min left") == (
        width == 199
    )


def test_what_matters_most_stays_longest() -> None:
    gone: list[int] = []
    for width in range(120, 5, -1):
        shown = re.split(r"  +", fitted(FIELDS, width).plain)
        missing = {field.rank for field in FIELDS if not {field.text, field.short} & set(shown)}
        gone += sorted(missing - set(gone), reverse=True)
    assert gone == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_no_line_is_shared_whoever_writes(columns: int) -> None:
    shown = in_terminal([sys.executable, "-c", WRITERS], columns)
    assert shown.status == 0
    expected = [line for n in range(3) for line in (*PRINTED[3 * n : 3 * n + 3], "half a line and its end")]
    said = [line for line in shown.lines if line]
    at = said.index("from a worker")
    assert said[:at] == expected and said[-1] == "the end"
    assert "".join(said[at + 1 : -1]) == "/long/path" * 12  # broken by the terminal alone, so that it is copied whole
    live = {line for line in shown.ever() - set(said) if "step" in line}
    assert live and all(re.fullmatch(r"([━─]+  )?step \d/3(  loss 0\.(123|456))?", line) for line in live), live


def test_without_colours_none_is_written() -> None:
    shown = in_terminal([sys.executable, "-c", WRITERS], 80, env={"NO_COLOR": "1"})
    assert not COLOUR.search(shown.raw) and "step 2/3" in "".join(shown.ever())
    assert COLOUR.search(in_terminal([sys.executable, "-c", WRITERS], 80).raw)


def test_a_terminal_that_cannot_go_back_gets_lines_alone() -> None:
    shown = in_terminal([sys.executable, "-c", WRITERS], 80, env={"TERM": "dumb"})
    assert "\x1b" not in shown.raw and "step" not in shown.raw
    assert lines_of(shown.raw)[:4] == [*PRINTED[:3], "half a line and its end"]


def test_where_the_output_goes_to_a_file_the_line_is_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "writers.py").write_text(WRITERS)
    shown = in_terminal(["sh", "-c", f"{sys.executable} writers.py > out.txt"], 80, cwd=tmp_path)
    printed = (tmp_path / "out.txt").read_text()
    assert "\x1b" not in printed and "printed 2\nhalf a line and its end\n" in printed and "step" not in printed
    assert "step 2/3" in "".join(shown.ever()) and "logged 2" in shown.lines and "printed 2" not in shown.text


def test_where_another_program_reads_the_output_nothing_is_drawn(tmp_path: Path) -> None:
    """It may write to the same terminal: `| tee log`."""
    (tmp_path / "writers.py").write_text(WRITERS)
    shown = in_terminal(["sh", "-c", f"{sys.executable} writers.py | cat"], 80, cwd=tmp_path)
    assert "\x1b" not in shown.raw and "step" not in shown.text and "printed 2" in shown.lines
    done = subprocess.run([sys.executable, "writers.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {"\x1b", "\r"} & set(done.stdout + done.stderr) and "step" not in done.stdout + done.stderr


def test_an_error_in_a_loop_leaves_no_line_behind() -> None:
    code = """
import sys, time
from dlintro import terminal
from dlintro.command import exit_status
from dlintro.errors import RunError

def work():
    for number in terminal.track(range(10), "reading images"):
        time.sleep(0.1)
        if number == 6:
            raise RunError("x.png: can't be read")

sys.exit(exit_status(work))
"""
    shown = in_terminal([sys.executable, "-c", code], 80)
    assert shown.status == 1 and [line for line in shown.lines if line] == ["dlintro: x.png: can't be read"]
    assert any(re.fullmatch(r"[━─]+  reading images +\d+%  \d s left", line) for line in shown.ever())
