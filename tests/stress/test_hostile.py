"""Files from strangers are refused in one line, by each command that reads them, before they can do anything."""

import csv
import json
import os
import pickle
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from dlintro.commands import evaluate, predict
from dlintro.commands import train as entry
from dlintro.sweep import report
from tests.conftest import SMALL
from tests.run.test_resume import stop_at
from tests.sweep.fake import write_run, write_sweep

WORDS = (*SMALL, "model=mnist_cnn", "model.widths=[4,8,16]", "trainer.max_epochs=2", "checkpoint.every_steps=2")


class Acts:
    """A pickle that does something when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def zipped(path: Path, content: dict[str, Any], acts: Acts) -> None:
    torch.save(content | {"more": acts}, path)


def of_old_pytorch(path: Path, content: dict[str, Any], acts: Acts) -> None:
    torch.save(content | {"more": acts}, path, _use_new_zipfile_serialization=False)


def bare(path: Path, content: dict[str, Any], acts: Acts) -> None:
    path.write_bytes(pickle.dumps(acts))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unfinished run with both checkpoints, as a stranger may send it."""
    folder = tmp_path_factory.mktemp("stranger")
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(folder)
        changed.setattr(sys, "argv", ["dlintro-train"])
        stop_at(9, changed)
        assert entry.main([*WORDS, "hydra.run.dir=run"]) == 130
    return folder / "run"


@pytest.fixture
def run(interrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("*.ckpt"))


COMMANDS: dict[str, Callable[[Path], int]] = {
    "resume": lambda run: entry.main([f"resume={run}"]),
    "weights": lambda run: entry.main(
        [*SMALL, "data.shape=[3,32,32]", "model=vgg16", f"model.weights={run}/checkpoints/best.ckpt"]
    ),
    "predict": lambda run: predict.main([str(run), str(run / "image.png")]),
    "predict a file": lambda run: predict.main([f"{run}/checkpoints/last.ckpt", str(run / "image.png")]),
    "evaluate": lambda run: evaluate.main([str(run)]),
    "evaluate a file": lambda run: evaluate.main([f"{run}/checkpoints/last.ckpt", "data=synthetic"]),
}


@pytest.mark.parametrize("forced", ["0", "1"])
@pytest.mark.parametrize("make", [zipped, of_old_pytorch, bare])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_pickle_never_acts(
    run: Path, command: str, make: Callable[..., None], forced: str,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from PIL import Image

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", forced)
    Image.new("L", (8, 8)).save(run / "image.png")
    acted = run / "acted"
    for path in checkpoints(run):
        make(path, torch.load(path, weights_only=True), Acts(acted))
    assert COMMANDS[command](run) in (1, 2)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("dlintro: ")]
    assert len(said) == 1 and ".ckpt" in said[0], said
    assert not acted.exists()


def of_another_model(content: dict[str, Any]) -> None:
    content["state_dict"] = {f"other.{key}": value for key, value in content["state_dict"].items()}


def of_another_number_of_classes(content: dict[str, Any]) -> None:
    for key, value in content["state_dict"].items():
        if len(value) == 10:
            content["state_dict"][key] = value[:7].clone()


def without_its_parts(content: dict[str, Any]) -> None:
    for key in ("loops", "optimizer_states", "dlintro"):
        content.pop(key, None)


def of_other_types(content: dict[str, Any]) -> None:
    content["state_dict"] = {7: "weights"}


def without_its_curves(content: dict[str, Any]) -> None:
    content["curves"] = {"sizes": {}, "seconds": 1.0}


def before_the_first_byte(content: dict[str, Any]) -> None:
    content["curves"]["sizes"]["metrics.csv"] = -1


def put(value: Any, *keys: Any) -> Callable[[dict[str, Any]], None]:
    """Put `value` in the place that the keys lead to. A function is called with the old value."""

    def spoil(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value(content[keys[-1]]) if callable(value) else value

    return spoil


SPOILS = [of_another_model, of_another_number_of_classes, without_its_parts, of_other_types, without_its_curves,
          before_the_first_byte]  # fmt: skip
PARTS = ("loops", "callbacks", "global_step", "epoch", "optimizer_states", "lr_schedulers", "random_state", "dlintro")
SPOILS += [put(value, part) for part in PARTS for value in (None, {}, "text", [{}])]
LOOPS, ADAM = ("loops", "fit_loop"), ("optimizer_states", 0)
SPOILS += [
    put(11, "global_step"), put(-1, "global_step"), put(2**80, "global_step"), put(10.0, "global_step"),
    put(0, "epoch"), put(319, "dlintro", "images_seen"), put("many", "dlintro", "images_seen"),
    put(9, *LOOPS, "epoch_loop.batch_progress", "total", "processed"),
    put(-1, *LOOPS, "epoch_loop.batch_progress", "current", "ready"),
    put(2, *LOOPS, "epoch_loop.batch_progress", "current", "processed"),
    put(7, *LOOPS, "epoch_progress", "current", "processed"),
    put(None, *LOOPS, "epoch_loop.automatic_optimization.optim_progress"),
    put([{"epoch": 1, "batches": 2}], *LOOPS, "state_dict", "combined_loader"),
    put([], *LOOPS, "state_dict", "combined_loader"),
    put({}, "callbacks", "Checkpoints"), put("best", "callbacks", "Checkpoints", "best_acc"),
    put(float("nan"), "callbacks", "Throughput", "seconds"),
    put([], "optimizer_states"), put({}, *ADAM, "state"), put([], *ADAM, "param_groups"),
    put(torch.zeros(3), *ADAM, "state", 0, "exp_avg"), put(torch.zeros(()).expand(2**40), *ADAM, "state", 0, "exp_avg"),
    put(lambda old: old * torch.nan, *ADAM, "state", 0, "exp_avg_sq"), put("fast", *ADAM, "param_groups", 0, "lr"),
    put(float("inf"), *ADAM, "param_groups", 0, "lr"), put([], "lr_schedulers"),
    put(3, "lr_schedulers", 0, "last_epoch"),
    put([0.0], "dlintro", "tally", "epoch"), put({"val/acc": "good"}, "dlintro", "values"),
    put(torch.zeros(3, dtype=torch.uint8), "random_state", "cpu"),
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_checkpoint_of_another_run_is_one_line(
    run: Path, spoil: Callable[[dict[str, Any]], None], capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever was altered, no file but the log changes until Lightning has restored everything."""
    for path in checkpoints(run):
        if path.name != "best.ckpt":
            content = torch.load(path, weights_only=True)
            spoil(content)
            torch.save(content, path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}
    assert entry.main([f"resume={run}"]) == 1
    said = capfd.readouterr().err.splitlines()
    assert len([line for line in said if line.startswith("dlintro: ")]) == 1, said
    assert "last.ckpt" in said[-1] and "Traceback" not in "".join(said), said
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "train.log"}
    assert after == before


@pytest.mark.parametrize("content", [{7: torch.zeros(2)}, {"network.0.weight": "text"}, {"state_dict": None}])
def test_what_is_no_state_dict_is_one_line(
    content: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    torch.save(content, tmp_path / "theirs.pt")
    words = [*SMALL, "data.shape=[3,32,32]", "model=vgg16", f"model.weights={tmp_path}/theirs.pt"]
    assert entry.main([*words, f"hydra.run.dir={tmp_path}/new"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and "theirs.pt: not a state dict" in said[0], said


def test_a_record_steers_no_terminal(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(record | {"device": "\x1b]52;c;ZXZpbA==\x07"}))
    assert entry.main([f"resume={run}"]) == 0
    said = capfd.readouterr()
    assert "\\x1b]52" in said.err and "\x1b]52" not in said.err + said.out


@pytest.mark.parametrize("name", ["record.json", ".hydra/overrides.yaml"])
def test_endless_nesting_is_one_line(run: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (run / name).write_text("[" * 100_000)
    assert entry.main([f"resume={run}"]) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and name in said and "damaged" in said, said


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = {  # spoilt configurations, records, sweep.json files and curves
    ".hydra/config.yaml": (
        "seed: 2024-13-45", "seed: 2024-01-01", "seed: -1", "seed: 1.0e+308", "seed: .nan", f"seed: {'9' * 10_000}",
        f"seed: 0x{'f' * 9_000}", "data: {batch_size: -1}", "a: &a [*a]", "a: &a {b: *a}", BOMB, "a: " + "[" * 100_000,
        "a: " + "{a: " * 50_000, "- " * 50_000, "a: !!binary aGk=", "a: !!python/name:os.system", 'a: "\\0"', "a: [",
        "a: " + "x" * 2**20, "[]", "", "? [a]\n: b", b"\xff\xfe\x00",
    ),
    "record.json": (
        "{}", "[]", "", "{", "[" * 100_000, '{"a":' * 100_000, '"ok"', b"\xff", '{"status": "hacked"}',
        *(f'{{"status": "ok", {wrong}}}' for wrong in (
            '"steps": -1', '"steps": 1.5', '"steps": 1e308', '"val/acc": 1.5', '"val/loss": 1e308', '"val/loss": NaN',
            f'"steps": {"9" * 10_000}', f'"seed": {"9" * 4_000}', '"device": 5', '"device": "\\ud800"',
            '"versions": []',
            '"device": "\\u0000"', '"test_images": -Infinity', f'"more": {"[" * 900}{"]" * 900}',
        )),
    ),
    "metrics.csv": (
        "step,images,val/acc\n1,8,1e308\n", "step,images,val/acc\n-1,8,0.5\n", "step,images,val/acc\n1,8,text\n",
        f"step,images,val/acc\n1,{'9' * 10_000},0.5\n", "step,images,val/acc\n1,8,-0.5\n", b"step,val/acc\n1,\xff\n",
        f'step,val/acc\n1,"{"x" * 200_000}"\n',
    ),
    "sweep.json": ("{}", "[]", "[" * 100_000, '{"jobs": [{"name": "../up", "overrides": []}]}', '{"jobs": [7]}',
                   b"\xff"),
}  # fmt: skip
PLACES: dict[str, Callable[[Path], object]] = {
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path.name),
    "huge": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40),
    "nowhere": lambda path: path.symlink_to("nowhere"),
}


def spoilt(folder: Path, name: str, spoil: object) -> Path:
    """Replace one file in the folder of a run or sweep by something else."""
    if name == "sweep.json":
        folder.mkdir()
    else:
        write_run(folder, {"seed": 1})
        (folder / name).unlink()
    if callable(spoil):
        spoil(folder / name)
    else:
        (folder / name).write_bytes(spoil if isinstance(spoil, bytes) else str(spoil).encode())
    return folder


@pytest.mark.parametrize("name", TEXTS)
def test_a_damaged_folder_is_a_row_of_the_report_that_says_why(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each is reported in one line and at once, without a traceback, a crash, a full memory or a wait."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "good", {"seed": 0})
    spoils = {**dict(enumerate(TEXTS[name])), **PLACES}
    bad = [spoilt(tmp_path / f"bad-{key}", name, spoil) for key, spoil in spoils.items()]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**31, hard))
    began = time.monotonic()
    try:
        assert report.main([*map(str, bad), "good", "--out", "out"]) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert time.monotonic() - began < 60
    assert capfd.readouterr().err == ""
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert [row["name"] for row in rows.values() if row["status"] != "damaged"] == ["good"]
    for folder in bad:
        said = rows[folder.name]["error"]
        assert name in said and ("damaged" in said or "can't be read" in said) and "\n" not in said, said


@pytest.mark.parametrize("spoil", ["[" * 100_000, "seed: 2024-13-45", BOMB, "a: &a [*a]", b"\xff", *PLACES])
@pytest.mark.parametrize("name", ["record.json", ".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml"])
def test_whatever_reads_a_damaged_run_says_so_in_one_line(
    name: str, spoil: str | bytes, run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.new("L", (8, 8)).save("image.png")
    (run / name).unlink()
    if spoil in PLACES:
        PLACES[str(spoil)](run / name)
    else:
        (run / name).write_bytes(spoil if isinstance(spoil, bytes) else spoil.encode())
    commands = [lambda: entry.main([f"resume={run}"])]
    if name != ".hydra/config.yaml":
        commands.append(lambda: entry.main([f"rerun={run}"]))
    if name == "record.json":
        commands += [lambda: evaluate.main([str(run)]), lambda: predict.main([str(run), "image.png"])]
    for command in commands:
        assert command() in (1, 2)
        said = capfd.readouterr().err
        assert said.count("\n") == 1 and Path(name).name in said and "Traceback" not in said, said
    assert not list(run.glob(".hydra-resume-*"))


def test_a_word_that_nests_without_end_is_one_line(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [f"data.shape={'[' * 3000}{']' * 3000}"]
    assert entry.main([*SMALL, *words]) == 2
    (run / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    assert entry.main([f"resume={run}"]) == 2
    assert capfd.readouterr().err.count("\n") == 2


def test_a_configuration_that_refers_to_itself_without_end_is_one_line(
    run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = [f"a{n}: '{f'${{a{n + 1}}}' * 2}'" for n in range(40)]
    (run / ".hydra" / "config.yaml").write_text("\n".join([*lines, "a40: xxxxxxxx"]))
    assert entry.main([f"resume={run}"]) == 2
    assert "config.yaml is missing or damaged" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["train.log", "metrics.csv", "checkpoints/last.partial", "record.partial"])
def test_nothing_waits_at_a_pipe_in_a_run_folder(run: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert entry.main([f"resume={run}"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and f"{name} is no ordinary file" in said, said


def test_a_received_sweeps_report_is_not_written_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_sweep(tmp_path / "theirs", {"seed": [0, 1]})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "holiday.png").write_text("precious")
    (tmp_path / "theirs" / "plots").symlink_to(tmp_path / "mine")
    (tmp_path / "theirs" / "report.html").write_text('<figure id="holiday">')
    assert report.main([str(tmp_path / "theirs")]) == 2
    assert "plots: a link" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["holiday.png"]


@pytest.mark.parametrize("name", ["record.partial", "train.log", "metrics.csv", "checkpoints/last.partial"])
def test_a_link_out_of_a_run_folder_is_not_written_through(
    run: Path, name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(mine)
    assert entry.main([f"resume={run}"]) == 2
    assert "is a link that leads out" in capfd.readouterr().err and mine.read_text() == "precious"


TARGETS = (
    "os.system",
    "dlintro.run.train.Path.unlink",
    "lightning.pytorch.core.saving.torch.load",
    "torch.load",
    "torch.hub.load",
    "torch.nn.Linear",
    "lightning.Trainer",
    "dlintro.models.FlatNet.load_from_checkpoint",
    "subprocess.run",
    "dlintro",
)


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_in_a_config_file_is_judged_by_what_it_is(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    for group, content in (
        ("experiment", f"# @package _global_\nmodel:\n  _target_: {target}\n"),
        ("callbacks", f"evil:\n  _target_: {target}\n"),
    ):
        (tmp_path / "mine" / group).mkdir(parents=True)
        (tmp_path / "mine" / group / "evil.yaml").write_text(content)
        words = ["--config-dir", "mine", *SMALL, f"{group}=evil"]
        monkeypatch.setattr(sys, "argv", ["dlintro-train"])
        assert entry.main(words) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1 and target in said, said
    assert not list((tmp_path / "outputs").rglob("record.json"))


@pytest.mark.parametrize("name", [".lock", "train.log"])
def test_a_folder_in_a_files_place_is_one_line(run: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    (run / name).unlink()
    (run / name).mkdir()
    assert entry.main([f"resume={run}"]) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and name in said and "Is a directory" in said, said


@pytest.mark.parametrize("content", [None, "- a list", "5", "", "a: ["])
def test_a_run_without_its_configuration_says_what_to_type(
    run: Path, content: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    file = run / ".hydra" / "config.yaml"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert entry.main([f"resume={run}"]) == 2
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "config.yaml is missing or damaged" in said and "rerun=run" in said, said
    assert not list(run.glob(".hydra-resume-*"))
    if content is not None:
        assert evaluate.main([str(run)]) == 2
        said = capfd.readouterr().err
        assert said.count("\n") == 1 and "data=synthetic" in said, said
        assert evaluate.main([str(run), "data=synthetic", "data.shape=[1,8,8]", "--json"]) == 0
        capfd.readouterr()
    assert report.main([str(run), "--out", "out"]) == 0
    assert "1 damaged" in Path("out", "report.html").read_text()
    assert entry.main([f"rerun={run}", "hydra.run.dir=again"]) == 0  # needs only the words of the run
