"""What a report may say differs: batch sizes and learning rates compared over seeds.

Only settings whose seeds all ended well are compared: the mean of those that happen to be left says nothing about a
setting. The others are named in the same sentence. spread.py has the tests. Times, counts and bytes are compared in
logarithms: their spread grows with them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dlintro.sweep import spread
from dlintro.sweep.groups import BATCH, RATE, Setting, Study, spoken
from dlintro.sweep.runs import FIGURES
from dlintro.sweep.words import joined, line_name, setting_name, stat_text, why_left_out
from dlintro.target import number

LEVEL = 0.05
LEAST_POINTS, LEAST_SHARE = 0.002, 0.05  # smaller differences, of accuracies and of other figures, are not worth naming
REPEATS_TO = 0.002  # relative: no job's time or memory repeats more exactly, even where a few runs happen to
METHOD = (
    "Two settings are told apart where two tests agree at 5 %. One is a t test with the larger of two spreads, the "
    "pair's own and the one pooled over comparable settings. Its p is adjusted for all pairs of settings (Holm) and "
    "for all lines and figures here (Benjamini and Hochberg). The other is Welch's t test. p is the larger of the "
    "two. A spread is at least one image of those that an accuracy was measured on, or 0.2 % of a time, count or size, "
    "which are compared in logarithms. Differences of less than 0.2 points of accuracy, or 5 % of other figures, count "
    "as not told apart."
)
# What the slides claim of larger batches: figure, what more and less of it are called, which is better (0: neither).
CLAIMS = (
    ("seconds_per_epoch", "more time per epoch", "less time per epoch", -1),
    ("ram_peak_bytes", "more RAM", "less RAM", 0),
    ("device_peak_bytes", "more device memory", "less device memory", 0),
    ("steps_to_target", "more steps to the target", "fewer steps to the target", -1),
    ("images_to_target", "more images to the target", "fewer images to the target", -1),
    ("seconds_to_target", "more training time to the target", "less training time to the target", -1),
    ("best/test/acc", "higher test accuracy (val-best weights)", "lower test accuracy (val-best weights)", 1),
    ("gap", "a larger gap of training to test accuracy", "a smaller gap of training to test accuracy", -1),
)
OF_BUDGET = ("best/test/acc", "gap")  # mean little without the budget beside them
CHOOSES = "best/val/acc"  # the figure by which a learning rate is chosen
MOST_INLINE = 3  # lines whose numbers stand in a claim's sentence; of more, in the table alone


@dataclass(frozen=True)
class Compared:
    """Settings that differ in one key alone, compared in one figure."""

    line: str
    figure: str
    key: str  # BATCH or RATE
    better: int  # 1: more of the figure, -1: less, 0: neither
    settings: Sequence[Setting]  # whose seeds all have the figure, two of them or more; smallest first
    left_out: Sequence[str]  # the others, and why
    p: spread.Array  # of each pair (settings, settings), adjusted for all that the page compares

    @property
    def some(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.settings) > 1

    def name(self, place: int) -> str:
        return setting_name(self.settings[place], self.key)

    def mean(self, place: int) -> float:
        return self.settings[place].stat(self.figure).mean or 0

    def number(self, place: int) -> str:
        return stat_text(self.figure, self.settings[place].stat(self.figure))

    def n(self, place: int) -> int:
        return self.settings[place].stat(self.figure).n

    def differ(self, one: int, other: int) -> bool:
        return bool(self.p[one, other] < LEVEL) and self.worth_naming(one, other)

    def worth_naming(self, one: int, other: int) -> bool:
        in_points = FIGURES[self.figure][1] in ("share", "points")
        least = LEAST_POINTS if in_points else LEAST_SHARE * abs(self.mean(one))
        return abs(self.mean(one) - self.mean(other)) >= least

    @cached_property
    def top(self) -> int:
        """The place of the best mean."""
        return max(range(len(self.settings)), key=lambda place: self.better * self.mean(place))

    @property
    def worse(self) -> list[str]:
        """What is told apart from the best mean."""
        return [self.name(place) for place in range(len(self.settings)) if self.differ(self.top, place)]

    @property
    def near(self) -> list[str]:
        """What isn't."""
        others = [place for place in range(len(self.settings)) if place != self.top]
        return [self.name(place) for place in others if not self.differ(self.top, place)]

    @property
    def best(self) -> str:
        """The best of three settings or more, beside the others; of two, the verdict says it."""
        if not self.better or len(self.settings) < 3:
            return ""
        if not self.worse:
            return (
                f"none stands out (the {'highest' if self.better > 0 else 'lowest'} mean is at {self.name(self.top)})"
            )
        return f"the best is {self.top_beside_others}"

    @property
    def top_beside_others(self) -> str:
        near = f", not told apart from {joined(self.near)}" if self.near else ""
        number = f"{self.number(self.top)}, n = {self.n(self.top)}"
        return f"{self.name(self.top)} ({number}), better than {joined(self.worse)}{near}"

    @property
    def verdict(self) -> str:
        """From the smallest setting to the largest."""
        name = FIGURES[self.figure][0]
        if not self.some:
            return f"no comparison of {name}"
        if self.p[0, -1] >= LEVEL:
            return f"no difference within the spread in {name}"
        if not self.worth_naming(0, -1):
            return f"next to no difference in {name}"
        more, less = next((more, less) for figure, more, less, _ in CLAIMS if figure == self.figure)
        return more if self.mean(-1) > self.mean(0) else less

    def said(self, with_numbers: bool) -> str:
        """What stands behind the verdict: the line, its ends, its best setting, and what was left out of all this."""
        parts = []
        if with_numbers and self.some:
            parts = [f"{', '.join(f'{self.number(end)} at {self.name(end)}' for end in (0, -1))}"]
            parts += [f"n = {self.n(0)}, {self.n(-1)}"]
        parts += [f"left out: {joined(self.left_out)}"] if self.left_out else []
        ends = "; ".join(parts)
        head = f"{self.line} ({ends})" if self.line and ends else self.line or ends
        return ", ".join(filter(None, (head, self.best)))

    @property
    def row(self) -> list[str]:
        """Of the table: line, smallest, largest, verdict, best, left out."""
        cells = [self.line or "all", "", "", self.verdict, self.best, joined(self.left_out)]
        if self.some:
            cells[1:3] = [f"{self.number(end)} at {self.name(end)} (n = {self.n(end)})" for end in (0, -1)]
            cells[3] += f" (p = {self.p[0, -1]:.2g})"
        return cells

    @property
    def preference(self) -> str:
        """Which learning rate validation prefers."""
        under = f" under {self.line}" if self.line else ""
        left_out = f" (left out: {joined(self.left_out)})" if self.left_out else ""
        if not self.some:
            return f"No two learning rates can be compared{under}{left_out}."
        mean = f"{self.number(self.top)}, n = {self.n(self.top)}"
        if not self.worse:
            names = joined([self.name(place) for place in range(len(self.settings))])
            highest = f"the highest mean val accuracy, {mean}, is at {self.name(self.top)}"
            if len(self.settings) == 2:
                return f"Validation does not tell learning rates {names}{under} apart ({highest}){left_out}."
            near = joined(self.near)
            return f"Validation prefers no learning rate{under}: {highest}, not told apart from {near}{left_out}."
        and_near = f", and is not told apart from {joined(self.near)}" if self.near else ""
        rate = f"learning rate {self.name(self.top)}{under} (val accuracy {mean})"
        return f"Validation prefers {rate}, which is better than {joined(self.worse)}{and_near}{left_out}."


def compared(study: Study) -> list[Compared]:
    """All that a page compares, its p adjusted together."""
    found = [*of_batch_sizes(study), *of_rates(study)]
    tests = [spread.pair_p(*samples(c)) if c.some else (c.p, c.p) for c in found]
    smallest = [np.maximum(*both).min() for c, both in zip(found, tests, strict=True) if c.some]
    factor = spread.page_factor(smallest, LEVEL)
    both = [np.maximum(np.minimum(1, factor * pooled), welch) for pooled, welch in tests]
    return [replace(c, p=p) for c, p in zip(found, both, strict=True)]


def of_batch_sizes(study: Study) -> Iterator[Compared]:
    for line in study.lines:
        for figure, _, _, better in CLAIMS:
            name = line_name(study, line, with_budget=figure in OF_BUDGET)
            if len(line.settings) > 1 and any(setting.tells(figure) for setting in line.settings):
                yield family(name, figure, BATCH, better, line.settings)


def of_rates(study: Study) -> Iterator[Compared]:
    for name, settings in study.rate_lines:
        if len(settings) > 1 and any(setting.tells(CHOOSES) for setting in settings):
            yield family("" if name == "all" else name, CHOOSES, RATE, 1, settings)


def family(line: str, figure: str, key: str, better: int, settings: Sequence[Setting]) -> Compared:
    why = [why_left_out(setting, figure) for setting in settings]
    why = [w or ("" if s.stat(figure).n > 1 else "one seed") for s, w in zip(settings, why, strict=True)]
    left_out = [f"{setting_name(s, key)} ({w})" for s, w in zip(settings, why, strict=True) if w]
    told = [s for s, w in zip(settings, why, strict=True) if not w]
    return Compared(line, figure, key, better, told, left_out, np.ones((1, 1)))


def samples(c: Compared) -> tuple[list[list[float]], float, bool]:
    """The values of each setting's seeds, the smallest difference that they can have, whether seeds tie by chance."""
    values = [list(setting.stat(c.figure).values) for setting in c.settings]
    if FIGURES[c.figure][1] in ("share", "points"):
        return values, an_image(c), True
    if min(map(min, values)) <= 0:
        return values, 0.0, True
    by_setting_alone = FIGURES[c.figure][1] == "bytes"
    return [[math.log(value) for value in seeds] for seeds in values], REPEATS_TO, not by_setting_alone


def an_image(c: Compared) -> float:
    """By what an accuracy changes with one image; 0 where the records don't say how many there were."""
    field = "val_images" if c.figure == CHOOSES else "test_images"
    counts = [number(run.record.get(field)) for setting in c.settings for run in setting.runs]
    return max((1 / count for count in counts if count), default=0.0)


def claims(found: Sequence[Compared], study: Study) -> list[tuple[str, list[tuple[str, str]], list[list[str]]]]:
    """(title, (verdict, lines it holds for), rows of the table) of each claim measured at two sizes or more. None where
    no line has two sizes that can be compared."""
    groups = [[c for c in found if c.key == BATCH and c.figure == claim[0]] for claim in CLAIMS]
    if not any(c.some for group in groups for c in group):
        return []
    return [(FIGURES[g[0].figure][0], verdicts(g, study), [c.row for c in g]) for g in groups if g]


def verdicts(group: Sequence[Compared], study: Study) -> list[tuple[str, str]]:
    """One claim over all lines, those of one verdict together."""
    same: dict[str, list[Compared]] = {}
    for c in group:
        same.setdefault(c.verdict, []).append(c)
    if len(same) == 1 < len(group) and len(group) > MOST_INLINE and len({(c.best, *c.left_out) for c in group}) == 1:
        others = " and ".join(spoken(key) for key in study.keys if key != BATCH)
        return [(verdict, f"for every {others}; such as {group[0].said(True)}") for verdict in same]
    return [(v, "; ".join(c.said(len(group) <= MOST_INLINE) for c in members)) for v, members in same.items()]


def preferences(found: Sequence[Compared]) -> list[str]:
    return [c.preference for c in found if c.key == RATE]


def fastest(found: Sequence[Compared], study: Study) -> list[str]:
    """Where devices are compared over batch sizes: the fastest size of each."""
    if not {"device", "accelerator.name"} & set(study.keys):
        return []
    told = [c for c in found if c.figure == "seconds_per_epoch" and c.some and c.worse]
    left_out = [f" (left out: {joined(c.left_out)})" if c.left_out else "" for c in told]
    return [
        f"Fastest batch size of {c.line}: {c.top_beside_others}{lost}." for c, lost in zip(told, left_out, strict=True)
    ]
