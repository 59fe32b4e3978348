from pathlib import Path
from typing import Any

import pytest

from dlintro.reader import read_rows
from dlintro.target import Reached, choose, num_readings, reach


def rows(*readings: float, metric: str = "val/acc") -> list[dict[str, float]]:
    """Make a reading every 100 images, with steps of 10 images and 2 s."""
    return [{"step": 10 * i, "images": 100 * i, "train_seconds": 2.0 * i, metric: y} for i, y in enumerate(readings, 1)]


def about(steps: float, images: float, seconds: float) -> object:
    return pytest.approx(Reached(steps, images, seconds).__dict__)


def found(*arguments: Any) -> dict[str, Any] | None:
    reached = reach(*arguments)
    return None if reached is None else vars(reached)


def test_a_target_is_read_between_the_two_readings_around_it() -> None:
    assert found(rows(0.5, 0.8, 0.9), "val/acc", 0.85) == about(25.0, 250.0, 5.0)
    assert found(rows(0.5, 0.8, 0.9), "val/acc", 0.82) == about(22.0, 220.0, 4.4)


def test_an_accuracy_rises_to_its_target_and_a_loss_falls_to_it() -> None:
    assert found(rows(0.9, 0.4, metric="val/loss"), "val/loss", 0.65) == about(15.0, 150.0, 3.0)
    assert found(rows(0.5, 0.9), "val/acc", 0.9) == about(20.0, 200.0, 4.0)  # exactly is enough
    assert reach(rows(0.5, 0.89), "val/acc", 0.9) is None


def test_the_first_crossing_counts_even_where_the_curve_falls_back() -> None:
    assert found(rows(0.5, 0.9, 0.5, 0.95), "val/acc", 0.9) == about(20.0, 200.0, 4.0)


def test_a_first_reading_beyond_the_target_is_taken_as_it_is() -> None:
    assert reach(rows(0.95, 0.99), "val/acc", 0.9) == Reached(10.0, 100.0, 2.0)


def test_a_metrics_csv_is_read_with_its_gaps_and_without_its_nans(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,images,train/loss_step,val/acc\n10,100,,0.5\n15,150,0.3,\n18,180,,nan\n20,200,,0.9\n")
    assert reach(read_rows(path), "val/acc", 0.7) == Reached(
        15.0, 150.0, None
    )  # older files don't have the training seconds
    assert reach(read_rows(path), "val/loss", 0.7) is None


def test_the_chosen_target_needs_ten_readings_of_every_curve() -> None:
    slow, fast = [0.01 * i for i in range(1, 21)], [0.02 * i for i in range(1, 21)]
    target = choose([rows(*slow), rows(*fast)], "val/acc")
    assert target.value is not None and target.value == pytest.approx(0.181)  # just above 0.18, the fast one's ninth
    for curve in (slow, fast):
        assert all(reading < target.value for reading in curve[:9])
    assert "on validation" in target.origin


def test_a_short_run_of_the_smallest_batch_does_not_hinder_the_choice_and_misses_the_target() -> None:
    short, long = [0.5] * 3, [0.4] * 9 + [0.6]
    target = choose([rows(*short), rows(*long)], "val/acc")
    assert target.value == pytest.approx(0.501)


def test_the_chosen_target_of_a_loss_is_just_below() -> None:
    target = choose([rows(*(1.0 - 0.05 * i for i in range(12)), metric="val/loss")], "val/loss")
    assert target.value == pytest.approx(0.599)


def test_a_coarse_grid_has_no_target_and_the_key_that_makes_it_finer_is_named() -> None:
    target = choose([rows(*[0.5] * 9), rows(*[0.5] * 4)], "val/acc")
    assert target.value is None
    assert "evaluated 9 times" in target.origin and "trainer.eval_images" in target.origin


def test_readings_are_counted_up_to_the_first_one_as_good_as_the_target() -> None:
    assert num_readings(rows(0.5, 0.9, 0.5), "val/acc", 0.9) == 2
    assert num_readings(rows(0.9, 0.4, metric="val/loss"), "val/loss", 0.5) == 2
    assert num_readings([{"step": 5}, *rows(0.95)], "val/acc", 0.9) == 1  # a row without a reading doesn't count
    assert num_readings(rows(0.5), "val/acc", 0.9) is None
