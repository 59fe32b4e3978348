"""The kinds of statements that a claim makes, as data fixed before anything is measured.

A statement names the quantity, the arms and the bounds, and `judge` reads nothing but the measurements. What a
comparison must exceed (its margin) is fixed too and never depends on the spread. A large spread widens the 99 %
interval (`statistics.interval`), and the statement is then undecided.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from dlintro.claims import sentences
from dlintro.claims.measurements import DIVERGED, Measurements, Numbers, Row
from dlintro.claims.statistics import Interval, interval, share_interval

HOLDS, IN_PART, FAILS, UNDECIDED = "holds", "holds in part", "does not hold here", "undecided"
NOT_MEASURED = "not measured here"  # this machine has no such device
SLIP = "slip"  # the slide's own numbers don't fit together
CHECK_FAILED = (
    "check failed"  # an identity, or the comparison of identical settings: something is wrong with the experiment
)
VERDICTS = (HOLDS, IN_PART, FAILS, UNDECIDED, NOT_MEASURED, SLIP, CHECK_FAILED)

POINTS = 0.002  # the smallest difference of accuracy worth teaching: 20 of MNIST's 10,000 test images
SHARE = 0.05  # and of any other quantity: two bars of a chart that differ by less look alike
EQUAL_POINTS = 0.005  # smaller differences of accuracy count as none: a reader rounds them away


@dataclass(frozen=True)
class Finding:
    """A statement's verdict and figures. The figures have the quantity's unit; those of a ratio are ratios."""

    says: str
    verdict: str
    measured: str  # in one sentence
    n: int = 0
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    is_ratio: bool = False


class Statement(Protocol):
    @property
    def says(self) -> str: ...

    @property
    def falsified(self) -> str:
        """The verdict that the falsified experiment must give; "" allows any but "holds"."""

    def judge(self, measurements: Measurements) -> Finding: ...


@dataclass(frozen=True)
class Exact:
    """An identity: every row of the quantity has its expected value, to `tolerance`."""

    says: str
    quantity: str
    tolerance: float = 0.0
    falsified: str = ""

    otherwise: ClassVar[str] = FAILS  # the verdict if a value is wrong

    def judge(self, measurements: Measurements) -> Finding:
        rows = measurements.of(self.quantity)
        if not rows:
            return Finding(self.says, NOT_MEASURED, "")
        wrong = [row for row in rows if not self.agrees(row)]
        words = sentences.of_identity(self.quantity, rows, wrong, self.tolerance)
        return Finding(self.says, self.otherwise if wrong else HOLDS, words, len(rows))

    def agrees(self, row: Row) -> bool:
        assert row.expected is not None, f"{row.claim}: {self.quantity} has a row without an expected value"
        return abs(row.value - row.expected) <= self.tolerance  # false for NaN


@dataclass(frozen=True)
class Printed(Exact):
    """Numbers that the slide prints (`expected`) beside those that follow from it. Where they differ, it has a slip."""

    falsified: str = HOLDS

    otherwise: ClassVar[str] = SLIP


@dataclass(frozen=True)
class Comparison:
    """Two arms, compared seed by seed. With `ratio`, positive values are compared by the logarithm of their ratio. With
    `relative`, the margin is a share of the value of `less`, seed by seed. A margin `worth` that isn't the default says
    why in `because`. `grid` is the step of a quantity whose values, one a run, lie on a grid."""

    says: str
    quantity: str
    more: str
    less: str
    worth: float | None = None
    because: str = ""
    ratio: bool = False
    relative: bool = False
    grid: float = 0.0
    unit: str = "points"  # of accuracy: shares are shown in hundredths
    falsified: str = ""

    points: ClassVar[float] = POINTS  # the default of `worth` for accuracies

    def __post_init__(self) -> None:
        assert (self.worth is None) == (not self.because), f"{self.says}: a margin of its own needs a reason"

    def values(self, measurements: Measurements, arm: str) -> Numbers:
        """Return an arm's outcomes (n, N), or its values (n, 1); those of a ratio as logarithms."""
        values_nN = matrix(measurements.of(self.quantity, arm))
        return np.log(values_nN) if self.ratio else values_nN

    def effect(self, measurements: Measurements) -> tuple[Interval, float] | None:
        """Return the difference of the arms and the margin, or None if an arm was not measured."""
        more, less = (self.values(measurements, arm) for arm in (self.more, self.less))
        n = min(len(more), len(less))
        if not n:
            return None
        more, less = more[:n], less[:n]
        worth = self.worth if self.worth is not None else SHARE if self.ratio or self.relative else self.points
        if not self.relative:
            return interval(more - less, self.grid), math.log1p(worth) if self.ratio else worth
        margins = worth * np.sign(less.mean(1, keepdims=True)) * less
        margin = float(margins.mean())
        # The interval of more - less - worth · |less|, moved by the mean margin, so that it can be read beside it.
        return interval(more - less - margins + margin, self.grid), margin

    def finding(self, measurements: Measurements, verdict: str, effect: Interval, margin: float, so: str) -> Finding:
        """Make the finding in the quantity's unit; logarithms become ratios again."""
        unit = "" if self.ratio else self.unit
        if self.ratio:
            effect, margin = effect.as_ratio, math.exp(margin)
        seeds = {row.seed for row in measurements.of(self.quantity, self.more)[: effect.n]}
        rows = [row for arm in (self.more, self.less) for row in measurements.of(DIVERGED, arm)]
        diverged = sum(row.seed in seeds for row in rows)
        words = sentences.of_comparison(self.more, self.less, effect, self.ratio, unit, diverged)
        if math.isfinite(effect.mean):
            words += f", {so.format(m=sentences.with_unit(margin, unit))}"
            words += f" ({self.because})" if self.because else ""
        figures = (effect.n, effect.mean, effect.sd, effect.low, effect.high, margin)
        return Finding(self.says, verdict, words + ".", *figures, is_ratio=self.ratio)


@dataclass(frozen=True)
class Effect(Comparison):
    """The arm `more` has more of the quantity than the arm `less`, by more than the margin."""

    def judge(self, measurements: Measurements) -> Finding:
        found = self.effect(measurements)
        if found is None:
            return Finding(self.says, NOT_MEASURED, "")
        effect, margin = found
        if effect.low > margin:
            verdict, so = HOLDS, "surely above the margin of {m}"
        elif effect.high < margin:
            reversed_ = effect.high < -margin
            verdict, so = FAILS, "so the effect is reversed" if reversed_ else "surely below the margin of {m}"
        else:
            verdict, so = UNDECIDED, "so the runs don't tell whether it is above the margin of {m}"
        return self.finding(measurements, verdict, effect, margin, so)


@dataclass(frozen=True)
class Equal(Comparison):
    """Two arms have as much of the quantity: the whole interval of their difference lies within ± the margin. With
    n = 8 and a margin of 0.5 points, the differences need an sd below 0.3 points to hold."""

    points: ClassVar[float] = EQUAL_POINTS

    def judge(self, measurements: Measurements) -> Finding:
        found = self.effect(measurements)
        if found is None:
            return Finding(self.says, NOT_MEASURED, "")
        effect, margin = found
        if -margin < effect.low and effect.high < margin:
            verdict, so = HOLDS, "surely within the margin of ± {m}"
        elif effect.low > margin or effect.high < -margin:
            verdict, so = FAILS, "surely outside the margin of ± {m}"
        else:
            verdict, so = UNDECIDED, "so the runs don't tell whether it is within the margin of ± {m}"
        return self.finding(measurements, verdict, effect, margin, so)


@dataclass(frozen=True)
class Within:
    """The mean's interval lies between `low` and `high`. With `geometric` it is that of the geometric mean."""

    says: str
    quantity: str
    arm: str | None = None  # any
    low: float = -math.inf
    high: float = math.inf
    geometric: bool = False
    unit: str = ""
    falsified: str = ""

    def judge(self, measurements: Measurements) -> Finding:
        rows = measurements.of(self.quantity, self.arm)
        if not rows:
            return Finding(self.says, NOT_MEASURED, "")
        values_nN = matrix(rows)
        mean = interval(np.log(values_nN)).as_ratio if self.geometric else interval(values_nN)
        if mean.high < self.low or mean.low > self.high:
            verdict = FAILS
        else:
            verdict = HOLDS if self.low < mean.low and mean.high < self.high else UNDECIDED
        words = sentences.of_mean(mean, self.low, self.high, self.unit)
        return Finding(self.says, verdict, words, mean.n, mean.mean, mean.sd, mean.low, mean.high)


@dataclass(frozen=True)
class Count:
    """At least the share `at_least` of the rows have `beyond` or more, and less than `below`. With `lower_bound`, a row
    counts with the lower 99 % bound of its share of outcomes that are 1."""

    says: str
    quantity: str
    arm: str | None = None  # any
    beyond: float = -math.inf
    below: float = math.inf
    at_least: float = 1.0
    lower_bound: bool = False
    unit: str = ""
    falsified: str = ""

    def judge(self, measurements: Measurements) -> Finding:
        rows = measurements.of(self.quantity, self.arm)
        if not rows:
            return Finding(self.says, NOT_MEASURED, "")
        values = [
            share_interval(round(sum(r.outcomes)), len(r.outcomes))[0] if self.lower_bound else r.value for r in rows
        ]
        num = sum(self.beyond <= value < self.below for value in values)
        needed = math.ceil(self.at_least * len(rows) - 1e-9)
        words = sentences.of_count(
            self.quantity, values, num, needed, self.beyond, self.below, self.unit, self.lower_bound
        )
        return Finding(self.says, HOLDS if num >= needed else FAILS, words, len(rows), float(np.mean(values)))


def matrix(rows: Sequence[Row]) -> Numbers:
    """Return the outcomes of each row, or its value alone: (n, N)."""
    if all(row.outcomes for row in rows):
        return np.array([row.outcomes for row in rows])
    return np.array([[row.value] for row in rows])
