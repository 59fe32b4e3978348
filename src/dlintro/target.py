"""When a run reached a target: the first crossing of its curve, read between the two readings around it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NUM_READINGS = 10  # the smallest batch needs at least so many: a target crossed sooner is read too coarsely


@dataclass(frozen=True)
class Reached:
    steps: float
    images: float
    seconds: float | None  # of training alone; None where the curve doesn't say


@dataclass(frozen=True)
class Target:
    metric: str
    value: float | None  # None: there is none
    origin: str  # who chose it, and how; or why there is none


def number(value: Any) -> float | None:
    """A finite number, or None: for what is absent, empty, not a number, nan or infinite."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def falls(metric: str) -> bool:
    """Whether less is better."""
    return metric.endswith("loss")


def reach(readings: Iterable[Mapping[str, Any]], metric: str, value: float) -> Reached | None:
    """None where no reading is as good as `value`. `readings`: the rows of a metrics.csv. Where the very first reading
    is beyond the value, that reading: there is nothing before it to interpolate from."""
    sign = -1 if falls(metric) else 1
    before: tuple[float, Reached] | None = None
    for row in readings:
        reading, steps, images = number(row.get(metric)), number(row.get("step")), number(row.get("images"))
        if reading is None or steps is None or images is None:
            continue
        here = Reached(steps, images, number(row.get("train_seconds")))
        if sign * (reading - value) >= 0:
            return here if before is None else between(before[1], here, (value - before[0]) / (reading - before[0]))
        before = reading, here
    return None


def num_readings(curve: Iterable[Mapping[str, Any]], metric: str, value: float) -> int | None:
    """How many readings it takes to the first one as good as `value`."""
    sign = -1 if falls(metric) else 1
    readings = (reading for row in curve if (reading := number(row.get(metric))) is not None)
    return next((place for place, reading in enumerate(readings, 1) if sign * (reading - value) >= 0), None)


def target_text(metric: str, value: float) -> str:
    """ "≥ 92.7 %"."""
    return f"≤ {value:g}" if falls(metric) else f"≥ {100 * value:g} %"


def between(start: Reached, end: Reached, share: float) -> Reached:
    return Reached(
        start.steps + share * (end.steps - start.steps),
        start.images + share * (end.images - start.images),
        None if start.seconds is None or end.seconds is None else start.seconds + share * (end.seconds - start.seconds),
    )


def choose(curves: Sequence[Iterable[Mapping[str, Any]]], metric: str) -> Target:
    """The easiest target that none of `curves`, the smallest batch's, reaches before its tenth reading: just beyond the
    best of their first nine. The easiest, so that as many batch sizes as possible reach it. A curve may be shorter, as
    the smallest batch's are under equal steps: it just doesn't get there."""
    readings = [[r for row in curve if (r := number(row.get(metric))) is not None] for curve in curves]
    most = max(map(len, readings), default=0)
    if most < NUM_READINGS:
        return Target(
            metric,
            None,
            f"Steps to a target can't be compared: the runs of the smallest batch size were evaluated "
            f"{'once' if most == 1 else f'{most} times'} on {metric}, and {NUM_READINGS} evaluations are needed to see "
            f"when a target was crossed. {finer(curves)} makes more of them.",
        )
    first = [reading for run in readings for reading in run[: NUM_READINGS - 1]]
    value = just_below(min(first)) if falls(metric) else just_above(max(first))
    if not falls(metric) and value > 1:
        return Target(metric, None, f"No target: {metric} is 100 % within the first {NUM_READINGS - 1} evaluations.")
    return Target(
        metric,
        value,
        f"The target, {metric} {target_text(metric, value)}, was chosen by this report, on validation: the easiest "
        f"that no run of the smallest batch size reaches before its evaluation number {NUM_READINGS}.",
    )


def finer(curves: Sequence[Iterable[Mapping[str, Any]]]) -> str:
    """The setting that evaluates a run of this length twice as often as a target needs."""
    images = max((number(row.get("images")) or 0 for curve in curves for row in curve), default=0)
    wanted = int(images / (2 * NUM_READINGS))
    return f"Adding trainer.eval_images={wanted} to the command" if wanted else "A smaller trainer.eval_images"


def just_above(accuracy: float) -> float:
    """The next tenth of a point; the next hundredth where less than two points are left to 100 %."""
    per_unit = 1_000 if accuracy < 0.98 else 10_000
    return (math.floor(accuracy * per_unit + 1e-6) + 1) / per_unit


def just_below(loss: float) -> float:
    """The next smaller number of three digits."""
    if loss <= 0:
        return loss
    unit = 10.0 ** (math.floor(math.log10(loss)) - 2)
    return (math.ceil(loss / unit - 1e-6) - 1) * unit
