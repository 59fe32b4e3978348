"""What a report says differs, by hand: two tests that must agree, the adjustments, and who is left out."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlintro.sweep.report import main, write_report
from tests.sweep.fake import write_sweep
from tests.sweep.test_report import words

SPREAD = 0.001  # samples of two: mean ± SPREAD


@pytest.fixture(autouse=True)
def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the words are read here, and drawing takes nearly all of a report's time."""
    monkeypatch.setattr("dlintro.sweep.figures.pictures", lambda study: iter(()))


def apart(p: float) -> float:
    """How far the means of two samples of two with this spread lie apart for a p of this, two-sided. Student's t for
    two degrees of freedom has P(|T| > t) = 1 - t / √(2 + t²); the difference's standard error is √2 SPREAD. Of two
    settings alone, both tests are this one."""
    t = math.sqrt(2) * (1 - p) / math.sqrt(1 - (1 - p) ** 2)
    return math.sqrt(2) * SPREAD * t


def sample(mean: float, figure: str) -> list[dict[str, Any]]:
    return [{figure: mean - SPREAD}, {figure: mean + SPREAD}]


def told(folder: Path, params: dict[str, list[Any]], fields: Sequence[dict[str, Any]]) -> str:
    sweep = write_sweep(folder, params, changed=dict(enumerate(fields)))
    return words(write_report([sweep], sweep))


@pytest.mark.parametrize(("p", "differs"), [(0.04, True), (0.06, False)])
def test_a_single_comparison_needs_no_adjustment(tmp_path: Path, p: float, differs: bool) -> None:
    fields = [*sample(0.9 - apart(p), "best/val/acc"), *sample(0.9, "best/val/acc")]
    said = told(tmp_path / "s", {"optim.lr": [1, 100], "seed": [0, 1]}, fields)
    assert (
        "Validation prefers learning rate 100 (val accuracy 90.00 ± 0.14 %, n = 2), which is better than 1." in said
    ) == differs
    assert ("Validation does not tell learning rates 1 and 100 apart (the highest mean" in said) != differs


@pytest.mark.parametrize(("p", "differs"), [(0.02, True), (0.03, False)])
def test_the_lines_of_a_page_are_adjusted_together(tmp_path: Path, p: float, differs: bool) -> None:
    """Two lines, in one of which nothing differs: 0.02 is adjusted to 0.04, 0.03 to 0.06."""
    means = [0.9 - apart(p), 0.9, 0.9 - apart(0.9), 0.9]
    params = {"model": ["flatnet", "mnist_cnn"], "optim.lr": [1, 100], "seed": [0, 1]}
    said = told(tmp_path / "s", params, [fields for mean in means for fields in sample(mean, "best/val/acc")])
    assert ("Validation prefers learning rate 100 under model flatnet" in said) == differs
    assert "Validation does not tell learning rates 1 and 100 under model mnist_cnn apart" in said


def test_settings_of_unlike_spread_are_told_apart_by_welchs_test_too(tmp_path: Path) -> None:
    """Student's t of four degrees of freedom has p = 0.026; the noisy setting has two, so Welch's has 0.074."""
    fields = [{"best/val/acc": value} for value in (0.8999, 0.9, 0.9001, 0.91, 0.92, 0.93)]
    said = told(tmp_path / "s", {"optim.lr": [1, 100], "seed": [0, 1, 2]}, fields)
    assert "Validation does not tell learning rates 1 and 100 apart" in said


SAME = {"train/images_per_second": 1000.0, "ram_peak_bytes": 10**9, "test/acc": 0.9, "train_eval/acc": 0.91}


def sizes(folder: Path, sizes: Sequence[int], fields: Sequence[dict[str, Any]], seeds: int = 2) -> str:
    """What is said of batch sizes that differ in these fields alone. Time, memory and gap are the same in all; a target
    that is never reached isn't compared."""
    params = {"data.batch_size": [*sizes], "seed": [*range(seeds)]}
    sweep = write_sweep(folder, params, changed={place: SAME | given for place, given in enumerate(fields)})
    assert main([str(sweep), "target.value=1", "target.metric=val/acc"]) == 0
    return words(sweep / "report.html")


@pytest.mark.parametrize(
    ("sign", "p", "adjusted", "differs"), [(-1, 0.01, "0.04", True), (1, 0.01, "0.04", True), (1, 0.015, "0.06", False)]
)
def test_batch_sizes_are_told_apart_by_the_adjusted_p(
    tmp_path: Path, sign: int, p: float, adjusted: str, differs: bool
) -> None:
    """The three other figures have p = 1, so the smallest p is multiplied by 4."""
    figure = "best/test/acc"
    said = sizes(tmp_path / "s", [8, 2048], [*sample(0.9, figure), *sample(0.9 + sign * apart(p), figure)])
    verdict = f"{'lower' if sign < 0 else 'higher'} test accuracy (val-best weights) (p = {adjusted})"
    nothing = f"no difference within the spread in test accuracy, val-best weights (p = {adjusted})"
    assert (verdict in said) == differs and (nothing in said) == (not differs)


def accuracies(*means: float) -> list[dict[str, Any]]:
    """Three seeds of each."""
    return [{"best/test/acc": mean + shift} for mean in means for shift in (-SPREAD, 0, SPREAD)]


def test_the_best_size_in_the_middle_is_named_beside_the_others(tmp_path: Path) -> None:
    said = sizes(tmp_path / "s", [8, 32, 128, 512], accuracies(0.90, 0.95, 0.9502, 0.90), 3)
    assert (
        "With equal epochs, the smallest and the largest batch size show no difference within the spread in test "
        "accuracy, val-best weights: 90.00 ± 0.10 % at 8, 90.00 ± 0.10 % at 512 (n = 3). The best batch size is 128 "
        "(95.02 ± 0.10 %, n = 3), which is better than 8 and 512, and is not told apart from 32." in said
    )


def test_where_no_size_stands_out_that_is_said(tmp_path: Path) -> None:
    said = sizes(tmp_path / "s", [8, 32, 128], accuracies(0.90, 0.9001, 0.90), 3)
    assert "(n = 3). No batch size stands out: the highest mean is at 32." in said and "The best" not in said


@pytest.mark.parametrize(
    ("status", "what"),
    [("diverged", "diverged"), ("failed", "failed"), ("oom", "out of memory"), ("running", "interrupted")],
)
def test_what_is_left_of_a_setting_is_compared_with_nothing(tmp_path: Path, status: str, what: str) -> None:
    """The largest size would be the best by what is left of it. `running` without a process is interrupted."""
    fields = [*accuracies(0.90, 0.93), {"best/test/acc": 0.99}, {"best/test/acc": 0.99}, {"status": status}]
    said = sizes(tmp_path / "s", [8, 32, 4096], fields, 3)
    assert (
        "With equal epochs, the largest batch size reaches higher test accuracy (val-best weights) than the smallest: "
        f"90.00 ± 0.10 % at 8, 93.00 ± 0.10 % at 32 (n = 3). This leaves out 4,096 (1 of 3 seeds {what})." in said
    )
    assert (
        "best batch size is 4,096" not in said
        and "4,096 is best" not in said
        and f"4096 2 ok, 1 {status.replace('running', 'interrupted')}" in said
    )
    assert "n=2 of 3" in said and f"batch size 4096 (1 of 3 seeds {what}). Their means" in said


def test_of_one_whole_size_nothing_is_said(tmp_path: Path) -> None:
    fields = [*accuracies(0.90), {"best/test/acc": 0.99}, {"best/test/acc": 0.99}, {"status": "diverged"}]
    said = sizes(tmp_path / "s", [8, 4096], fields, 3)
    assert not any(
        word in said for word in ("higher test", "lower test", "no difference within", "is best", "it beats")
    )
    assert "Only batch size 8 kept all its seeds" in said


def test_memory_that_repeats_to_the_byte_differs(tmp_path: Path) -> None:
    """The setting alone decides it: no seed could have made it another."""
    fields = [{"ram_peak_bytes": size * 10**9} for size in (1, 1, 2, 2)]
    more = "The largest batch size uses more RAM than the smallest: 954 MiB at 8, "
    assert more in sizes(tmp_path / "s", [8, 2048], fields).replace(" ± 0", "")
