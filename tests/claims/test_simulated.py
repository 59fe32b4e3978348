"""Counts, over simulated experiments, how often an interval covers the truth and how often a verdict is false.

Each number is a share of some thousand experiments. `python -m tests.claims.test_simulated` prints them all as a table.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest

from dlintro.claims.measurements import Numbers
from dlintro.claims.statements import FAILS, HOLDS, Comparison, Effect, Equal
from dlintro.claims.statistics import interval
from tests.claims.simulated import STEP, answers, coverage, experiment, intervals, on_a_grid, values, widths

REPEATS, REPEATS_OF_ANSWERS = 2_000, 500
N = (3, 5, 8)
WIDEST = {3: 4.0, 5: 1.9, 8: 1.5}  # half-widths, as multiples of the honest one
STRONG = {5: 2.7, 8: 1.6}  # an effect this many sd above the margin is found in 80 % of experiments

ANSWERS = {
    f"{words}, runs' skill ± {runs}": answers(runs, shift)
    for words, shift in (("6 in 10 right", 0.5), ("9 in 10 right", 2.0), ("98 in 100 right", 4.0))
    for runs in (0.02, 0.1, 0.5)
}
RARE = answers(runs=0.1, shift=6.0)  # almost no image is answered differently

EFFECT = Effect("new is better", "acc", "new", "old")
RATIO = Effect("new takes longer", "acc", "new", "old", ratio=True)
RELATIVE = Effect("new has more", "acc", "new", "old", relative=True)
EQUAL = Equal("both are as good", "acc", "new", "old")
SD = 0.003  # of the differences, in shares of 1
MARGINS: dict[str, tuple[Effect, float, float]] = {  # the statement, its margin, the sd of the differences
    "points": (EFFECT, 0.002, SD),
    "ratio": (RATIO, math.log(1.05), 0.2),
    "relative": (RELATIVE, 0.05 * 0.9, 0.1),
}


@pytest.mark.parametrize("n", N)
def test_the_interval_of_values_covers_the_truth_and_is_no_wider_than_it_must_be(n: int) -> None:
    found = intervals(values, n, REPEATS)
    assert coverage(found) >= 0.98 and widths(found) <= WIDEST[n]


@pytest.mark.parametrize("n", N)
def test_the_interval_of_positive_values_covers_their_geometric_mean(n: int) -> None:
    random = np.random.default_rng(n)
    drawn = (np.exp(2 + 0.8 * values(random, n)) for _ in range(REPEATS))
    found = [interval(np.log(each)).as_ratio for each in drawn]
    assert coverage(found, math.exp(2)) >= 0.98


@pytest.mark.parametrize("n", N)
@pytest.mark.parametrize("kind", ANSWERS)
def test_the_interval_over_runs_and_images_covers_the_truth_and_is_no_wider_than_it_must_be(n: int, kind: str) -> None:
    found = intervals(ANSWERS[kind], n, REPEATS_OF_ANSWERS)
    assert coverage(found) >= 0.98 and widths(found) <= WIDEST[n]


@pytest.mark.parametrize("n", N)
def test_the_interval_covers_the_truth_where_few_answers_differ(n: int) -> None:
    assert coverage(intervals(RARE, n, REPEATS_OF_ANSWERS)) >= 0.98


@pytest.mark.parametrize("n", N)
def test_the_interval_of_values_on_a_grid_covers_the_truth(n: int) -> None:
    assert coverage(intervals(on_a_grid, n, REPEATS, grid=STEP)) >= 0.98


def share(statement: Comparison, verdict: str, n: int, planted: float, sd: float) -> float:
    """Return how many of the experiments with this true difference have the verdict."""
    random = np.random.default_rng(n)
    drawn = (experiment(values(random, n, planted, sd), ratio=statement.ratio) for _ in range(REPEATS))
    return float(np.mean([statement.judge(measurements).verdict == verdict for measurements in drawn]))


@pytest.mark.parametrize("n", N)
@pytest.mark.parametrize("kind", MARGINS)
def test_an_effect_that_is_no_larger_than_the_margin_holds_in_at_most_one_of_a_hundred(n: int, kind: str) -> None:
    statement, margin, sd = MARGINS[kind]
    assert share(statement, HOLDS, n, 0.0, sd) <= 0.01
    assert share(statement, HOLDS, n, margin, sd) <= 0.01


@pytest.mark.parametrize("n", N)
@pytest.mark.parametrize("kind", MARGINS)
def test_an_effect_above_the_margin_is_refuted_in_at_most_one_of_a_hundred(n: int, kind: str) -> None:
    statement, margin, sd = MARGINS[kind]
    assert share(statement, FAILS, n, margin, sd) <= 0.01
    assert share(statement, FAILS, n, margin + 0.7 * sd, sd) <= 0.01


@pytest.mark.parametrize("n", STRONG)
@pytest.mark.parametrize("kind", MARGINS)
def test_a_strong_effect_is_found_in_eight_of_ten_and_a_stronger_reverse_refuted(n: int, kind: str) -> None:
    statement, margin, sd = MARGINS[kind]
    assert share(statement, HOLDS, n, margin + STRONG[n] * sd, sd) >= 0.8
    assert share(statement, FAILS, n, margin - 1.1 * STRONG[n] * sd, sd) >= 0.8


@pytest.mark.parametrize("n", N)
def test_different_arms_are_called_equal_in_at_most_one_of_a_hundred(n: int) -> None:
    for planted, sd in ((0.005, SD), (0.015, 0.01), (0.02, 0.01)):
        assert share(EQUAL, HOLDS, n, planted, sd) <= 0.01
    for planted in (0.0, 0.005):
        assert share(EQUAL, FAILS, n, planted, SD) <= 0.01


def test_equal_arms_are_found_equal_where_they_spread_little_and_different_ones_different() -> None:
    assert share(EQUAL, HOLDS, 8, 0.0, 0.8 * SD) >= 0.8
    assert share(EQUAL, FAILS, 8, 0.005 + STRONG[8] * SD, SD) >= 0.8


@pytest.mark.parametrize("n", N)
def test_networks_that_are_equally_good_hold_in_at_most_one_of_a_hundred(n: int) -> None:
    random = np.random.default_rng(n)
    for draw in (*ANSWERS.values(), RARE):
        drawn = (experiment(draw(random, n), least=0.0) for _ in range(200))
        held = sum(EFFECT.judge(measurements).verdict == HOLDS for measurements in drawn)
        assert held <= 2


def table() -> list[tuple[str, Callable[[int], str]]]:
    """Return each row of the table: its name, and its figure for n runs."""

    def both(
        draw: Callable[[np.random.Generator, int], Numbers], repeats: int, grid: float = 0.0
    ) -> Callable[[int], str]:
        def figure(n: int) -> str:
            found = intervals(draw, n, repeats, grid)
            return f"{100 * coverage(found):.1f} % ({widths(found):.2f})"

        return figure

    def judged(statement: Comparison, verdict: str, planted: Callable[[int], float], sd: float) -> Callable[[int], str]:
        return lambda n: f"{100 * share(statement, verdict, n, planted(n), sd):.1f} %"

    rows = [("coverage (half-width / honest): one value a run", both(values, REPEATS))]
    rows += [("coverage: values on a grid", both(on_a_grid, REPEATS, STEP))]
    rows += [(f"coverage: {kind}", both(draw, REPEATS_OF_ANSWERS)) for kind, draw in ANSWERS.items()]
    rows += [("coverage: few answers differ", both(RARE, REPEATS_OF_ANSWERS))]
    for kind, (statement, margin, sd) in MARGINS.items():
        rows += [(f"{kind}: no effect, holds", judged(statement, HOLDS, lambda n: 0.0, sd))]
        rows += [(f"{kind}: effect as large as the margin, holds", judged(statement, HOLDS, lambda n, m=margin: m, sd))]
        rows += [
            (f"{kind}: effect just above the margin, refuted", judged(statement, FAILS, lambda n, m=margin: m, sd))
        ]
        strong = lambda n, m=margin, s=sd: m + STRONG.get(n, 2.7) * s  # noqa: E731
        rows += [(f"{kind}: strong effect, holds", judged(statement, HOLDS, strong, sd))]
    rows += [("+0.4 points, sd 0.3: refuted", judged(EFFECT, FAILS, lambda n: 0.004, SD))]
    for planted, sd in ((0.0, SD), (0.005, SD), (0.015, 0.01), (0.02, 0.01)):
        name = f"equal, true difference {100 * planted:g} points, sd {100 * sd:g}: holds"
        rows += [(name, judged(EQUAL, HOLDS, lambda n, p=planted: p, sd))]
    return rows


if __name__ == "__main__":
    for name, figure in table():
        print(f"{name:70}", *(f"{figure(n):>16}" for n in N))
