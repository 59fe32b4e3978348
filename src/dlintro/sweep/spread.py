"""Tests whether settings differ by more than their seeds do: p values for few seeds, ties and unequal spreads.

Two settings differ if two tests agree. The first is a t test whose standard error is the larger of two: the pair's
own, and the one from the variance pooled over all comparable settings, which has more degrees of freedom. A setting
that is significantly noisier than the pair isn't comparable with it. Because the best setting is chosen after looking,
this p is adjusted for all pairs of the line (Holm 1979). The second is Welch's t test of the pair alone. It is also
right for unequal spreads, which few seeds can't reveal.

Two rules keep ties from looking like certainty. A spread is at least one step of the figure's grid. If the seeds of
both settings tie, p is at least the chance that n tosses of a coin all fall on one side and m tosses of an equal coin
all on the other. tests/sweep/test_spread.py simulates how often the report's sentences are wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

NOISIER = 0.001  # the level of the F test that calls a setting too noisy to be pooled with a pair

Array = npt.NDArray[Any]


def pair_p(samples: Sequence[Sequence[float]], step: float, ties_are_chance: bool) -> tuple[Array, Array]:
    """Return two two-sided p of each pair of settings, both (S, S): the pooled t test's, adjusted for all pairs, and
    Welch's. `samples` has the values of each setting's seeds, two or more. `step` is the smallest difference that the
    figure can have, or 0 if it isn't known. `ties_are_chance` is false for a figure such as memory, which may repeat
    because the setting alone decides it."""
    from scipy.stats import t

    means, counts = np.array([np.mean(s) for s in samples]), np.array([len(s) for s in samples])
    variances = np.array([max(np.var(s, ddof=1), step**2, np.finfo(float).eps ** 2) for s in samples])
    freedom = counts - 1
    i, j = np.triu_indices(len(samples), 1)
    distance = np.abs(means[i] - means[j])
    tied = np.array([ties_are_chance and len(set(s)) == 1 for s in samples])
    both_tied = tied[i] & tied[j]

    own = variances[i] / counts[i] + variances[j] / counts[j]
    pooled = pool(variances, freedom, both_tied)
    num = pooled @ freedom
    squared_error = np.maximum(own, pooled @ (freedom * variances) / num * (1 / counts[i] + 1 / counts[j]))
    p = np.maximum(2 * t.sf(distance / np.sqrt(squared_error), num), both_tied * 2.0 ** (1 - counts[i] - counts[j]))

    parts = (variances[i] / counts[i]) ** 2 / freedom[i] + (variances[j] / counts[j]) ** 2 / freedom[j]
    welch = 2 * t.sf(distance / np.sqrt(own), own**2 / parts)
    tables = np.ones((2, len(samples), len(samples)))
    for table, values in zip(tables, (holm(np.where(distance > 0, p, 1)), welch), strict=True):
        table[i, j] = table[j, i] = values
    return tables[0], tables[1]


def pool(variances: Array, freedom: Array, both_tied: Array) -> Array:
    """Return which settings are pooled with each pair (pairs, S): the two, and all that aren't significantly noisier. A
    pair whose seeds tie has no spread to compare, so it is pooled with every setting."""
    from scipy.stats import f

    i, j = np.triu_indices(len(variances), 1)
    pair_freedom = freedom[i] + freedom[j]
    pair = (freedom[i] * variances[i] + freedom[j] * variances[j]) / pair_freedom
    limit = f.isf(NOISIER, freedom[None], pair_freedom[:, None]) * pair[:, None]
    pooled = both_tied[:, None] | (variances[None] <= limit)
    rows = np.arange(len(i))
    pooled[rows, i] = pooled[rows, j] = True
    return np.asarray(pooled)


def holm(p: Array) -> Array:
    """Adjust p so that the chance of any false difference stays below the level (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def page_factor(smallest: Sequence[float], level: float) -> float:
    """Return the factor for the p of each line and figure on a page with several. `smallest` has the smallest p of
    each. The lines and figures that Benjamini and Hochberg (1995) select are judged at the level times their share. Of
    those in which differences are named, at most the share `level` is then expected to name a false one (Benjamini and
    Bogomolov 2014)."""
    from scipy.stats import false_discovery_control

    selected = int(np.sum(false_discovery_control(smallest) <= level)) if smallest else 0
    return len(smallest) / max(1, selected) if smallest else 1.0
