"""Says what was measured, in one sentence that a student can read, with each number in the quantity's unit."""

import math
from collections.abc import Mapping, Sequence

from dlintro.claims.measurements import Row
from dlintro.claims.statistics import Interval

# How one and how several claims are said to have a verdict; any other verdict follows "is" and "are".
PHRASES = {
    "holds": ("holds", "hold"),
    "holds in part": ("holds in part", "hold in part"),
    "does not hold here": ("does not hold here", "do not hold here"),
    "slip": ("is a slip", "are slips"),
    "check failed": ("failed a check", "failed a check"),
    "failed": ("failed", "failed"),
}


def in_words(counts: Mapping[str, int]) -> str:
    """Return how many have each verdict: "3 hold, 1 does not hold here and 2 are undecided"."""
    parts = []
    for verdict, count in counts.items():
        one, several = PHRASES.get(verdict, (f"is {verdict}", f"are {verdict}"))
        parts.append(f"{count} {one if count == 1 else several}")
    return listed(parts)


def listed(parts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def of_identity(quantity: str, rows: Sequence[Row], wrong: Sequence[Row], tolerance: float) -> str:
    """`wrong` are those of the rows that don't have their expected value, to the tolerance."""
    within = f" to within {tolerance:g}" if tolerance else ""
    if len(rows) == 1:
        value, expected = number(rows[0].value), number(rows[0].expected or 0)
        if wrong:
            return f"The value of “{quantity}” is {value} instead of {expected}{within}."
        as_stated = f"and {expected}{within} was stated" if within else "as stated"
        return f"The value of “{quantity}” is {value}, {as_stated}."
    if wrong:
        first = wrong[0]
        instead = f"{number(first.value)} instead of {number(first.expected or 0)}"
        return f"Only {len(rows) - len(wrong):,} of {len(rows):,} values are as stated: {named(first)} gives {instead}."
    if not tolerance:
        return f"All {len(rows):,} values are exactly as stated."
    worst = max(abs(row.value - (row.expected or 0)) for row in rows)
    allowed = f"the largest error is {number(worst)}, and {tolerance:g} is allowed"
    return f"All {len(rows):,} values are as stated: {allowed}."


def of_comparison(more: str, less: str, effect: Interval, ratio: bool, unit: str, diverged: int) -> str:
    """Return the sentence's beginning; what follows from it comes after a comma."""
    difference = f"The ratio of “{more}” to “{less}”" if ratio else f"The difference, “{more}” minus “{less}”,"
    if not math.isfinite(effect.mean):
        return f"{difference} can't be told, because some of the {effect.n} runs have no value"
    as_it_ended = "counts as it ended" if diverged == 1 else "count as they ended"
    lost = f", {diverged} of the {2 * effect.n} runs diverged and {as_it_ended}" if diverged else ""
    return f"{difference} is {stated(effect, unit, lost)}"


def of_mean(mean: Interval, low: float, high: float, unit: str) -> str:
    if not math.isfinite(mean.mean):
        return f"The mean can't be told, because some of the {mean.n} runs have no value."
    bounds = [f"above {with_unit(low, unit)}"] if low > -math.inf else []
    bounds += [f"below {with_unit(high, unit)}"] if high < math.inf else []
    return f"The mean is {stated(mean, unit)}, and the whole interval must lie {listed(bounds)}."


def of_count(
    quantity: str,
    values: Sequence[float],
    num: int,
    needed: int,
    beyond: float,
    below: float,
    unit: str,
    lower_bound: bool,
) -> str:
    ends = [f"{with_unit(beyond, unit)} or more"] if beyond > -math.inf else []
    ends += [f"less than {with_unit(below, unit)}"] if below < math.inf else []
    one, several = ("lower 99 % bound", "lower 99 % bounds") if lower_bound else ("value", "values")
    if len(values) == 1:
        return f"The {one} of “{quantity}” is {with_unit(values[0], unit)}, and it had to be {listed(ends)}."
    spread = f"{with_unit(min(values), unit)} to {with_unit(max(values), unit)}"
    found = f"{'All' if num == len(values) else f'{num:,} of'} {len(values):,} {several} are {listed(ends)}"
    wanted = f", and at least {needed:,} had to be" if num < len(values) or needed < len(values) else ""
    return f"{found}{wanted}." if min(values) == max(values) else f"{found}{wanted} (they are {spread})."


def stated(found: Interval, unit: str, more: str = "") -> str:
    """Return mean ± sd, and in brackets the interval, n and `more`."""
    mean, low = scaled(found.mean, unit), scaled(found.low, unit)
    if not math.isfinite(found.low):
        return f"{with_unit(found.mean, unit)} (n = {found.n}, too few for an interval{more})"
    ends = f"{low} to {with_unit(found.high, unit)}"
    return f"{mean} ± {with_unit(found.sd, unit)} (99 % interval {ends}, n = {found.n}{more})"


def with_unit(value: float, unit: str) -> str:
    return f"{scaled(value, unit)} {unit}".strip()


def scaled(value: float, unit: str) -> str:
    """Return the number in its unit: shares are shown in hundredths."""
    return f"{100 * value:.2f}" if unit in ("points", "%") else number(value)


def number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def named(row: Row) -> str:
    return " ".join([row.arm or row.quantity, *([f"({row.seed})"] if row.seed else [])])
