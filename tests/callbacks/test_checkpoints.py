"""The best epoch and its checkpoint are right, and a file with a checkpoint's name is always whole."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dlintro.callbacks import checkpoints
from dlintro.callbacks.checkpoints import AtomicCheckpointIO
from dlintro.callbacks.throughput import Throughput
from dlintro.errors import RunError
from tests.conftest import SMALL
from tests.run_folder import checkpoint, curve, record, scripted, scripted_accuracy, synthetic

Run = Callable[..., Path]


@pytest.mark.parametrize(("levels", "best"), [
    ((4, 9, 6, 9, 2), 1),  # of equals the first
    ((2, 5, 9), 2),
    ((8, 3, 3), 0),
])  # fmt: skip
@pytest.mark.usefixtures("no_pictures")
def test_best_is_the_first_epoch_of_the_highest_validation_accuracy_with_its_weights(
    run: Run, tmp_path: Path, levels: Sequence[int], best: int
) -> None:
    val = synthetic(1, 20, 20).val
    images_NCHW, labels_N = val.__getitems__(list(range(len(val))))
    expected = [scripted_accuracy(images_NCHW, labels_N, level) for level in levels]
    assert sorted(set(expected)) == [scripted_accuracy(images_NCHW, labels_N, level) for level in sorted({*levels})]

    folder = run(*scripted(tmp_path, levels))
    assert curve(folder, "val/acc") == expected
    found, last = checkpoint(folder, "best.ckpt"), checkpoint(folder)
    assert record(folder)["best/epoch"] == found["epoch"] == best
    assert record(folder)["best/val/acc"] == expected[best] == max(expected)
    assert int(found["state_dict"]["network.steps"]) == found["global_step"] == 7 * (best + 1)
    assert int(last["state_dict"]["network.steps"]) == 7 * len(levels)
    same = torch.equal(found["state_dict"]["network.trained.weight"], last["state_dict"]["network.trained.weight"])
    assert same == (best == len(levels) - 1)


class Unwritable:
    """The disk is full when this is written."""

    def __reduce__(self) -> Any:
        raise OSError(28, "No space left on device")


def test_a_checkpoint_that_cant_be_written_leaves_the_old_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weight": torch.arange(3)}, path)
    with pytest.raises(RunError, match=r"best\.ckpt"):
        AtomicCheckpointIO().save_checkpoint({"weight": torch.zeros(3), "more": Unwritable()}, path)
    assert torch.load(path, weights_only=True)["weight"].tolist() == [0, 1, 2]
    assert [left.name for left in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    synced: list[tuple[int, int, object]] = []  # inode, size, and what the name stood for at that moment
    sync = os.fsync

    def noted_sync(file: int) -> None:
        state = os.fstat(file)
        now = torch.load(path, weights_only=True)["step"] if path.exists() else None
        synced.append((state.st_ino, state.st_size, now))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted_sync)
    AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
    new = path.stat()
    assert synced[0] == (new.st_ino, new.st_size, 1), "the whole new file, while the name is still the old one's"
    assert (synced[-1][0], synced[-1][2]) == (tmp_path.stat().st_ino, 2), "then the folder with the new name in it"
    assert torch.load(tmp_path / "previous.ckpt", weights_only=True) == {"step": 1}


@pytest.mark.parametrize(("asked", "saved"), [
    ("checkpoint.every_steps=3", [3, 6, 7, 9, 12, 14]),
    ("checkpoint.every_minutes=1", [3, 6, 7, 10, 13, 14]),  # 25 s a step: the third one since the last checkpoint
    ("checkpoint.every_minutes=3", [6, 7, 13, 14]),  # before an epoch's evaluation, which may take long
])  # fmt: skip
@pytest.mark.usefixtures("no_pictures")
def test_checkpoints_are_written_as_often_as_asked(
    run: Run, monkeypatch: pytest.MonkeyPatch, asked: str, saved: list[int]
) -> None:
    """The run has two epochs of seven steps."""
    clock, found = SimpleNamespace(now=0.0), []
    original, begin = AtomicCheckpointIO.save_checkpoint, Throughput.on_train_batch_start
    monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def noted(self: Any, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        if Path(path).name == "last.ckpt":
            found.append(checkpoint["global_step"])
        original(self, checkpoint, path, storage_options)

    def later(*arguments: Any) -> None:
        clock.now += 25 if asked.startswith("checkpoint.every_minutes") else 0
        begin(*arguments)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", noted)
    monkeypatch.setattr(Throughput, "on_train_batch_start", later)
    run(*SMALL, "model=flatnet", "trainer.max_epochs=2", asked)
    assert found == saved
