"""The commands in a terminal of 60, 80 and 200 columns: every line that could be read is one whole message."""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL
from tests.terminal import Shown, command, in_terminal
from tests.test_terminal import COLOUR

LONGER = ("model=flatnet", *SMALL[:2], "data.train_size=8000", "data.batch_size=32", *SMALL[4:])  # 250 steps an epoch
BAR = "([━─]{12,30}  )?"
LIVE = re.compile(
    rf"{BAR}epoch (?P<epoch>\d+)/(?P<epochs>\d+)  (step )? *(?P<step>[\d,]+)/(?P<steps>[\d,]+)"
    r"(  loss (\d+\.\d{3}|– *))?(  val/acc ( *\d+\.\d\d%|– *))?( +[\d,]+( images)?/s| +)?( +\d+ (s|min) left *)?"
)
EVALUATING = re.compile(rf"{BAR}(epoch \d+/\d+  validating|testing) \d+/\d+")
EPOCH = re.compile(r"epoch \d+/\d+  val/acc \d+\.\d\d%  val/loss \d+\.\d{4}")
OTHERS = re.compile(
    r"loading PyTorch|drawing the pictures for the dashboard|flatnet on synthetic: [\d,]+ images, on .+"
    r"|─+ flatnet on synthetic ─+|resumed at epoch \d+, step [\d,]+ of [\d,]+"
)


def train(folder: Path, columns: int, *words: str, rows: int = 24, **more: object) -> Shown:
    environment = {"DLINTRO_OUTPUTS": str(folder / "outputs")} | dict(more.pop("env", {}))  # type: ignore[call-overload]
    return in_terminal(command("commands.train", *words), columns, rows, folder, environment, **more)  # type: ignore[arg-type]


def assert_each_line_is_one_message(shown: Shown) -> list[re.Match[str]]:
    """The live lines, in their order."""
    live: dict[str, re.Match[str]] = {}
    for _, lines in shown.frames:
        for line in lines:
            if re.search(r"(^|  )epoch \d", line):
                found = LIVE.fullmatch(line)
                assert found or EPOCH.fullmatch(line) or EVALUATING.fullmatch(line), repr(line)
                live |= {line: found} if found else {}
            if "left" in line or "loading" in line or "drawing" in line:
                assert any(pattern.fullmatch(line) for pattern in (LIVE, OTHERS)), repr(line)
    return list(live.values())


@pytest.mark.parametrize(
    "columns", [pytest.param(60, marks=pytest.mark.slow), 80, pytest.param(200, marks=pytest.mark.slow)]
)
def test_a_run_has_one_live_line_and_its_epochs_above_it(columns: int, tmp_path: Path) -> None:
    words = (*LONGER, "trainer.max_epochs=8", "hydra.run.dir=run")
    shown = train(tmp_path, columns, *words, env={"NO_COLOR": "1"} if columns == 60 else {})
    assert shown.status == 0, shown.text
    live = assert_each_line_is_one_message(shown)
    assert {found["epochs"] for found in live} == {"8"} and {found["steps"] for found in live} == {"2,000"}
    steps = [number(found) for found in live]
    assert steps == sorted(steps) and all(0 < step <= 2000 for step in steps)
    assert all(int(found["epoch"]) == (number(found) - 1) // 250 + 1 for found in live)
    assert any("val/acc" in found[0] and "left" in found[0] for found in live)
    assert any("images/s" in found[0] for found in live) == (columns > 60)
    assert len(EPOCH.findall(shown.text)) == 8 and not any(LIVE.fullmatch(line) for line in shown.lines)
    assert bool(COLOUR.search(shown.raw)) == (columns != 60)
    assert_next_can_be_pasted(shown.text, tmp_path)


def number(live: re.Match[str]) -> int:
    """The step that a live line says."""
    return int(live["step"].replace(",", ""))


def assert_next_can_be_pasted(text: str, folder: Path) -> None:
    commands = [shlex.split(line) for line in re.findall(r"^    (\S*scripts/\S+.*|dlintro-.*)$", text, re.MULTILINE)]
    assert [Path(words[0]).name for words in commands] == ["evaluate", "predict", "tensorboard", "train"], text
    for words in commands:
        assert os.access(folder / words[0], os.X_OK)
        assert all((folder / word).is_dir() for word in words[1:] if word == "run") and "FILE.py" not in words


def test_a_pipe_gets_plain_lines_without_pictures(command: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = command(*SMALL, "model=flatnet", "trainer.max_epochs=2", TERM="xterm-256color")
    assert done.returncode == 0 and not {"\x1b", "\r", "▀"} & set(done.stdout + done.stderr)
    assert len(EPOCH.findall(done.stdout)) == 2 and "mistakes" not in done.stdout and "loading" not in done.stdout
    assert "test accuracy" in done.stdout and "or with threads=1" not in done.stdout


def test_a_run_of_a_few_steps_says_before_and_after_it_how_to_train_longer(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    words = ("model=flatnet", *(w for w in SMALL if not w.startswith(("data.train_size", "data.batch_size"))))
    words += ("data.train_size=900", "trainer.log_every_n_steps=1000")
    done = command(*words)
    hint = "data.batch_size=16 trainer.max_epochs=11"  # 57 steps an epoch
    assert f"\nonly 8 steps an epoch: try {hint}\nepoch 1/2 " in done.stdout
    [pasted] = re.findall(r"^  16 steps are too few to learn much; train longer:\n    (.*)$", done.stdout, re.M)
    script, *pasted_words = shlex.split(pasted)
    assert Path(script).name == "train" and pasted_words == [*words, *hint.split()]
    longer = command(*pasted_words)
    assert longer.returncode == 0 and "too few" not in longer.stdout and "steps an epoch" not in longer.stdout
    steps = sorted(json.loads(path.read_text())["steps"] for path in tmp_path.glob("outputs/runs/*/record.json"))
    assert steps == [16, 627]
    asked = command(*words, "trainer.max_steps=5")
    assert asked.returncode == 0 and "too few" not in asked.stdout and "an epoch" not in asked.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("limit", [(), ("trainer.max_steps=1900",)], ids=["epochs", "steps"])
def test_a_resumed_run_says_where_it_goes_on_and_counts_to_its_end(limit: tuple[str, ...], tmp_path: Path) -> None:
    asked: list[int] = []

    def stop(process: subprocess.Popen[bytes], shown: Shown) -> None:
        for line in shown.frames[-1][1]:
            if (found := LIVE.fullmatch(line)) and number(found) > 300 and not asked:
                asked.append(number(found))
                os.killpg(process.pid, signal.SIGINT)

    words = (*LONGER, "trainer.max_epochs=8", *limit, "hydra.run.dir=run")
    stopped = train(tmp_path, 80, *words, watch=stop)
    assert (
        stopped.status == 130 and "stopping at the next checkpoint; press Ctrl-C again to stop at once" in stopped.lines
    )
    assert_each_line_is_one_message(stopped)
    step = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert step >= asked[0]
    total, resumed = 1900 if limit else 2000, train(tmp_path, 80, "resume=run")
    assert resumed.status == 0, resumed.text
    assert f"resumed at epoch {step // 250 + 1}, step {step:,} of {total:,}" in resumed.lines
    live = assert_each_line_is_one_message(resumed)
    assert live and {found["steps"] for found in live} == {f"{total:,}"}
    assert all(step < number(found) <= total for found in live)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_has_a_row_a_setting_and_leaves_no_table_behind(tmp_path: Path) -> None:
    words = ("-m", *LONGER, "trainer.max_epochs=2", "optim.lr=0.001,0.01,0.1", "seed=0,1", "sweep.name=s")
    shown = train(tmp_path, 80, *words, seconds=250)
    assert shown.status == 0, shown.text
    ever = "\n".join(shown.ever())
    for rate in ("0.001", "0.01", "0.1"):
        assert re.search(rf"^lr {rate} +\d/2 ", ever, re.MULTILINE)
    assert re.search(r"^lr 0.001 +1/2 +\d+\.\d\d %  seed 1  epoch \d/2", ever, re.MULTILINE)
    assert re.search(r"^lr 0.001 +2/2 +\d+\.\d\d ± \d+\.\d\d %$", ever, re.MULTILINE)
    assert re.search(rf"^{BAR}3/6 jobs  about \d+ (s|min) left  s$", ever, re.MULTILINE)
    assert "jobs  about" not in shown.text and not re.search(r"^lr 0.001 +\d/2", shown.text, re.MULTILINE)


@pytest.mark.timeout(200)
def test_claims_show_one_line_above_which_their_verdicts_stand(tmp_path: Path) -> None:
    words = command("claims.command", "--quick", "flatten", "tensors")
    shown = in_terminal(words, 80, env={"DLINTRO_OUTPUTS": str(tmp_path)}, seconds=180)
    assert shown.status == 0, shown.text
    drawn = [line for line in shown.ever() if "claim " in line and "verdict" not in line]
    one = re.compile(r"[━─]{12}  claim [12]/2  (flatten|tensors)(  .+, seed \d+)?  about \d+ s left")
    assert drawn and all(one.fullmatch(line) for line in drawn), drawn
    assert {line.split()[0] for line in shown.lines if re.fullmatch(r"\w+ +holds.* \(\d+ s\)", line)} == {
        "flatten",
        "tensors",
    }
    assert not any("claim 1/2" in line for line in shown.lines)
