"""A claim's statements as data, fixed before anything is measured, and the verdicts that measurements give them.

A statement names the quantity, the arms and the bounds, and `judge` reads nothing but the measurements. An effect is
the difference of two arms, seed by seed, with a 99 % interval (`statistics.interval`). It must lie beyond a margin m,
the larger of two numbers: the smallest difference worth teaching, and the half-width of the same interval between
identical settings with other seeds (A/A). For this comparison one arm is measured with 2n seeds, the others with n.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dlintro.claims.measurements import Measurements, Numbers, Row
from dlintro.claims.statistics import Interval, interval, share_interval

HOLDS, IN_PART, FAILS, UNDECIDED = "holds", "holds in part", "does not hold here", "undecided"
NOT_MEASURED = "not measured here"  # this machine has no such device
VERDICTS = (HOLDS, IN_PART, FAILS, UNDECIDED, NOT_MEASURED)
# How one and how several claims are said to have a verdict; any other verdict follows "is" and "are".
PHRASES = {
    HOLDS: ("holds", "hold"),
    IN_PART: ("holds in part", "hold in part"),
    FAILS: ("does not hold here", "do not hold here"),
    "failed": ("failed", "failed"),
}

POINTS = 0.002  # the smallest difference of accuracy worth teaching
MOST_SPREAD = 10  # if the spread makes the margin more than this many times `worth`, nothing is told from it
EQUAL_POINTS = 0.005  # smaller differences of accuracy count as none


@dataclass(frozen=True)
class Finding:
    """A statement's verdict and figures. The figures have the quantity's unit; those of a ratio are ratios."""

    says: str
    verdict: str
    measured: str  # in words, with n, mean ± sd and interval
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

    def judge(self, measurements: Measurements) -> Finding:
        rows = measurements.of(self.quantity)
        if not rows:
            return Finding(self.says, NOT_MEASURED, "")
        wrong = [row for row in rows if not self.agrees(row)]
        right = f"all {len(rows):,} values are as expected"
        if len(rows) == 1:
            row, within = rows[0], f" ± {self.tolerance:g}" if self.tolerance else ""
            right = f"measured {number(row.value)}, expected {number(row.expected or 0)}{within}"
        elif wrong:
            first = wrong[0]
            right = f"{len(rows) - len(wrong):,} of {len(rows):,} values are as expected; "
            right += f"{named(first)} gives {number(first.value)} instead of {number(first.expected or 0)}"
        elif self.tolerance:
            worst = max(abs(row.value - (row.expected or 0)) for row in rows)
            right += f"; the largest error is {number(worst)} (allowed: {self.tolerance:g})"
        return Finding(self.says, FAILS if wrong else HOLDS, right, len(rows))

    def agrees(self, row: Row) -> bool:
        assert row.expected is not None, f"{row.claim}: {self.quantity} has a row without an expected value"
        return abs(row.value - row.expected) <= self.tolerance  # false for NaN


@dataclass(frozen=True)
class Effect:
    """The arm `more` has more of the quantity than the arm `less`, by more than the margin. `again` is the arm with 2n
    seeds (default: `less`). With `ratio`, positive values are compared by their ratio, in logarithms."""

    says: str
    quantity: str
    more: str
    less: str
    again: str = ""
    worth: float = POINTS
    relative: bool = False  # `worth` is a share of the mean of `less`
    ratio: bool = False  # `worth` is a share
    unit: str = "points"  # of accuracy: shares are shown in hundredths
    falsified: str = ""

    def judge(self, measurements: Measurements) -> Finding:
        found = compare(self, measurements)
        if found is None:
            return Finding(self.says, NOT_MEASURED, "")
        effect, margin, too_wide = found
        fails = effect.high < (0 if too_wide else margin)
        verdict = HOLDS if effect.low > margin else FAILS if fails else UNDECIDED
        return finding(
            self, verdict, effect, margin, f"{self.more} minus {self.less}", "the whole interval must lie above {m}"
        )


@dataclass(frozen=True)
class Equal:
    """Two arms have as much of the quantity: the interval of their difference lies within ± the larger of `worth` and
    twice the A/A half-width."""

    says: str
    quantity: str
    more: str
    less: str
    again: str = ""
    worth: float = EQUAL_POINTS
    relative: bool = False
    ratio: bool = False
    unit: str = "points"
    falsified: str = ""

    def judge(self, measurements: Measurements) -> Finding:
        found = compare(self, measurements, times=2.0)
        if found is None:
            return Finding(self.says, NOT_MEASURED, "")
        effect, margin, too_wide = found
        inside = -margin < effect.low and effect.high < margin
        outside = effect.low > margin or effect.high < -margin
        verdict = FAILS if outside else HOLDS if inside and not too_wide else UNDECIDED
        return finding(
            self, verdict, effect, margin, f"{self.more} minus {self.less}", "the whole interval must lie within ± {m}"
        )


@dataclass(frozen=True)
class Within:
    """The mean's interval lies between `low` and `high`."""

    says: str
    quantity: str
    arm: str | None = None  # any
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""
    falsified: str = ""

    def judge(self, measurements: Measurements) -> Finding:
        rows = measurements.of(self.quantity, self.arm)
        if not rows:
            return Finding(self.says, NOT_MEASURED, "")
        mean = interval(matrix(rows))
        if mean.high < self.low or mean.low > self.high:
            verdict = FAILS
        else:
            verdict = HOLDS if self.low < mean.low and mean.high < self.high else UNDECIDED
        ends = [with_unit(end, self.unit) for end in (self.low, self.high)]
        bound = f"between {ends[0]} and {ends[1]}"
        bound = f"above {ends[0]}" if self.high == math.inf else f"below {ends[1]}" if self.low == -math.inf else bound
        return Finding(
            self.says,
            verdict,
            f"{stated(mean, self.unit)}; it must lie {bound}",
            mean.n,
            mean.mean,
            mean.sd,
            mean.low,
            mean.high,
        )


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
        verdict = HOLDS if num >= self.at_least * len(rows) - 1e-9 else FAILS
        ends = [f"{with_unit(self.beyond, self.unit)} or more"] if self.beyond > -math.inf else []
        ends += [f"less than {with_unit(self.below, self.unit)}"] if self.below < math.inf else []
        needed = math.ceil(self.at_least * len(rows) - 1e-9)
        spread = f"{with_unit(min(values), self.unit)} to {with_unit(max(values), self.unit)}"
        bound = " (lower 99 % bounds)" if self.lower_bound else ""
        words = f"{num} of {len(rows)} values{bound} are {' and '.join(ends)}; at least {needed} must be ({spread})"
        if len(rows) == 1:
            words = f"measured {with_unit(values[0], self.unit)}{bound}; must be {' and '.join(ends)}"
        return Finding(self.says, verdict, words, len(rows), float(np.mean(values)))


def overall(findings: Sequence[Finding]) -> str:
    """Return a claim's verdict from those of its statements. Statements not measured here don't count."""
    told = [finding.verdict for finding in findings if finding.verdict != NOT_MEASURED]
    if not told:
        return NOT_MEASURED
    if all(verdict == HOLDS for verdict in told):
        return HOLDS
    if HOLDS in told or IN_PART in told:
        return IN_PART
    return UNDECIDED if UNDECIDED in told else FAILS


def in_words(counts: Mapping[str, int]) -> str:
    """Return how many have each verdict: "3 hold, 1 does not hold here and 2 are undecided"."""
    parts = []
    for verdict, count in counts.items():
        one, several = PHRASES.get(verdict, (f"is {verdict}", f"are {verdict}"))
        parts.append(f"{count} {one if count == 1 else several}")
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def compare(
    statement: Effect | Equal, measurements: Measurements, times: float = 1.0
) -> tuple[Interval, float, bool] | None:
    """Return the difference of the arms, the margin, and whether the spread makes the margin too wide. A ratio's are
    logarithms. Returns None if an arm was not measured."""
    again = statement.again or statement.less
    more, less, twice = (
        matrix(measurements.of(statement.quantity, arm)) for arm in (statement.more, statement.less, again)
    )
    n = min(len(more), len(less))
    if not n:
        return None
    assert len(twice) >= 2 * n, f"{statement.quantity}: the arm {again} needs {2 * n} seeds for the A/A comparison"
    if statement.ratio:
        more, less, twice = np.log(more), np.log(less), np.log(twice)
    effect = interval(more[:n] - less[:n])
    same = interval(twice[n : 2 * n] - twice[:n])
    worth = math.log1p(statement.worth) if statement.ratio else statement.worth
    worth *= abs(float(less[:n].mean())) if statement.relative else 1.0
    margin = max(times * same.half_width, worth)
    return effect, margin, margin > MOST_SPREAD * worth


def matrix(rows: Sequence[Row]) -> Numbers:
    """Return the outcomes of each row, or its value alone: (n, N)."""
    if all(row.outcomes for row in rows):
        return np.array([row.outcomes for row in rows])
    return np.array([[row.value] for row in rows])


def finding(
    statement: Effect | Equal, verdict: str, effect: Interval, margin: float, difference: str, bound: str
) -> Finding:
    """Make the finding in the quantity's unit; logarithms become ratios again."""
    unit = statement.unit
    if math.isnan(effect.mean):
        return Finding(statement.says, verdict, f"{difference}: some runs have no value", effect.n)
    if statement.ratio:
        unit, difference = "×", difference.replace(" minus ", " divided by ")
        mean, low, high, margin = (math.exp(v) for v in (effect.mean, effect.low, effect.high, margin))
        effect = Interval(mean, low, high, math.expm1(effect.sd) * mean, effect.n)
    words = f"{difference}: {stated(effect, unit)}; {bound.format(m=with_unit(margin, unit))}"
    return Finding(
        statement.says,
        verdict,
        words,
        effect.n,
        effect.mean,
        effect.sd,
        effect.low,
        effect.high,
        margin,
        statement.ratio,
    )


def stated(found: Interval, unit: str) -> str:
    """Return mean ± sd, n and interval in words."""
    if found.n == 1 and found.low == found.high:
        return with_unit(found.mean, unit)
    low, high = (with_unit(end, unit) for end in (found.low, found.high))
    return f"{with_unit(found.mean, unit)} ± {with_unit(found.sd, unit)} (n = {found.n}; 99 % interval {low} to {high})"


def with_unit(value: float, unit: str) -> str:
    if unit == "points":
        return f"{100 * value:.2f} points"
    if unit == "%":
        return f"{100 * value:.2f} %"
    return f"{number(value)} {unit}".strip().replace(" ×", "×")


def number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def named(row: Row) -> str:
    return " ".join([row.arm or row.quantity, *([f"({row.seed})"] if row.seed else [])])
