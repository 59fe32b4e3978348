"""Computes all statistics of the verdicts, with scipy's functions where they exist.

Shapes: n runs (seeds), N outcomes of each run (test images, or 1 for a single value), R resamples.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from dlintro.claims.measurements import Numbers

LEVEL = 0.99
RESAMPLES = 4_000
SEED = 20_240_229  # of the resampling, so that the same measurements give the same interval


@dataclass(frozen=True)
class Interval:
    """A mean with its 99 % interval. `sd` is the standard deviation of the runs' means, `n` the number of runs."""

    mean: float
    low: float
    high: float
    sd: float
    n: int

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def interval(values_nN: Numbers) -> Interval:
    """Return the mean over runs and images with its interval, by a bootstrap that draws rows and columns at once. It
    includes both the luck of the seeds and that of the test images.

    The bootstrap alone is too narrow for few runs, so the distances of its quantiles from the mean are widened by
    sqrt(n / (n - 1)) · t / z (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3). A single
    run with one outcome shows no spread; its interval is that value.
    """
    values_nN = values_nN.reshape(len(values_nN), -1)
    n, num_outcomes = values_nN.shape
    mean = float(values_nN.mean())
    runs_n = values_nN.mean(1)
    sd = float(runs_n.std(ddof=1)) if n > 1 else 0.0
    if not np.isfinite(values_nN).all():
        return Interval(mean, -np.inf, np.inf, sd, n)
    if values_nN.size == 1:
        return Interval(mean, mean, mean, sd, n)
    random = np.random.default_rng(SEED)
    weights_Rn = random.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    if num_outcomes == 1:
        means_R = weights_Rn @ runs_n
    else:
        # Images with the same outcomes in all runs are drawn together; right and wrong make only few such kinds.
        kinds_nM, counts_M = np.unique(values_nN, axis=1, return_counts=True)
        weights_RM = random.multinomial(num_outcomes, counts_M / num_outcomes, RESAMPLES) / num_outcomes
        means_R = ((weights_Rn @ kinds_nM) * weights_RM).sum(1)
    low, high = np.quantile(means_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    wider = widening(n)
    return Interval(mean, float(mean - (mean - low) * wider), float(mean + (high - mean) * wider), sd, n)


def widening(n: int) -> float:
    quantile = (1 + LEVEL) / 2
    return float(np.sqrt(n / (n - 1)) * stats.t.ppf(quantile, n - 1) / stats.norm.ppf(quantile)) if n > 1 else 1.0


def share_interval(num: int, of: int) -> tuple[float, float]:
    """Return the 99 % interval of a share (Wilson)."""
    found = stats.binomtest(num, of).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)
