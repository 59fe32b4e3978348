"""Groups runs into settings, whose runs differ only in the seed, and into the study that every report is made from."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from dlintro.settings.identity import is_of
from dlintro.settings.keys import HOW_RUN
from dlintro.sweep import critical_batch
from dlintro.sweep.critical_batch import CriticalBatch
from dlintro.sweep.runs import CONTENTS, Run, Sweep, with_target
from dlintro.target import Target, choose, number, target_text

BATCH, RATE, BUDGET = "data.batch_size", "optim.lr", "sweep.budget"
# The keys that name a setting, in this order. A key that the keys before it decide (the budget decides the steps, the
# model decides the network's widths) names nothing. Data and model are always named.
FIRST = ("data", "model", "accelerator.name", "trainer.precision", BUDGET, "optim.lr_rule", BATCH, RATE)
LAST = "device"


@dataclass(frozen=True)
class Stat:
    """The mean and sd (n - 1) of one figure over the seeds of a setting; None if there are too few seeds."""

    values: Sequence[float]

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def sd(self) -> float | None:
        return statistics.stdev(self.values) if self.n > 1 else None


@dataclass(frozen=True)
class Setting:
    values: Mapping[str, Any]  # by key, for the keys that differ in the study
    runs: Sequence[Run]

    @cached_property
    def ok(self) -> list[Run]:
        """The ok runs that count as observations. Another run of the same seed repeats one and doesn't count."""
        return one_a_seed(run for run in self.runs if run.status == "ok")

    @property
    def batch_size(self) -> int:
        """0 if it isn't known."""
        return self.runs[0].batch_size or 0

    def count(self, status: str) -> int:
        return sum(run.status == status for run in self.runs)

    def stat(self, figure: str) -> Stat:
        """The figure over the ok runs. The last numbers of a diverged run say nothing about the setting."""
        return Stat([run.figures[figure] for run in self.ok if figure in run.figures])

    def label(self, *without: str) -> str:
        return label({key: value for key, value in self.values.items() if key not in without})

    @cached_property
    def lost(self) -> list[Run]:
        """One run for each seed that did not end well, or has not ended. Another run of the same seed makes up for a
        failure, but not for a divergence. If a setting lost seeds, those that remain may be the lucky ones, so nothing
        is compared with their mean."""
        there = set(map(seed_of, self.ok))
        return one_a_seed(
            run for run in self.runs if run.status != "ok" and (run.status == "diverged" or seed_of(run) not in there)
        )

    @property
    def num_seeds(self) -> int:
        """The number of observations that the setting would have if it had lost none."""
        return len(one_a_seed(self.runs))

    @property
    def all_reached(self) -> bool:
        return not self.lost and all("steps_to_target" in run.figures for run in self.ok)

    def tells(self, figure: str) -> bool:
        """Return whether the figure has a fair mean. One over only the seeds that reached the target flatters it."""
        return self.stat(figure).n > 0 and (self.all_reached or not figure.endswith("_to_target"))


@dataclass(frozen=True)
class Line:
    """One line of a plot: settings that differ only in the batch size, smallest first."""

    label: str
    budget: str  # "epochs" or "steps" if its runs have equally many of these, else ""
    settings: Sequence[Setting]

    @cached_property
    def to_target(self) -> list[Setting]:
        """The settings that reached the target, except at step 0, which has no logarithm."""
        return [s for s in self.settings if s.all_reached and min(s.stat("steps_to_target").values) > 0]

    @cached_property
    def critical(self) -> CriticalBatch | None:
        points = [[s.stat(name).values for s in self.to_target] for name in ("steps_to_target", "images_to_target")]
        steps, images = ([statistics.geometric_mean(values) for values in curve] for curve in points)
        return critical_batch.fit(steps, images)


@dataclass(frozen=True)
class Study:
    sweeps: Sequence[Sweep]
    runs: Sequence[Run]
    target: Target
    keys: Sequence[str]  # those that differ

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings, sorted by the values of their keys: numbers by size, words in the order of the runs."""
        groups = [group for group in split([list(self.runs)], self.keys) if group]
        found = [Setting({key: group[0].leaves.get(key) for key in self.keys}, group) for group in groups]
        words = dict.fromkeys(said(value) for setting in found for value in setting.values.values())
        order = {word: place for place, word in enumerate(words)}
        return sorted(found, key=lambda setting: [sortable(value, order) for value in setting.values.values()])

    @cached_property
    def lines(self) -> list[Line]:
        """The lines of the plots, or none if the batch size doesn't vary."""
        if BATCH not in self.keys:
            return []
        groups: dict[tuple[str, str], list[Setting]] = {}
        for setting in (s for s in self.settings if s.batch_size):
            groups.setdefault((setting.label(BATCH, BUDGET), compared(setting.runs[0], BUDGET)), []).append(setting)
        lines = []
        for (name, _), members in groups.items():
            budget = in_common([run for setting in members for run in setting.runs])
            name = name if budget else members[0].label(BATCH)  # this label names the budget, too
            lines.append(Line(name, budget, sorted(members, key=lambda setting: setting.batch_size)))
        return lines

    @cached_property
    def rate_lines(self) -> list[tuple[str, list[Setting]]]:
        """Pairs of a label and the settings that differ only in the learning rate, smallest first."""
        groups: dict[str, list[Setting]] = {}
        for setting in self.settings if RATE in self.keys else ():
            if number(setting.values[RATE]) is not None:
                groups.setdefault(setting.label(RATE), []).append(setting)
        return [(name, sorted(members, key=lambda s: float(s.values[RATE]))) for name, members in groups.items()]

    def some(self, figure: str) -> bool:
        """Return whether any ok run has this figure."""
        return any(figure in run.figures for run in self.runs if run.status == "ok")

    def number_of(self, status: str) -> int:
        return sum(run.status == status for run in self.runs)


def seed_of(run: Run) -> Any:
    """The seed, which tells observations apart. A run of unknown seed counts as an observation of its own."""
    return run.folder if run.seed is None else said(run.seed)


def one_a_seed(runs: Iterable[Run]) -> list[Run]:
    """The first run of each seed."""
    found: dict[Any, Run] = {}
    for run in runs:
        found.setdefault(seed_of(run), run)
    return list(found.values())


def study(sweeps: Sequence[Sweep], runs: Sequence[Run], asked: tuple[str, float | None] | None = None) -> Study:
    """Make a study of the runs. `asked` is a target (metric, value) that replaces the runs' own; an empty metric keeps
    theirs."""
    told = [run for run in runs if run.leaves.get("data") is not None]  # a damaged folder says nothing about the others
    keys = differing(told or runs)
    metric, value = asked or ("", None)
    target = find_target(told or runs, keys) if value is None else given_target(metric or own_metric(runs), value)
    return Study(sweeps, [with_target(run, target) for run in runs], target, keys)


def differing(runs: Sequence[Run]) -> list[str]:
    """The fewest keys that tell the settings apart. A key counts if it differs between runs that agree in all the keys
    before it."""
    varied = swept(runs)
    known = [key for name, key in CONTENTS.items() if all(name in run.leaves for run in runs if run.leaves.get(key))]
    names = {name for run in runs for name in run.leaves if name in varied or not (ignored(name) or name in known)}
    in_order = [*FIRST, *sorted(names - {*FIRST, *CONTENTS, LAST}), *CONTENTS, LAST]
    groups = [list(runs)]
    keys = []
    for name in in_order:
        finer = split(groups, [name])
        if len(finer) > len(groups) or (name in FIRST[:2] and len(split([list(runs)], [name])) > 1):
            keys.append(name)
        groups = finer
    return keys


def ignored(name: str) -> bool:
    """Return whether the key can't change a run's result. If the record has a fingerprint of a file, its path can't."""
    return name == "seed" or is_of(name, HOW_RUN)


def swept(runs: Sequence[Run]) -> set[str]:
    """The keys whose values differ between the jobs. They are compared even if they can't change the result."""
    given: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.overrides.items():
            given.setdefault(name, set()).add(said(value))
    return {n for n, values in given.items() if len(values) > 1 and n != "seed" and not n.startswith("sweep.")}


def compared(run: Run, name: str) -> str:
    """The value by which this key tells runs apart. A run without a budget trains as one with `epochs`."""
    value = run.leaves.get(name)
    return said("epochs" if name == BUDGET and value is None else value)


def in_common(runs: Sequence[Run]) -> str:
    """The budget that all ok runs used up, or "" if some ended earlier, by a limit of steps or time or by early
    stopping."""
    asked = {run.leaves.get(BUDGET) for run in runs}
    ok = [run for run in runs if run.status == "ok"]
    if asked == {"steps"}:
        return "steps" if len({run.figures.get("steps") for run in ok}) <= 1 else ""
    if any(run.leaves.get("trainer.max_steps") for run in runs) or any(map(cut_short, ok)):
        return ""
    epochs = {run.figures.get("epochs") for run in ok}
    known = asked == {"epochs"} or (epochs and None not in epochs)
    return "epochs" if known and len(epochs) <= 1 else ""


def cut_short(run: Run) -> bool:
    """Return whether the run ended in the middle of an epoch."""
    images, steps, epochs = number(run.record.get("train_images")), run.figures.get("steps"), run.figures.get("epochs")
    if not images or not run.batch_size or steps is None or epochs is None:
        return False
    return steps < epochs * (images // run.batch_size)


def split(groups: Iterable[list[Run]], names: Iterable[str]) -> list[list[Run]]:
    """Split the groups so that only runs that agree in all `names` stay together."""
    groups = list(groups)
    for name in names:
        finer: list[list[Run]] = []
        for group in groups:
            parts: dict[str, list[Run]] = {}
            for run in group:
                parts.setdefault(compared(run, name), []).append(run)
            finer += parts.values()
        groups = finer
    return groups


def find_target(runs: Sequence[Run], keys: Sequence[str]) -> Target:
    """The target that the runs were given, or one that is chosen from the curves of the smallest batch size."""
    asked = {(run.leaves.get("target.metric"), number(run.leaves.get("target.value"))) for run in runs}
    given = [(str(metric or "val/acc"), value) for metric, value in asked if value is not None]
    if len(given) == 1:
        return given_target(*given[0])
    metric = own_metric(runs)
    if given:
        return Target(metric, None, "There is no target, because the runs were given different ones (target.value).")
    ok = [run for run in runs if run.status == "ok" and run.batch_size is not None]
    if "data" in keys:
        return Target(metric, None, "There is no target, because one for several data sets would compare nothing.")
    if BATCH not in keys or not ok:
        why = "no batch sizes are compared" if ok else "no run is ok"
        return Target(metric, None, f"There is no target, because none was given (target.value) and {why}.")
    return chosen_target([Setting({}, group) for group in split([list(runs)], keys)], metric)


def chosen_target(settings: Sequence[Setting], metric: str) -> Target:
    """Choose a target from the curves of the smallest batch size that lost no seed, or else of the smallest that has an
    ok run. Settings without an ok run, on a missing accelerator for example, don't count."""
    sizes: dict[int, list[Setting]] = {}
    for setting in sorted(settings, key=lambda setting: setting.batch_size):
        if setting.batch_size and setting.ok:
            sizes.setdefault(setting.batch_size, []).append(setting)
    chosen = next((size for size, members in sizes.items() if not any(s.lost for s in members)), min(sizes))
    target = choose([run.curve for setting in sizes[chosen] for run in setting.ok], metric)
    smaller = ", ".join(f"{size:,}" for size in sorted({s.batch_size for s in settings}) if 0 < size < chosen)
    notes = [f"smaller batch sizes lost runs and were not used ({smaller})"] if smaller else []
    if any(setting.lost for setting in sizes[chosen]):
        left, whole = (sum(numbers) for numbers in zip(*((len(s.ok), s.num_seeds) for s in sizes[chosen]), strict=True))
        notes.append(f"only {left} of the {whole} runs at batch size {chosen:,} are left")
    return replace(target, origin="; ".join([target.origin.removesuffix("."), *notes]) + ".")


def given_target(metric: str, value: float) -> Target:
    return Target(metric, value, f"The target was given: {metric} {target_text(metric, value)}.")


def own_metric(runs: Sequence[Run]) -> str:
    return min((str(metric) for run in runs if (metric := run.leaves.get("target.metric"))), default="val/acc")


def label(values: Mapping[str, Any]) -> str:
    """ "batch size 32, lr rule sqrt"."""
    return ", ".join(f"{spoken(key)} {said(value)}" for key, value in values.items()) or "all"


def spoken(key: str) -> str:
    special = {"optim.name": "optimizer", RATE: "learning rate"}
    group, _, name = key.rpartition(".")
    return special.get(key) or (group if name == "name" else name).replace("_", " ")


def said(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "–"}[value]
    if isinstance(value, (int, float)):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(said, value)) + "]"
    return str(value)


def sortable(value: Any, order: Mapping[str, int]) -> tuple[int, float]:
    found = number(value)
    return (1, order[said(value)]) if found is None else (0, found)
