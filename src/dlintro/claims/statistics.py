"""Computes the intervals of the verdicts.

Shapes: n runs (seeds), N outcomes of each run (test images, or 1 for a single value).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from dlintro.claims.measurements import Numbers

LEVEL = 0.99
UPPER = (1 + LEVEL) / 2
FEW = 40  # if fewer images than this differ, right and wrong are too skew for the quantiles of t and z


@dataclass(frozen=True)
class Interval:
    """A mean with its 99 % interval. `sd` is the standard deviation of the runs' means, `n` the number of runs."""

    mean: float
    low: float
    high: float
    sd: float
    n: int

    @property
    def contains_0(self) -> bool:
        return self.low <= 0 <= self.high

    @property
    def as_ratio(self) -> "Interval":
        """The interval of a logarithm as that of a ratio, or of a geometric mean."""
        mean, low, high = (float(np.exp(value)) for value in (self.mean, self.low, self.high))
        return Interval(mean, low, high, float(np.expm1(self.sd)) * mean, self.n)


def interval(values_nN: Numbers, grid: float = 0.0) -> Interval:
    """Return the mean over runs and images with its interval, which includes both the luck of the seeds and that of the
    test images.

    A single value per run gives Student's t interval. Outcomes per run and image are two crossed random effects. The
    runs' part of the variance counts with the quantile of t, because runs are few, and the images' part with that of
    the normal distribution (MOVER; Zou and Donner 2008, "Construction of confidence limits about effect measures").
    `grid` is the step of values that lie on a grid. It widens both sides, because rounding can hide the spread. One run
    has no interval, and neither have runs without a value (NaN): the bounds are then infinite.
    """
    values_nN = values_nN.reshape(len(values_nN), -1)
    n, num_images = values_nN.shape
    mean = float(values_nN.mean())
    runs_n = values_nN.mean(1)
    sd = float(runs_n.std(ddof=1)) if n > 1 else 0.0
    if n < 2 or not np.isfinite(values_nN).all():
        return Interval(mean, -np.inf, np.inf, sd, n)
    half = quantile(n) * sd / np.sqrt(n) if num_images == 1 else half_width(values_nN, mean, runs_n)
    return Interval(mean, float(mean - half - grid), float(mean + half + grid), sd, n)


def half_width(values_nN: Numbers, mean: float, runs_n: Numbers) -> float:
    n, num_images = values_nN.shape
    images_N = values_nN.mean(0)
    rest_nN = values_nN - runs_n[:, None] - images_N + mean
    # Mean squares of the two-way table, as in an analysis of variance.
    of_runs = num_images * runs_n.var(ddof=1)
    of_images = n * images_N.var(ddof=1)
    of_rest = (rest_nN**2).sum() / ((n - 1) * (num_images - 1))
    t, z, size = quantile(n), quantile(), n * num_images
    half = np.sqrt((t**2 * of_runs + z**2 * max(of_images - of_rest, 0)) / size)
    half = max(half, z * np.sqrt(max(of_runs, of_images) / size))
    right_or_wrong = (values_nN == values_nN.round()).all()
    if right_or_wrong and (np.ptp(values_nN, axis=0) > 0).sum() + (images_N != 0).sum() < FEW:
        half = max(half, 1 - (1 - UPPER) ** (1 / num_images))  # what may still happen that no image showed
    return float(half)


@cache
def quantile(n: int = 0) -> float:
    """Return the upper quantile of Student's t for n values, or of the normal distribution for 0."""
    return float(stats.t.ppf(UPPER, n - 1) if n else stats.norm.ppf(UPPER))


def share_interval(num: int, of: int) -> tuple[float, float]:
    """Return the 99 % interval of a share (Wilson)."""
    found = stats.binomtest(num, of).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)
