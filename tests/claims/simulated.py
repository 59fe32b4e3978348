"""Experiments that never took place: random measurements whose true difference is known.

A kind draws the paired differences of one experiment of n runs: float (n, N), with N test images or a single value. Its
true mean difference is `planted`.
"""

from collections.abc import Callable

import numpy as np

from dlintro.claims.measurements import Measurements, Numbers, Row
from dlintro.claims.statistics import Interval, interval, quantile

Draw = Callable[[np.random.Generator, int], Numbers]
NUM_IMAGES = 400
STEP = 0.002  # of values on a grid: one of 500 validation images


def values(random: np.random.Generator, n: int, planted: float = 0.0, sd: float = 1.0) -> Numbers:
    """One value a run."""
    return planted + sd * random.standard_normal((n, 1))


def on_a_grid(random: np.random.Generator, n: int, planted: float = 0.0, sd: float = STEP) -> Numbers:
    """The difference of two values that are rounded to a step as large as their spread."""
    arms_2n1 = planted / 2 * np.array([[[1]], [[-1]]]) + sd / np.sqrt(2) * random.standard_normal((2, n, 1))
    arms_2n1 = (arms_2n1 + random.random() * STEP) / STEP  # the grid may lie anywhere
    return (arms_2n1[0].round() - arms_2n1[1].round()) * STEP


def answers(runs: float, shift: float, images: float = 1.5) -> Draw:
    """Return right and wrong answers of two arms to images that are hard for both. `runs` and `images` are the standard
    deviations of a run's skill and of an image's ease. A larger `shift` makes more of the answers right."""

    def draw(random: np.random.Generator, n: int) -> Numbers:
        ease_N = shift + images * random.standard_normal(NUM_IMAGES)
        own_2N = 0.3 * random.standard_normal((2, 1, NUM_IMAGES))  # one arm finds other images hard than the other arm
        skill_2n1 = runs * random.standard_normal((2, n, 1))
        right_2nN = ease_N + own_2N + skill_2n1 + random.standard_normal((2, n, NUM_IMAGES)) > 0
        new_nN, old_nN = right_2nN.astype(float)
        return new_nN - old_nN

    return draw


def intervals(draw: Draw, n: int, repeats: int, grid: float = 0.0) -> list[Interval]:
    random = np.random.default_rng(n)
    return [interval(draw(random, n), grid) for _ in range(repeats)]


def coverage(found: list[Interval], truth: float = 0.0) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in found]))


def widths(found: list[Interval]) -> float:
    """Return the mean half-width as a multiple of the honest one: that of somebody who knows the true spread."""
    half_width = np.mean([(each.high - each.low) / 2 for each in found])
    return float(half_width / (quantile() * np.std([each.mean for each in found])))


def experiment(differences_nN: Numbers, least: float = 0.9, ratio: bool = False) -> Measurements:
    """Make an experiment's rows: the arm "old" has the value `least` in all runs, and "new" the difference more."""
    old_nN = np.full_like(differences_nN, least)
    new_nN = old_nN * np.exp(differences_nN) if ratio else old_nN + differences_nN
    rows = []
    for arm, values_nN in (("new", new_nN), ("old", old_nN)):
        for seed, outcomes_N in enumerate(values_nN):
            outcomes = tuple(outcomes_N.tolist()) if len(outcomes_N) > 1 else ()
            rows.append(Row("made_up", "acc", arm, seed, float(outcomes_N.mean()), None, outcomes))
    return Measurements(rows)
