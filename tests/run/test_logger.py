"""What a run leaves for the dashboard, read back through TensorBoard's own reader."""

import csv
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2

from dlintro.callbacks.checkpoints import AtomicCheckpointIO
from dlintro.models import Classifier
from dlintro.models.classifier import Diverged
from tests.conftest import SMALL

SCALARS = ("train/loss", "train/acc", "val/loss", "val/acc", "train_eval/loss", "train_eval/acc", "test/loss",
           "test/acc", "train/loss_step", "train/acc_step", "train/lr",
           "train/images_per_second", "memory/ram_bytes")  # fmt: skip


class Clock:
    """In place of the module `time`."""

    now = 1000.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from dlintro.run.train import train
    from tests.conftest import composed

    folder = tmp_path_factory.mktemp("run")
    settings = composed(
        *SMALL, "model=mnist_cnn", "model.widths=[4,8,16]", "trainer.log_every_n_steps=3", "trainer.max_epochs=3"
    )
    train(settings, folder, "in a test", by_images=True)
    return folder


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def session(folder: Path, which: str) -> Any:
    """The start or the end of the run's session, as HParams reads it."""
    content = events(folder).SummaryMetadata(f"_hparams_/session_{which}_info").plugin_data.content
    return getattr(plugin_data_pb2.HParamsPluginData.FromString(content), f"session_{which}_info")


def test_all_curves_of_the_contract_are_there_against_steps_and_images(folder: Path) -> None:
    by_steps, by_images = events(folder), events(folder / "by_images")
    for tag in SCALARS:
        points = by_steps.Scalars(tag)
        assert points and all(math.isfinite(point.value) for point in points), tag
        if not tag.startswith(("memory/", "test/")):
            assert [p.value for p in by_images.Scalars(f"by_images/{tag}")] == [p.value for p in points]
    assert [p.step for p in by_steps.Scalars("val/acc")] == [7, 14, 21]
    assert [p.step for p in by_images.Scalars("by_images/val/acc")] == [200, 400, 600]
    assert [p.step for p in by_steps.Scalars("train/loss_step")][:3] == [3, 6, 7]


def test_the_csv_holds_the_same_numbers_and_the_record_the_last_of_them(folder: Path) -> None:
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    record = json.loads((folder / "record.json").read_text())
    for tag in ("train/loss", "val/acc", "test/acc"):
        values = [float(row[tag]) for row in rows if row[tag]]
        assert values == pytest.approx([p.value for p in events(folder).Scalars(tag)], rel=1e-6)
        assert values[-1] == record[tag]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_every_column_of_the_csv_is_of_its_own_row(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    """With a clock on which each batch takes a second, half of it before the loss is known. Stopped in the third epoch
    of four: the test's rows are of that one too."""
    clock = Clock()
    monkeypatch.setattr("dlintro.callbacks.throughput.time", clock)
    forward, backward = Classifier.forward, Classifier.backward

    def slow_forward(self: Classifier, images: torch.Tensor) -> torch.Tensor:
        clock.now += 0.5
        return forward(self, images)

    def slow_backward(self: Classifier, *arguments: Any) -> None:
        clock.now += 0.5
        backward(self, *arguments)

    monkeypatch.setattr(Classifier, "forward", slow_forward)
    monkeypatch.setattr(Classifier, "backward", slow_backward)
    steps = 17 if accumulate == 1 else 9
    words = ("trainer.max_epochs=4", f"trainer.max_steps={steps}", "trainer.log_every_n_steps=3", "optim.schedule=step")
    folder = run(*SMALL, "model=flatnet", *words, f"trainer.accumulate_grad_batches={accumulate}", "optim.lr=0.01")
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    per_epoch = 7 if accumulate == 1 else 4
    by_step = events(folder)
    lengths = []
    for row in rows:
        step = int(row["step"])
        epoch, within = divmod(step - 1, per_epoch)
        images, batches = min(200, 32 * accumulate * (within + 1)), min(7, accumulate * (within + 1))
        assert row["images"] == 200 * epoch + images and row["epoch"] == epoch + 1, row
        assert row["train_seconds"] == 7 * epoch + batches, row
        if "train/loss_step" in row:
            assert row["train/lr"] == pytest.approx(0.01 * 0.1 ** ((step - 1) // math.ceil(steps / 3)))
            before = lengths[-1] if lengths else (0.0, 0.0)
            lengths.append((row["images"], row["train_seconds"]))
            images, seconds = (now - then for now, then in zip(lengths[-1], before, strict=True))
            assert row["train/images_per_second"] == pytest.approx(images / seconds) and row["memory/ram_bytes"] > 1e8
    for name in ("train/loss_step", "train/lr", "train/images_per_second", "train/loss", "val/acc", "test/acc"):
        points = [(point.step, pytest.approx(point.value)) for point in by_step.Scalars(name)]
        assert [(row["step"], row[name]) for row in rows if name in row] == points, name
    assert rows[-1]["step"] == steps and rows[-1]["epoch"] == 3


def test_hparams_has_real_final_metrics_and_no_minus_one(folder: Path) -> None:
    accumulator = events(folder)
    record = json.loads((folder / "record.json").read_text())
    for name in ("best/val/acc", "best/test/acc", "best/test/loss", "fit_seconds", "train/images_per_second"):
        assert [p.value for p in accumulator.Scalars(f"whole_run/{name}")] == pytest.approx([record[name]]), name
    assert "hp_metric" not in accumulator.Tags()["scalars"]
    hparams = session(folder, "start").hparams
    assert hparams["status"].string_value == "ok" and session(folder, "end").status == api_pb2.STATUS_SUCCESS
    assert hparams["batch_size"].number_value == 32 and hparams["model"].string_value == "mnist_cnn"
    assert all(value.WhichOneof("kind") != "null_value" for value in hparams.values())


def test_the_charts_of_one_dot_come_last_and_every_run_stands_once(folder: Path, run: Callable[..., Path]) -> None:
    """TensorBoard sorts its groups of charts by their names."""
    groups = sorted({tag.partition("/")[0] for tag in events(folder).Tags()["scalars"]})
    assert groups == ["memory", "test", "train", "train_eval", "val", "whole_run"]
    alone = run(*SMALL, "model=flatnet", "trainer.max_epochs=1")
    assert not (alone / "by_images").exists() and len(list(alone.rglob("events*"))) == 1


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("error", "status"), [(Diverged(9), "diverged"), (RuntimeError("a bug"), "failed"), (MemoryError(), "oom")]
)
def test_a_run_that_ends_badly_has_its_row_in_hparams_with_what_it_came_to(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, status: str
) -> None:
    step = Classifier.training_step

    def until_the_second_epoch(self: Classifier, batch: Any, *arguments: Any) -> Any:
        if self.trainer.current_epoch:
            raise error
        return step(self, batch, *arguments)

    monkeypatch.setattr(Classifier, "training_step", until_the_second_epoch)
    with pytest.raises(type(error)):
        run(*SMALL, "model=flatnet", "trainer.max_epochs=2")
    folder = tmp_path / "run0"
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == status == session(folder, "start").hparams["status"].string_value
    assert session(folder, "end").status == api_pb2.STATUS_FAILURE
    accumulator = events(folder)
    assert [p.value for p in accumulator.Scalars("whole_run/best/val/acc")] == pytest.approx([record["best/val/acc"]])
    assert "whole_run/best/test/acc" not in accumulator.Tags()["scalars"]
    assert len(accumulator.Scalars("val/loss")) == 1


@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_run_has_no_row_before_it_was_gone_on_with(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dlintro.run.train.test", stop)
        with pytest.raises(KeyboardInterrupt):
            run(*SMALL, "model=flatnet", "trainer.max_epochs=1")
    folder = tmp_path / "run0"
    assert "_hparams_/session_start_info" not in events(folder).Tags()["tensors"]
    run(*SMALL, "model=flatnet", "trainer.max_epochs=1", f"resume={folder}", folder=folder)
    assert session(folder, "start").hparams["status"].string_value == "ok"


def test_the_pictures_and_the_graph_are_there_and_small(folder: Path) -> None:
    accumulator = events(folder)
    assert {
        "train/images",
        "weights/filters",
        "features/first_convolution",
        "test/confusion",
        "test/worst_mistakes",
    } <= set(accumulator.Tags()["images"])
    assert accumulator.Tags()["graph"]
    assert sum(path.stat().st_size for path in folder.rglob("events*")) < 5_000_000


@pytest.mark.usefixtures("no_pictures")
def test_the_curves_are_on_the_disk_before_a_checkpoint_counts_them(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A resume cuts the curves back to the sizes that its checkpoint notes. A power cut must leave that much."""
    sync, save, synced, counted = os.fsync, AtomicCheckpointIO.save_checkpoint, dict[int, int](), list[str]()

    def noted_sync(file: int) -> None:
        synced[os.fstat(file).st_ino] = os.fstat(file).st_size
        sync(file)

    def checked_save(self: Any, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        for name, size in checkpoint["curves"]["sizes"].items():
            assert synced.get((tmp_path / "run0" / name).stat().st_ino) == size > 0, name
            counted.append(name)
        save(self, checkpoint, path, storage_options)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", checked_save)
    run(*SMALL, "model=flatnet", "trainer.max_epochs=1", "checkpoint.every_steps=3")
    assert len(counted) >= 6 and len(set(counted)) == 2
