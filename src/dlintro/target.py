"""Finds when a run reached a target: where its curve first crosses it, interpolated between two readings."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NUM_READINGS = 10  # that the smallest batch needs at least; a target that is crossed earlier is read too coarsely


@dataclass(frozen=True)
class Reached:
    steps: float
    images: float
    seconds: float | None  # of training, without evaluation; None if the curve has no times


@dataclass(frozen=True)
class Target:
    metric: str
    value: float | None  # None if there is no target
    origin: str  # a sentence that says who chose it and how, or why there is none


def number(value: Any) -> float | None:
    """The value as a finite number, or None if it is absent, empty, infinite or no number."""
    if value is None or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def falls(metric: str) -> bool:
    """Return whether less is better."""
    return metric.endswith("loss")


def reach(readings: Iterable[Mapping[str, Any]], metric: str, value: float) -> Reached | None:
    """Find where the curve first reaches `value`; None if it never does. `readings` are the rows of a metrics.csv. If
    the first reading is beyond the value already, it is returned, as nothing before it allows interpolation."""
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
    """The number of readings up to the first one that reaches `value`."""
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
    """Choose the easiest target that none of `curves` reaches before its tenth reading, just beyond the best of their
    first nine. The curves are those of the smallest batch size. The easiest target is reached by as many batch sizes as
    possible. A curve with fewer readings just doesn't reach it."""
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
        why = f"{metric} is 100 % within the first {NUM_READINGS - 1} evaluations"
        return Target(metric, None, f"There is no target, because {why}.")
    return Target(
        metric,
        value,
        f"The target, {metric} {target_text(metric, value)}, was chosen by this report, on validation: the easiest "
        f"that no run of the smallest batch size reaches before its evaluation number {NUM_READINGS}.",
    )


def finer(curves: Sequence[Iterable[Mapping[str, Any]]]) -> str:
    """Words for a setting that evaluates a run of this length twice as often as a target needs."""
    images = max((number(row.get("images")) or 0 for curve in curves for row in curve), default=0)
    wanted = int(images / (2 * NUM_READINGS))
    return f"Adding trainer.eval_images={wanted} to the command" if wanted else "A smaller trainer.eval_images"


def just_above(accuracy: float) -> float:
    """The next tenth of a point, or the next hundredth if the accuracy is above 98 %."""
    per_unit = 1_000 if accuracy < 0.98 else 10_000
    return (math.floor(accuracy * per_unit + 1e-6) + 1) / per_unit


def just_below(loss: float) -> float:
    """The next smaller number of three digits."""
    if loss <= 0:
        return loss
    unit = 10.0 ** (math.floor(math.log10(loss)) - 2)
    return (math.ceil(loss / unit - 1e-6) - 1) * unit
