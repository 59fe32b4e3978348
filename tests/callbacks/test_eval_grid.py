"""Batch sizes can be compared: evaluation on a grid of images seen, budgets, targets and the noise scale."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dlintro.callbacks.noise_scale import noise_and_gradient
from tests.conftest import SMALL

Run = Callable[..., Path]
FLAT = (*[word for word in SMALL if not word.startswith("data.batch_size")], "model=flatnet")


def readings(folder: Path, metric: str = "val/acc") -> list[tuple[int, float]]:
    with (folder / "metrics.csv").open() as file:
        return [(int(row["images"]), float(row[metric])) for row in csv.DictReader(file) if row[metric]]


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


@pytest.mark.parametrize(("batch_size", "expected"), [
    (10, [40, 80, 120, 160, 200, 240, 280, 320, 360, 400]),
    (32, [64, 96, 128, 160, 200, 264, 296, 328, 360, 400]),  # the first step that reaches 40, 80, ...; epochs of 200
    (128, [128, 200, 328, 400]),
])  # fmt: skip
def test_every_batch_size_is_evaluated_on_the_same_grid(run: Run, batch_size: int, expected: list[int]) -> None:
    folder = run(*FLAT, f"data.batch_size={batch_size}", "trainer.eval_images=40")
    for metric in ("val/acc", "val/loss", "train_eval/acc", "train_eval/loss"):
        assert [images for images, _ in readings(folder, metric)] == expected


def test_evaluating_more_often_changes_nothing_that_is_trained(run: Run) -> None:
    words = (*FLAT, "data.batch_size=32", "model.hidden=[16]", "model.dropout=0.3", "data.augment=[crop]")
    rare, often = run(*words), run(*words, "trainer.eval_images=32")
    assert len(readings(often)) > len(readings(rare)) == 2
    states = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (rare, often)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert record(rare)["test/loss"] == record(often)["test/loss"]
    assert set(readings(rare)) < set(readings(often))


def test_equal_steps_are_equal_for_every_batch_size_and_agree_with_equal_epochs_at_the_reference(run: Run) -> None:
    words = (*FLAT, "optim.lr_reference_batch=50", "sweep.budget=steps")
    steps = {size: record(run(*words, f"data.batch_size={size}"))["steps"] for size in (20, 50, 128)}
    assert set(steps.values()) == {8}  # 2 epochs of 4 batches of 50
    assert record(run(*words, "data.batch_size=128", "trainer.max_steps=5"))["steps"] == 5
    assert record(run(*FLAT, "data.batch_size=50", "sweep.budget=epochs"))["steps"] == 8


def test_the_record_says_when_the_target_was_reached(run: Run) -> None:
    words = (*FLAT, "data.batch_size=20", "trainer.eval_images=20", "trainer.max_epochs=5", "optim.lr=0.05")
    found = record(run(*words, "target.value=0.3"))
    curve = readings(run(*words))
    first = next(i for i, (_, acc) in enumerate(curve) if acc >= 0.3)
    assert first and curve[first - 1][0] < found["images_to_target"] <= curve[first][0]
    assert found["steps_to_target"] == pytest.approx(found["images_to_target"] / 20)
    assert 0 < found["seconds_to_target"] < found["fit_seconds"]
    assert record(run(*words, "target.value=1000", "target.metric=val/acc"))["steps_to_target"] is None


def test_the_noise_scale_of_a_known_distribution_is_found() -> None:
    """Gradients of single images ~ N(mean, sd²) in 1,000 dimensions: trace 1000·sd², squared mean 1000·mean²."""
    generator = torch.Generator().manual_seed(0)
    mean, sd, small, parts = 0.05, 2.0, 64, 400
    batches = [[mean + sd / small**0.5 * torch.randn(1000, generator=generator)] for _ in range(parts)]
    trace, grad_squared = noise_and_gradient(batches, small)
    assert trace == pytest.approx(1000 * sd**2, rel=0.02)
    assert grad_squared == pytest.approx(1000 * mean**2, rel=0.2)


def test_a_network_with_a_part_that_is_not_used_has_a_noise_scale_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self, k):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, k))\n"
        "        self.spare = nn.Linear(2, 2)\n"
        "    def forward(self, x):\n"
        "        return self[1](self[0](x))\n"
        "def make_model(shape, k):\n"
        "    return Net(k)\n"
    )
    words = (*SMALL, "model=file", f"model.path={tmp_path}/net.py", "trainer.max_epochs=1", "trainer.eval_images=64")
    assert record(run(*words))["noise_scale/trace"] > 0


def test_a_run_on_the_grid_records_its_noise_scale_and_others_have_none(run: Run) -> None:
    words = (*FLAT, "data.batch_size=20", "trainer.max_epochs=3")
    found = record(run(*words, "trainer.eval_images=50"))
    assert found["noise_scale/trace"] > 0
    if found["noise_scale"] is not None:
        assert found["noise_scale"] == found["noise_scale/trace"] / found["noise_scale/grad_squared"]
    assert record(run(*words))["noise_scale"] is None
