"""A run stopped and resumed is the run that was never stopped: its weights bit for bit, its curves point by point."""

import csv
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dlintro.callbacks.throughput import Throughput
from dlintro.errors import Interrupted
from tests.conftest import SMALL

Run = Callable[..., Path]
SETTINGS = (*SMALL, "model=mnist_cnn", "model.widths=[4,8,16]", "model.dropout=0.2", "trainer.max_epochs=3",
            "trainer.log_every_n_steps=3", "data.augment=[crop,rotate]")  # 7 steps an epoch  # fmt: skip


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the batch after `step` steps."""
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
    """All points but those that measure time or memory."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if ("/" in name or name == "noise_scale") and "second" not in name]
    names = [name for name in names if "memory" not in name]
    return [(row["step"], row["images"], row["epoch"], name, row[name]) for row in rows for name in names if row[name]]


WHOLE: dict[tuple[str, ...], Path] = {}  # undisturbed runs, made once for each setting

CASES = [(step, ()) for step in (1, 6, 7, 10, 20)]  # 7 and 14 end an epoch; the first step after 6 is its last
CASES += [(step, ("optim.ema=0.9", "data.num_workers=2")) for step in (3, 20)]
CASES += [(3, ("trainer.accumulate_grad_batches=2",))]
# An evaluation after every other step (64 images), so that a stop meets one to come, one just done, and an epoch's end.
GRID = ("trainer.eval_images=64",)
CASES += [(step, GRID) for step in (1, 2, 6, 7, 9)]
CASES += [(step, ("trainer.eval_images=50", "optim.ema=0.9", "checkpoint.every_steps=1")) for step in (1, 5, 13)]
CASES += [(3, ("trainer.eval_images=100", "trainer.accumulate_grad_batches=2"))]


@pytest.mark.parametrize(("step", "extra"), CASES)
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
