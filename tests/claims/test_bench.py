"""Tests that a stopped experiment keeps its measurements and measures nothing twice."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlintro.accelerators import resolve
from dlintro.claims.bench import Bench, log_results, make_row
from dlintro.claims.claim import FIRST_SEED, Claim, Student
from dlintro.claims.measurements import DIVERGED, Measurements, read
from dlintro.claims.statements import Effect
from dlintro.models import FlatNet

CORE = Effect("new is more", "number", "new", "old")
CLAIM = Claim("made up", "none", "nothing", "measured", 1, CORE, Student("", "", ""), seeds=3)


def bench(folder: Path) -> Bench:
    made = Bench(folder, "made_up", CLAIM, resolve("cpu"))
    made.resume()
    return made


def draw(made: Bench, stop_at: tuple[str, int] | None = None) -> None:
    """Record an identity, then a random number for each cell."""
    made.record("identity", 1, expected=1)
    for cell in made.cells(["new", "old"]):
        if (cell.arm, cell.seed - FIRST_SEED) == stop_at:
            cell.record("number", 0.0)
            raise KeyboardInterrupt
        cell.record("number", torch.rand(()).item())
    made.finish()


def test_an_experiment_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir(), stopped.mkdir()
    draw(bench(whole))
    for stop_at in (("old", 0), ("new", 1), ("old", 5)):
        with pytest.raises(KeyboardInterrupt):
            draw(bench(stopped), stop_at)
    for _ in range(2):  # it may also be stopped after its last measurement
        draw(bench(stopped))
    rows = read(stopped / "measurements.csv").rows
    assert rows == read(whole / "measurements.csv").rows
    cells = [(row.arm, row.seed - FIRST_SEED) for row in rows if row.quantity == "number"]
    assert cells[:4] == [("new", 0), ("old", 0), ("new", 1), ("old", 1)]  # in turn
    assert cells[6:] == [("old", 3), ("old", 4), ("old", 5)]
    assert len({row.value for row in rows if row.arm == "old"}) == 6


@pytest.mark.parametrize(("second", "seeds"), [(0.5, 6), (90.0, 9)])
def test_the_cores_lesser_arm_is_measured_with_n_other_seeds_and_again_if_these_differ(
    tmp_path: Path, second: float, seeds: int
) -> None:
    """The second three seeds give the first three numbers in another order, and `second` more."""
    made = bench(tmp_path)
    for cell in made.cells(["new", "old"]):
        number = cell.seed - FIRST_SEED
        cell.record("number", (0, 2, 1, 1, 0, 2, 0, 0, 0)[number] + (second if number >= 3 else 0))
    assert [row.seed - FIRST_SEED for row in made.measurements.of("number", "new")] == [0, 1, 2]
    assert [row.seed - FIRST_SEED for row in made.measurements.of("number", "old")] == list(range(seeds))


def test_what_belongs_to_no_cell_hides_none(tmp_path: Path) -> None:
    made = bench(tmp_path)
    made.record("size", 7, arm="new")
    assert [cell.seed - FIRST_SEED for cell in made.cells(["new"])] == [0, 1, 2]


def test_images_of_another_size_are_not_taken_for_those_read_before(tmp_path: Path) -> None:
    made = bench(tmp_path)
    whole, small = made.data("mnist"), made.data("mnist", image_size=14)
    assert whole.train.images_NCHW.shape[2:] == (28, 28) and whole.image_shape == (1, 28, 28)
    assert small.train.images_NCHW.shape[2:] == (14, 14) and small.image_shape == (1, 14, 14)


def test_a_diverged_run_stays_in_as_it_ended(tmp_path: Path) -> None:
    made = bench(tmp_path)
    data = made.data("mnist", train_size=256, batch_size=32)
    cell = next(made.cells(["new"]))
    model = FlatNet(hidden=[16], optim={"name": "sgd", "lr": 1e12, "schedule": "none"})
    assert made.train(model, data, epochs=2) is False
    assert float(made.correct(model, data.val).mean()) < 0.3
    assert [(row.quantity, row.arm) for row in cell.rows] == [(DIVERGED, "new")]


def test_training_is_the_projects_own(tmp_path: Path) -> None:
    """Training gives the bare loop's weights, and one run of each arm leaves its curves."""
    from dlintro import bare_loop

    made = bench(tmp_path)
    for cell in made.cells(["FlatNet"]):
        model = FlatNet(optim={"lr": 1e-3})
        data = made.data("mnist", train_size=640, batch_size=64, seed=cell.seed)
        made.train(model, data, steps=10)
        torch.manual_seed(cell.seed)
        twin = FlatNet(optim={"lr": 1e-3})
        list(bare_loop.train(twin, made.data("mnist", train_size=640, batch_size=64, seed=cell.seed), 1, "cpu"))
        torch.testing.assert_close(next(iter(model.parameters())), next(iter(twin.parameters())))
    assert [path.name for path in (tmp_path / "curves").iterdir()] == ["FlatNet"]


def test_tensorboard_has_a_claims_pictures_and_what_differs_with_the_seed(tmp_path: Path) -> None:
    measured = Measurements()
    for seed in (1000, 1001, 1002):
        measured.rows.append(make_row("mine", "accuracy", 0.9 + seed / 1e5, "FlatNet", seed, None, ()))
    for shape in range(50):
        measured.rows.append(make_row("mine", "error", 1e-18, f"shape {shape}", 0, None, ()))
    Image.new("RGB", (8, 8)).save(tmp_path / "curve.png")
    log_results(tmp_path, measured, {"verdict": "holds", "statements": []})
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert found.Tags()["scalars"] == ["seeds/accuracy/FlatNet"] and found.Tags()["images"] == ["pictures/curve"]
    assert [point.step for point in found.Scalars("seeds/accuracy/FlatNet")] == [1000, 1001, 1002]


def half(images_NCHW: torch.Tensor) -> torch.Tensor:
    return images_NCHW[:, :, ::2, ::2].contiguous()


def test_changed_images_have_their_own_shape_and_statistics(tmp_path: Path) -> None:
    made = bench(tmp_path)
    data, whole = made.data("mnist", change=half), made.data("mnist")
    assert data.image_shape == (1, 14, 14) and data.train.images_NCHW.shape[1:] == (1, 14, 14)
    assert whole.image_shape == (1, 28, 28)
    assert data.mean is not None and data.mean != whole.mean
    assert data.train is not made.data("mnist", change=half).train
    assert data.train.images_NCHW is made.data("mnist", change=half).train.images_NCHW  # read once
