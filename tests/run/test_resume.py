"""Tests that a resumed run equals one that never stopped: weights bit for bit, curves point by point."""

import csv
import errno
import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlintro.callbacks import checkpoints
from dlintro.callbacks.checkpoints import Checkpoints
from dlintro.callbacks.throughput import Throughput
from dlintro.commands import train as entry
from dlintro.errors import Interrupted, RunError, UsageError
from dlintro.run.logger import COLUMNS, event_files, first_name
from tests.conftest import SMALL, composed

Run = Callable[..., Path]
SETTINGS = (*SMALL, "model=mnist_cnn", "model.widths=[4,8,16]", "model.dropout=0.2", "trainer.max_epochs=3",
            "trainer.log_every_n_steps=3", "data.augment=[crop,rotate]")  # 7 steps an epoch  # fmt: skip


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Presses Ctrl-C during the batch after `step` steps."""
    original, presses = Throughput.on_train_batch_start, []

    def press(self: Any, trainer: Any, *rest: Any) -> None:
        original(self, trainer, *rest)
        if trainer.global_step == step and not presses:
            presses.append(step)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Throughput, "on_train_batch_start", press)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def curve(folder: Path) -> list[tuple[str, ...]]:
    """Return all points except those that measure time or memory."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if ("/" in name or name == "noise_scale") and "second" not in name]
    names = [name for name in names if "memory" not in name]
    return [(row["step"], row["images"], row["epoch"], name, row[name]) for row in rows for name in names if row[name]]


WHOLE: dict[tuple[str, ...], Path] = {}  # uninterrupted runs, made once per setting

CASES = [(step, ()) for step in (1, 6, 7, 10, 20)]  # 7 and 14 end an epoch; the first step after 6 is its last
CASES += [(step, ("optim.ema=0.9", "data.num_workers=2")) for step in (3, 20)]
CASES += [(step, ("trainer.accumulate_grad_batches=2",)) for step in (2, 3)]  # 2 is in the middle of a step
# An evaluation after every other step (64 images), so that a stop meets one to come, one just done, and an epoch's end.
GRID = ("trainer.eval_images=64",)
CASES += [(step, GRID) for step in (1, 2, 6, 7, 9)]
CASES += [(step, ("trainer.eval_images=50", "optim.ema=0.9", "checkpoint.every_steps=1")) for step in (1, 5, 13)]
CASES += [(3, ("trainer.eval_images=100", "trainer.accumulate_grad_batches=2"))]
CASES += [(step, ("trainer.max_steps=19",)) for step in (3, 6, 10, 13)]  # 6 and 13: stopped at an epoch's end
CASES += [(10, ("trainer.max_time=00:01:00:00", "trainer.early_stopping=5", "trainer.gradient_clip_val=1"))]
CASES += [(10, ("data.drop_last=true", "data.batch_size=48"))]
# Parts of the network that learn later, slower or never: stopped in the epoch of the head alone, at its end, and after.
APART = ("model.batch_norm=true", "optim.weight_decay=0.01", "optim.decay_biases=false", "optim.ema=0.9")
CASES += [(step, (*APART, "optim.head_epochs=1", "optim.backbone_lr=0.001")) for step in (3, 7, 10)]
CASES += [(10, ("model.batch_norm=true", "model.freeze=backbone", "optim.name=sgd", *GRID))]
CASES += [(10, ("data.balance=classes", "trainer.best=val/loss"))]


@pytest.mark.parametrize(
    ("step", "extra"), CASES, ids=lambda value: "+".join(value) or "plain" if isinstance(value, tuple) else str(value)
)
def test_a_resumed_run_equals_the_undisturbed_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, extra: tuple[str, ...]
) -> None:
    settings = (*SETTINGS, *extra)
    if extra not in WHOLE:
        WHOLE[extra] = run(*settings)
    whole, stopped = WHOLE[extra], tmp_path / "stopped"
    with monkeypatch.context() as pressed:
        stop_at(step, pressed)
        with pytest.raises(Interrupted):
            run(*settings, folder=stopped)
    assert json.loads((stopped / "record.json").read_text())["status"] == "interrupted"
    run(*settings, f"resume={stopped}", folder=stopped)

    old, new = weights(whole), weights(stopped)
    assert [key for key in old if not torch.equal(old[key], new[key])] == []
    assert curve(stopped) == curve(whole)
    records = [json.loads((folder / "record.json").read_text()) for folder in (whole, stopped)]
    for key in (
        "status",
        "steps",
        "epochs",
        "train/loss",
        "val/acc",
        "test/acc",
        "test/loss",
        "best/epoch",
        "best/test/acc",
    ):
        assert records[0][key] == records[1][key], key


@pytest.mark.parametrize(
    "extra",
    [
        ("optim.schedule=none", "trainer.max_epochs=20", "trainer.early_stopping=2"),
        ("trainer.max_steps=19",),
        ("trainer.max_epochs=null", "trainer.max_steps=19"),
    ],
    ids="+".join,
)
def test_a_run_that_died_in_its_test_is_only_tested_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: tuple[str, ...]
) -> None:
    """This holds however the run ended. If validation chose an earlier epoch, its weights are tested too. The second
    test's points replace the first one's."""
    settings = (*SETTINGS, "optim.lr=0.1", *extra)  # with this large rate the last epoch isn't the best
    whole, died = run(*settings), tmp_path / "died"
    with monkeypatch.context() as patched:
        patched.setattr(
            "dlintro.run.train.write_hyperparameters", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run(*settings, folder=died)
    run(*settings, f"resume={died}", folder=died)
    assert all(torch.equal(tensor, weights(whole)[key]) for key, tensor in weights(died).items())
    assert curve(died) == curve(whole)
    one, other = (json.loads((folder / "record.json").read_text()) for folder in (whole, died))
    names = ("steps", "epochs", "ended_by", "best/epoch", "test/acc", "best/test/acc", "best/test/loss")
    assert [one[name] for name in names] == [other[name] for name in names]
    assert one["best/epoch"] + 1 < one["epochs"] and one["best/test/loss"] != one["test/loss"]


EVERY_STEP = (*SETTINGS, "checkpoint.every_steps=1")


@pytest.fixture
def stopped(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stop a run after 10 steps, with a checkpoint after each step."""
    folder = tmp_path / "stopped"
    with monkeypatch.context() as pressed:
        stop_at(9, pressed)
        with pytest.raises(Interrupted):
            run(*EVERY_STEP, folder=folder)
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    """Damage a weight, which neither the zip file's directory nor its pickle would notice."""
    content = bytearray(path.read_bytes())
    state = torch.load(path, weights_only=True)["state_dict"]
    weights = max(state.values(), key=lambda tensor: tensor.numel()).numpy().tobytes()
    content[content.index(weights) + len(weights) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, flip_a_bit, lambda path: path.write_bytes(b""), Path.unlink])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before_and_says_so(
    run: Run, stopped: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(*EVERY_STEP)
    damage(stopped / "checkpoints" / "last.ckpt")
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    assert "resuming from the checkpoint before the last one" in caplog.text
    assert all(torch.equal(tensor, weights(whole)[key]) for key, tensor in weights(stopped).items())
    assert curve(stopped) == curve(whole)
    left = {path.name for path in (stopped / "checkpoints").iterdir()} - {"damaged.ckpt"}
    assert left == {"best.ckpt", "last.ckpt"}


def test_the_checkpoint_gone_back_to_stays_until_another_one_is_whole(
    run: Run, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged last checkpoint never replaces the good one: here the first save stops before its renaming."""
    whole = run(*EVERY_STEP)
    cut(stopped / "checkpoints" / "last.ckpt")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(os, "fsync", fail_in_a_checkpoint)
        with pytest.raises(RunError, match=r"last\.ckpt: can't be written \(No space left"):
            run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    assert curve(stopped) == curve(whole)


def fail_in_a_checkpoint(descriptor: int) -> None:
    if Path(f"/proc/self/fd/{descriptor}").readlink().name == "last.partial":
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_damaged_best_checkpoint_costs_no_run(
    run: Run, stopped: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    """The best epoch is then one of the following ones."""
    damage(stopped / "checkpoints" / "best.ckpt")
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    record = json.loads((stopped / "record.json").read_text())
    assert record["status"] == "ok" and record["best/epoch"] in (1, 2)
    assert ("best.ckpt: damaged" in caplog.text) == (damage is cut)


def test_a_run_at_work_is_left_alone(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last checkpoint may be about to be renamed, so nobody else may call it gone and rename another one."""
    monkeypatch.setattr("sys.argv", ["dlintro-train"])
    (stopped / ".hydra").mkdir()
    (stopped / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(EVERY_STEP)))
    (stopped / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"cwd": str(stopped.parent)}}}))
    cut(stopped / "checkpoints" / "last.ckpt")
    before = sorted(path for path in stopped.rglob("*") if path.name != ".lock")
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(str(stopped / ".lock"),))
    process.start()
    while not (stopped / "held").exists():
        time.sleep(0.05)
    (stopped / "held").unlink()
    assert entry.main([f"resume={stopped}"]) == 2
    process.kill()
    assert sorted(path for path in stopped.rglob("*") if path.name != ".lock") == before


def hold(lock: str) -> None:
    with FileLock(lock):
        Path(lock).with_name("held").touch()
        time.sleep(60)


NET = """
import random
import numpy as np
import torch
from torch import nn

class Noisy(nn.Module):
    def forward(self, x):
        return x * random.random() * np.random.rand() if self.training else x

def make_model(shape, k):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, k), Noisy())
"""


def test_pythons_and_numpys_random_numbers_go_on_too_and_an_edited_file_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "net.py").write_text(NET)
    words = (*SMALL, "model=file", f"model.path={tmp_path}/net.py", "trainer.max_epochs=2")
    whole, folder = run(*words), tmp_path / "stopped"
    with monkeypatch.context() as pressed:
        stop_at(9, pressed)
        with pytest.raises(Interrupted):
            run(*words, folder=folder)
    (tmp_path / "net.py").write_text(NET + "# edited")
    run(*words, f"resume={folder}", folder=folder)
    assert curve(folder) == curve(whole)
    assert caplog.text.count("model.path: edited since the run began") == 1
    record = json.loads((folder / "record.json").read_text())
    assert record["differences"] == ["model.path: edited since the run began, so it goes on with another network"]


@pytest.mark.parametrize("extra", ["optim.schedule=step", "optim.warmup=0.1", "optim.schedule=cosine"])
def test_a_schedule_is_not_resumed_for_longer(run: Run, stopped: Path, extra: str) -> None:
    """The checkpoint has the files' lengths."""
    settings = composed(*SETTINGS, extra, "optim.schedule=none" if "warmup" in extra else extra)
    (stopped / ".hydra").mkdir()
    (stopped / ".hydra" / "config.yaml").write_text(yaml.safe_dump(settings.plain()))
    entry.check_same_run(settings, stopped)
    longer = replace(settings, trainer=replace(settings.trainer, max_epochs=5))
    with pytest.raises(UsageError, match=r"trainer\.max_epochs: 3 -> 5"):
        entry.check_same_run(longer, stopped)


def test_averaged_weights_go_with_batch_norm(run: Run) -> None:
    """Its count of batches is a whole number, which has no average."""
    words = (*SMALL, "data.shape=[3,32,32]", "data.train_size=96", "model=torchvision", "model.name=resnet18")
    folder = run(*words, "optim.ema=0.9", "trainer.max_epochs=1")
    assert json.loads((folder / "record.json").read_text())["status"] == "ok"
    counts = [value for key, value in weights(folder).items() if key.endswith("num_batches_tracked")]
    assert counts and all(int(count) == 3 for count in counts)


def test_a_run_does_not_go_on_with_other_images(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is changed and a message says what differs, even if an image has new bytes under its old name, size and
    time."""
    from PIL import Image

    for label in range(2):
        (tmp_path / "set" / str(label)).mkdir(parents=True)
        for number in range(100):
            Image.new("L", (8, 8), 100 * label + number).save(tmp_path / "set" / str(label) / f"{number}.bmp")
    words = ("data=image_folder", f"data.path={tmp_path}/set", "data.batch_size=32", "model=flatnet", "accelerator=cpu")
    folder = tmp_path / "stopped"
    with monkeypatch.context() as pressed:
        stop_at(6, pressed)
        with pytest.raises(Interrupted):
            run(*words, folder=folder)
    cut(folder / "checkpoints" / "best.ckpt")  # a resumed run renames it
    before = contents(folder)
    seven, new = (tmp_path / "set" / "0" / name for name in ("7.bmp", "new.bmp"))
    seven.rename(new)
    with pytest.raises(UsageError, match=r"not those that it began with \(1 added, 1 gone, 0 changed\); rerun=stopped"):
        run(*words, f"resume={folder}", folder=folder)
    new.rename(seven)
    original, times = seven.read_bytes(), seven.stat()
    seven.write_bytes((tmp_path / "set" / "1" / "7.bmp").read_bytes())
    os.utime(seven, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert seven.stat().st_size == times.st_size
    with pytest.raises(UsageError, match=r"\(0 added, 0 gone, 1 changed\)"):
        run(*words, f"resume={folder}", folder=folder)
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({k: v for k, v in record.items() if k != "images_fingerprint"}))
    with pytest.raises(UsageError, match=r"an earlier version made the run.*; rerun=stopped"):
        run(*words, f"resume={folder}", folder=folder)
    (folder / "record.json").write_bytes(before["record.json"])
    assert contents(folder) == before
    seven.write_bytes(original)
    run(*words, f"resume={folder}", folder=folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ctrl_c_saves_where_nobody_reads_what_is_said(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `scripts/train | tee log`, Ctrl-C ends tee, too."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            if "stopping" in text:
                raise BrokenPipeError
            return len(text)

    stop_at(3, monkeypatch)
    monkeypatch.setattr("sys.stdout", Gone())
    with pytest.raises(Interrupted):
        run(*SETTINGS, folder=tmp_path / "stopped")
    assert json.loads((tmp_path / "stopped" / "record.json").read_text())["status"] == "interrupted"
    assert (tmp_path / "stopped" / "checkpoints" / "last.ckpt").is_file()


def test_without_a_whole_checkpoint_the_file_is_named(run: Run, stopped: Path) -> None:
    for path in (stopped / "checkpoints").glob("*.ckpt"):
        cut(path)
    with pytest.raises(RunError, match=r"last\.ckpt: damaged.*rerun="):
        run(*EVERY_STEP, f"resume={stopped}", folder=stopped)


def test_a_line_that_a_power_cut_tore_is_dropped(run: Run, stopped: Path) -> None:
    whole = run(*EVERY_STEP)
    with (stopped / "metrics.csv").open("a") as file:
        file.write("11,352,1,0.")
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    assert curve(stopped) == curve(whole)


def changed(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / "metrics.csv").write_bytes(change((folder / "metrics.csv").read_bytes()))


def without_events(folder: Path) -> None:
    for path in event_files(folder):
        if not path.name.endswith(".2"):
            path.unlink()


def renamed(folder: Path) -> None:
    """Make a file with a name that TensorBoard's writer might have chosen."""
    path = next(path for path in event_files(folder) if path.parent == folder)
    path.rename(f"{path}.1")


GAPS: dict[str, Callable[[Path], object]] = {
    "cut in mid-line": changed(lambda content: content[:-30]),
    "emptied": changed(lambda content: b""),
    "without its header": changed(lambda content: content[content.index(b"\n") + 1 :]),
    "its header cut": changed(lambda content: content[:9]),
    "two rows grown together": changed(lambda content: content[::-1].replace(b"\n\r", b"", 2)[::-1] + b"\r\n"),
    "no text": changed(lambda content: content[:-200] + b"\xff" * 200),
    "gone": lambda folder: (folder / "metrics.csv").unlink(),
    "events gone": without_events,
    "events renamed": renamed,
}


@pytest.mark.parametrize("what", GAPS)
def test_a_gap_in_the_curves_is_said_in_a_line_and_mended(
    run: Run, stopped: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The remaining rows are whole and have a header. Nothing is deleted that isn't the run's own."""
    theirs = ["events.out.tfevents.1.copy", "by_images/events.out.tfevents.bak", "metrics.csv.bak", "notes.txt"]
    (stopped / "by_images").mkdir()
    for name in theirs:
        (stopped / name).write_text("mine")
    [own] = [path for path in stopped.glob("events*") if path.name not in theirs]
    copy = own.with_name(f"{own.name}.2")
    copy.write_bytes(own.read_bytes())
    GAPS[what](stopped)
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    said = [record.message for record in caplog.records if "the curves have a gap" in record.message]
    assert len(said) == 1, said
    assert all(("events" in line) == ("events" in what) for line in said)
    with (stopped / "metrics.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header == list(COLUMNS) and rows and all(len(row) == len(header) for row in rows)
    steps = [int(row[0]) for row in rows]
    assert steps == sorted(steps) and steps[-1] == 21
    assert all((stopped / name).read_text() == "mine" for name in theirs)
    # Two starts within a second: the second one renames the files of the first.
    assert copy.name in [first_name(path) for path in event_files(stopped)]


def test_a_row_after_a_gap_is_not_written_twice(run: Run, stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One start repaired the file and ended before its first checkpoint."""
    whole = run(*EVERY_STEP)
    (stopped / "metrics.csv").write_bytes(b"")
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail_in_a_checkpoint)
        with pytest.raises(RunError):
            run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    assert curve(stopped) == [point for point in curve(whole) if int(point[0]) > 10]


def test_an_earlier_versions_metrics_csv_keeps_its_columns(run: Run, stopped: Path) -> None:
    content = (stopped / "metrics.csv").read_text().replace("train/lr,", "old,", 1)
    (stopped / "metrics.csv").write_text(content)
    run(*EVERY_STEP, f"resume={stopped}", folder=stopped)
    with (stopped / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "old" in rows[0] and "train/lr" not in rows[0] and None not in rows[-1]
    assert [row["step"] for row in rows if row["test/acc"]] == ["21"]


def test_a_long_evaluation_is_not_waited_for(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run stops within an evaluation, saves nothing there, and resumes from the step before it."""
    whole, folder = run(*EVERY_STEP), tmp_path / "stopped"
    with monkeypatch.context() as hurried:
        hurried.setattr(checkpoints, "PATIENCE", 0.0)
        stop_at(13, hurried)
        with pytest.raises(Interrupted):
            run(*EVERY_STEP, folder=folder)
        assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 13
    run(*EVERY_STEP, f"resume={folder}", folder=folder)
    assert all(torch.equal(tensor, weights(whole)[key]) for key, tensor in weights(folder).items())
    assert curve(folder) == curve(whole)


def test_an_evaluation_within_an_epoch_is_left_where_something_was_saved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*SETTINGS, *GRID, "checkpoint.every_steps=1")
    whole, folder = run(*words), tmp_path / "stopped"
    with monkeypatch.context() as hurried:
        hurried.setattr(checkpoints, "PATIENCE", 0.0)
        stop_at(8, hurried)
        with pytest.raises(Interrupted):
            run(*words, folder=folder)
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert saved == 8, "the evaluation comes after the ninth step, and was not waited for"
    run(*words, f"resume={folder}", folder=folder)
    assert curve(folder) == curve(whole)


def test_an_evaluation_within_an_epoch_is_waited_for_where_nothing_was_saved(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = run(*SETTINGS, *GRID), tmp_path / "stopped"
    with monkeypatch.context() as hurried:
        hurried.setattr(checkpoints, "PATIENCE", 0.0)
        stop_at(1, hurried)
        with pytest.raises(Interrupted):
            run(*SETTINGS, *GRID, folder=folder)
    run(*SETTINGS, *GRID, f"resume={folder}", folder=folder)
    assert curve(folder) == curve(whole)


def test_before_an_evaluation_the_run_is_saved_where_the_last_time_is_long_ago(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = Checkpoints._save
    monkeypatch.setattr(checkpoints, "LEAST_APART", 0.0)
    monkeypatch.setattr(
        Checkpoints, "_save", lambda self, trainer, path: saved.append(trainer.global_step) or save(self, trainer, path)
    )
    run(*SETTINGS)
    assert sorted(set(saved)) == [6, 7, 13, 14, 20, 21]


def test_with_the_clock_set_back_the_curves_have_no_point_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorBoard reads a run's files in the order of their names, which start with the time."""
    folder = tmp_path / "stopped"
    stopped_at, real = (5, 10), time.time
    for sitting, step in enumerate((*stopped_at, None)):
        with monkeypatch.context() as changed:
            changed.setattr(time, "time", lambda back=sitting: real() - 3600 * back)
            words = (*EVERY_STEP, *([f"resume={folder}"] if sitting else []))
            if step is None:
                run(*words, folder=folder)
                continue
            stop_at(step, changed)
            with pytest.raises(Interrupted):
                run(*words, folder=folder)
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    steps = [event.step for event in events.Scalars("train/loss_step")]
    assert steps == [3, 6, 7, 10, 13, 14, 17, 20, 21]
