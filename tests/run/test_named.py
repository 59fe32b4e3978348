"""A run by its name: `last`, a name, a part of one. Whoever takes a RUN takes them all."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from dlintro.commands.evaluate import main as evaluate
from dlintro.commands.predict import main as predict
from dlintro.commands.runs import main as runs
from dlintro.commands.train import main as train
from dlintro.errors import UsageError
from dlintro.run.named import find_run
from dlintro.sweep.report import main as report
from tests.conftest import SMALL
from tests.run_folder import record
from tests.trained import SYNTHETIC, train_run

Captured = pytest.CaptureFixture[str]
FLAT, CNN, OTHER = (
    "20261128-005713-flatnet-mnist-956f",
    "20261128-005728-mnist_cnn-mnist-7a2e",
    "20261127-095600-mnist_cnn-cifar10-0a1b",
)
SWEEP, JOBS = "batch_size-6e42024d", ("batch_size_32-seed_0-44ff9e26", "batch_size_64-seed_0-89154185")


def finished(folder: Path, **fields: Any) -> None:
    folder.mkdir(parents=True)
    (folder / "record.json").write_text(json.dumps({"status": "ok", "model": "flatnet", "data": "mnist"} | fields))


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, the CNN's started last, and a sweep of two jobs."""
    folder = tmp_path / "outputs"
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(folder))
    monkeypatch.chdir(tmp_path)
    for name in (FLAT, CNN, OTHER):
        finished(folder / "runs" / name)
    for name in JOBS:
        finished(folder / "sweeps" / SWEEP / name, started="2026-11-28T09:00:00+00:00")
    plan = {"name": SWEEP, "created": "2026-11-26T12:00:00+00:00", "jobs": [{"name": n, "overrides": []} for n in JOBS]}
    (folder / "sweeps" / SWEEP / "sweep.json").write_text(json.dumps(plan))
    return folder


def refused(capsys: Captured, *words: str) -> str:
    """The one line with which scripts/train refuses these words."""
    assert train(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dlintro: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("last", CNN),
        (CNN, CNN),
        ("7a2e", CNN),
        ("cifar10", OTHER),
        ("0956", OTHER),
        ("956f", FLAT),
        ("mnist-956f", FLAT),
        (f"outputs/runs/{OTHER}", OTHER),
        ("44ff", JOBS[0]),
        (f"{SWEEP}/{JOBS[1]}", JOBS[1]),
        ("batch_size/64", JOBS[1]),
        ("outputs/sweeps/6e42/44ff", JOBS[0]),
    ],
)
def test_a_run_is_found_by_any_part_of_its_name_that_no_other_has(
    outputs: Path, capsys: Captured, word: str, name: str
) -> None:
    """scripts/train says which finished run it doesn't resume."""
    assert f"resume={name}: that run has finished" in refused(capsys, f"resume={word}")


def test_an_existing_path_wins_over_a_name(outputs: Path, tmp_path: Path, capsys: Captured) -> None:
    finished(tmp_path / "last")
    finished(tmp_path / "7a2e")
    assert "resume=last: that run has finished" in refused(capsys, "resume=last")
    assert "resume=7a2e: that run has finished" in refused(capsys, "resume=7a2e")


def test_the_end_of_a_name_wins_over_a_part_of_another(outputs: Path, capsys: Captured) -> None:
    """Four hex digits may be anybody's time of day."""
    finished(outputs / "runs" / "20261128-120956-flatnet-mnist-0057")
    assert "-mnist-0057: that run has finished" in refused(capsys, "resume=0057")


@pytest.mark.parametrize(
    ("word", "matches"),
    [("mnist_cnn", [CNN, OTHER]), ("-", [CNN, FLAT, OTHER, SWEEP]), ("seed_0", [f"{SWEEP}/{job}" for job in JOBS])],
)
def test_an_ambiguous_word_is_answered_with_the_matches(
    outputs: Path, capsys: Captured, word: str, matches: list[str]
) -> None:
    said = refused(capsys, f"resume={word}")
    assert f"could be any of {len(matches)}: " in said and all(name in said for name in matches)


def test_of_many_matches_a_handful_is_listed_the_newest_first(outputs: Path, capsys: Captured) -> None:
    for n in range(20):
        finished(outputs / "runs" / f"20261101-1200{n:02}-vgg16-mnist-{n:04x}")
    said = refused(capsys, "rerun=vgg16")
    assert "any of 20: 20261101-120019-vgg16-mnist-0013, " in said and " and 16 more;" in said
    assert said.count("-vgg16-") == 4


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("flatnte", f"did you mean {FLAT}?"),
        ("7a2f", f"did you mean {CNN}?"),
        ("zzz", f"the newest is {CNN}"),
        ("lst", "none of the 4 runs and sweeps"),
        ("batch_size/zzz", "none of the 4"),
        ("../runs", "none of the 4"),
        (".", "not a run folder"),
    ],
)
def test_an_unknown_name_is_answered_with_what_is_there(outputs: Path, capsys: Captured, word: str, said: str) -> None:
    assert said in refused(capsys, f"rerun={word}")


@pytest.mark.parametrize("word", ["last", "7a2e", "flatnet"])
def test_where_there_are_no_runs_yet_one_line_says_so(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.png").touch()
    for command, words in (
        (evaluate, [word]),
        (predict, [word, "image.png"]),
        (report, [word]),
        (train, [f"resume={word}"]),
        (runs, ["--diff", word, word]),
    ):
        assert command(words) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "there are no runs in" in said and "yet" in said


def test_last_is_what_was_started_or_resumed_last(outputs: Path) -> None:
    """By what records and sweep.json say; of old records by the folder's name, or else by its age."""
    runs, sweep = outputs / "runs", outputs / "sweeps" / SWEEP
    assert find_run("last").name == CNN, "a sweep's jobs don't count for themselves"
    finished(runs / "mine", started="2026-11-28T02:00:00+00:00")
    assert find_run("last").name == "mine"
    (runs / FLAT / "record.json").write_text(json.dumps({"status": "running", "started": "2026-11-28T03:00:00+00:00"}))
    assert find_run("last").name == FLAT, "it was resumed"
    plan = json.loads((sweep / "sweep.json").read_text()) | {"started": "2026-11-28T05:00:00+01:00"}
    (sweep / "sweep.json").write_text(json.dumps(plan))
    assert find_run("last").name == SWEEP, "another time zone"
    (runs / "20991231-235959-flatnet-mnist-beef").mkdir()
    assert find_run("last").name == SWEEP, "nothing was trained in it"
    finished(runs / "theirs")  # of an earlier version, and named by hand
    os.utime(runs / "theirs", (1, 1))
    assert find_run("last").name == SWEEP
    os.utime(runs / "theirs", (4e9, 4e9))
    assert find_run("last").name == "theirs"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"started": 7}', '{"started": "yesterday"}', '{"created": null}'])
def test_a_damaged_record_is_as_old_as_its_name_says(outputs: Path, content: str) -> None:
    name = "20270101-000000-flatnet-mnist-ffff"
    finished(outputs / "runs" / name)
    (outputs / "runs" / name / "record.json").write_text(content)
    assert find_run("last").name == name


@pytest.mark.parametrize("word", ["", "~nobody/run", "a" * 300, "*", "[", "\\", "x\x00y"])
def test_a_strange_word_names_no_run(outputs: Path, word: str) -> None:
    with pytest.raises(UsageError):
        find_run(word)


def test_a_hydra_sweep_without_a_plan_counts_as_one(outputs: Path) -> None:
    """hydra/launcher=basic writes no sweep.json."""
    finished(outputs / "sweeps" / "20280101-000000-abcd" / "0-flatnet-mnist")
    assert find_run("last").name == "20280101-000000-abcd"
    assert find_run("abcd/0-flat").name == "0-flatnet-mnist"


def test_every_command_takes_a_name_and_the_folder_keeps_the_one_it_stood_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    outputs = tmp_path / "outputs"
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(outputs))
    monkeypatch.chdir(tmp_path)
    first = train_run(outputs / "runs" / "20260101-000000-flatnet-synthetic-1234", *SYNTHETIC)
    capsys.readouterr()
    assert evaluate(["1234", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == str(first / "checkpoints" / "best.ckpt")
    assert report(["last", "--out", "report"]) == 0
    assert (tmp_path / "report" / "report.html").is_file()
    capsys.readouterr()

    from PIL import Image

    Image.new("L", (8, 8), 9).save("image.png")
    assert predict(["flatnet", "image.png", "--json"]) == 0


@pytest.mark.timeout(300)  # three processes that import torch
def test_a_rerun_of_last_stores_the_name_that_it_stood_for(command: Any, tmp_path: Path) -> None:
    runs = tmp_path / "outputs" / "runs"
    assert command(*SMALL, "model=flatnet", "trainer.max_steps=2").returncode == 0
    (first,) = runs.iterdir()
    said = command("rerun=last", "seed=1")
    assert said.returncode == 0, said.stderr
    (second,) = (folder for folder in runs.iterdir() if folder != first)
    assert record(second)["command"] == f"scripts/train rerun=outputs/runs/{first.name} seed=1"
    words = yaml.safe_load((second / ".hydra" / "overrides.yaml").read_text())
    assert f"rerun=outputs/runs/{first.name}" in words and "last" not in " ".join(words)
    assert record(second)["started"] > record(first)["started"]


@pytest.mark.timeout(300)  # three processes that import torch
def test_a_sweep_from_the_weights_of_last_stores_which_they_were(command: Any, tmp_path: Path) -> None:
    small = [*SMALL[:1], "data.shape=[3,32,32]", "data.train_size=64", "data.batch_size=32", "trainer.max_steps=1"]
    small += ["accelerator=cpu", "threads=1", "model=torchvision", "model.name=shufflenet_v2_x0_5"]
    assert command(*small).returncode == 0
    (first,) = (tmp_path / "outputs" / "runs").iterdir()
    said = command(*small, "model.weights=last", "seed=1,2", "-m")
    assert said.returncode == 0, said.stdout + said.stderr
    (sweep,) = (tmp_path / "outputs" / "sweeps").iterdir()
    plan = json.loads((sweep / "sweep.json").read_text())
    weights = f"model.weights=outputs/runs/{first.name}/checkpoints/best.ckpt"
    assert weights in plan["command"] and "last" not in plan["command"].replace("last.ckpt", "")
    assert all(weights in job["overrides"] for job in plan["jobs"])
    again = command(*small, "model.weights=last", "-m", "seed=1,2")
    assert again.returncode == 2 and "is a sweep; name one of its jobs, SWEEP/JOB" in again.stderr
