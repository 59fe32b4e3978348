"""What a report says differs, by hand: Welch's test for small samples, and Benjamini and Hochberg's correction."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlintro.sweep.report import main, write_report
from tests.sweep.fake import write_sweep
from tests.sweep.test_report import words

SPREAD = 0.001  # samples of two: mean ± SPREAD


def apart(p: float) -> float:
    """How far the means of two samples of two with this spread lie apart for a p of this, two-sided. Student's t for
    two degrees of freedom has P(|T| > t) = 1 - t / √(2 + t²); the difference's standard error is √2 SPREAD."""
    t = math.sqrt(2) * (1 - p) / math.sqrt(1 - (1 - p) ** 2)
    return math.sqrt(2) * SPREAD * t


def sample(mean: float, figure: str) -> list[dict[str, Any]]:
    return [{figure: mean - SPREAD}, {figure: mean + SPREAD}]


def told_apart(sweep: Path) -> list[set[str]]:
    """Of each sentence on learning rates: the rates that are not told apart from the best."""
    said = words(write_report([sweep], sweep))
    sentences = re.findall(r"Validation prefers learning rate 100\b.*?(?= Validation|\.\s)", said)
    found = [re.search(r"within the spread: ([^;.]*)", sentence) for sentence in sentences]
    return [set(re.findall(r"\d+", match[1])) if match else set() for match in found]


def rates(folder: Path, *lines: Sequence[float]) -> Path:
    """Learning rate 100 is the best; rates 1, 2, ... have these p against it. A line is a model."""
    models = ["flatnet", "mnist_cnn"][: len(lines)]
    params = {"model": models, "optim.lr": [*range(1, len(lines[0]) + 1), 100], "seed": [0, 1]}
    means = [0.9 - distance for line in lines for distance in (*map(apart, line), 0)]
    changed = dict(enumerate(fields for mean in means for fields in sample(mean, "best/val/acc")))
    return write_sweep(folder, params, changed=changed)


@pytest.mark.parametrize(
    ("line", "untold"),
    [
        ((0.001, 0.002, 0.5, 0.6), {"3", "4"}),  # adjusted 0.004, 0.004, 0.6, 0.6: as without the correction
        ((0.03, 0.04, 0.5, 0.6), {"1", "2", "3", "4"}),  # 0.08, 0.08, 0.6, 0.6: without it rates 1 and 2 would differ
        (
            (0.01, 0.02, 0.03, 0.04),
            set(),
        ),  # 0.04 each: by Bonferroni or Holm only rate 1 would differ, by Yekutieli none
        ((0.012, 0.02, 0.03, 0.06), {"4"}),  # 0.04, 0.04, 0.04, 0.06
        ((0.3, 0.04, 0.01, 0.9), {"1", "2", "4"}),  # 0.4, 0.08, 0.04, 0.9: in any order
        ((0.04,), set()),  # a single comparison needs no correction
        ((0.06,), {"1"}),
    ],
)
def test_of_many_comparisons_those_that_differ_by_chance_are_not_named(
    tmp_path: Path, line: Sequence[float], untold: set[str]
) -> None:
    assert told_apart(rates(tmp_path / "s", line)) == [untold]


@pytest.mark.parametrize(("p", "untold"), [(0.02, set()), (0.03, {"1"})])
def test_the_correction_is_over_all_lines_of_a_report(tmp_path: Path, p: float, untold: set[str]) -> None:
    """Two comparisons, each alone in its line: 0.02 is adjusted to 0.04, 0.03 to 0.06."""
    assert told_apart(rates(tmp_path / "s", [p], [0.9])) == [untold, {"1"}]


def sizes(folder: Path, test: Sequence[dict[str, Any]]) -> str:
    """What is said of batch sizes 8 and 2,048 that differ in these test accuracies alone. The other comparisons, of
    time, memory and gap, have p = 1; a target that is never reached has none. So the smallest p is multiplied by 4."""
    same = {"train/images_per_second": 1000.0, "ram_peak_bytes": 10**9, "test/acc": 0.9, "train_eval/acc": 0.91}
    params = {"data.batch_size": [8, 2048], "seed": [0, 1]}
    sweep = write_sweep(folder, params, changed={place: same | fields for place, fields in enumerate(test)})
    assert main([str(sweep), "target.value=1", "target.metric=val/acc"]) == 0
    return words(sweep / "report.html")


@pytest.mark.parametrize(
    ("sign", "p", "adjusted", "differs"), [(-1, 0.01, "0.04", True), (1, 0.01, "0.04", True), (1, 0.015, "0.06", False)]
)
def test_batch_sizes_are_told_apart_by_the_adjusted_p(
    tmp_path: Path, sign: int, p: float, adjusted: str, differs: bool
) -> None:
    figure = "best/test/acc"
    said = sizes(tmp_path / "s", [*sample(0.9, figure), *sample(0.9 + sign * apart(p), figure)])
    verdict = f"{'lower' if sign < 0 else 'higher'} test accuracy (val-best weights) (p = {adjusted})"
    nothing = f"no difference within the spread in test accuracy, val-best weights (p = {adjusted})"
    assert (verdict in said) == differs and (nothing in said) == (not differs)


@pytest.mark.parametrize(("p", "adjusted", "differs"), [(0.01, "0.04", True), (0.02, "0.08", False)])
def test_samples_of_unlike_spread_are_compared_by_welchs_test(
    tmp_path: Path, p: float, adjusted: str, differs: bool
) -> None:
    """One of the samples has no spread at all: one degree of freedom is left, where P(|T| > t) = 1 - 2/π arctan t, and
    the standard error is SPREAD. Student's test would have two, and call both differences."""
    distance = SPREAD / math.tan(math.pi * p / 2)
    test = [*sample(0.9, "best/test/acc"), *[{"best/test/acc": 0.9 - distance}] * 2]
    said = sizes(tmp_path / "s", test)
    assert (f"lower test accuracy (val-best weights) (p = {adjusted})" in said) == differs
    assert (f"in test accuracy, val-best weights (p = {adjusted})" in said) == (not differs)
