"""Compares batch sizes and learning rates over seeds, and says in sentences what differs.

Only settings whose seeds all ended well are compared, because the mean of the seeds that happen to be left says nothing
about a setting. The same sentence names the settings that are left out. spread.py has the tests. Times, counts and
bytes are compared in logarithms, because their spread grows with them.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from dlintro.sweep import spread
from dlintro.sweep.groups import BATCH, RATE, Setting, Study, spoken
from dlintro.sweep.runs import FIGURES
from dlintro.sweep.words import MOST_LINES, capital, joined, line_name, listed, setting_name, stat_text, why_left_out
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


class Claim(NamedTuple):
    """A claim of the slides about larger batches: a figure, the verb, and the names for more and less of it."""

    figure: str
    verb: str
    more: str
    less: str
    better: int  # 1: more of the figure is better, -1: less is, 0: neither


CLAIMS = (
    Claim("seconds_per_epoch", "takes", "more time per epoch", "less time per epoch", -1),
    Claim("ram_peak_bytes", "uses", "more RAM", "less RAM", 0),
    Claim("device_peak_bytes", "uses", "more device memory", "less device memory", 0),
    Claim("steps_to_target", "needs", "more steps to the target", "fewer steps to the target", -1),
    Claim("images_to_target", "needs", "more images to the target", "fewer images to the target", -1),
    Claim("seconds_to_target", "needs", "more training time to the target", "less training time to the target", -1),
    Claim(
        "best/test/acc",
        "reaches",
        "higher test accuracy (val-best weights)",
        "lower test accuracy (val-best weights)",
        1,
    ),
    Claim(
        "gap", "shows", "a larger gap of training to test accuracy", "a smaller gap of training to test accuracy", 0
    ),  # a network that learned nothing has no gap: a small one alone is not better
)
CLAIM = {claim.figure: claim for claim in CLAIMS}
OF_BUDGET = ("best/test/acc", "gap")  # mean little without the budget beside them
CHOOSES, BALANCED = "best/val/acc", "best/val/balanced_acc"  # the figures by which a setting is chosen


@dataclass(frozen=True)
class Compared:
    """Settings that differ in one key alone, compared in one figure."""

    line: str
    figure: str
    key: str  # "" where the settings differ in several keys
    better: int  # 1: more of the figure, -1: less, 0: neither
    settings: Sequence[Setting]  # whose seeds all have the figure, two of them or more; smallest first
    left_out: Sequence[str]  # the others, and why
    p: spread.Array  # of each pair (settings, settings), adjusted for all that the page compares

    @property
    def some(self) -> bool:
        """Return whether there is anything to compare."""
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

    @cached_property
    def beaten(self) -> list[int]:
        """The places that are told apart from the best mean."""
        return [place for place in range(len(self.settings)) if self.differ(self.top, place)]

    @property
    def worse(self) -> list[str]:
        return [self.name(place) for place in self.beaten]

    @property
    def near(self) -> list[str]:
        """The settings that are not told apart from the best mean."""
        others = set(range(len(self.settings))) - {self.top, *self.beaten}
        return [self.name(place) for place in sorted(others)]

    @property
    def best(self) -> str:
        """A sentence about the best of three settings or more; of two, the verdict says it."""
        if not self.better or len(self.settings) < 3:
            return ""
        if not self.worse:
            highest = "highest" if self.better > 0 else "lowest"
            return f"No {spoken(self.key)} stands out: the {highest} mean is at {self.name(self.top)}."
        return f"The best {spoken(self.key)} is {self.top_beside_others}."

    @property
    def top_beside_others(self) -> str:
        near = f", and is not told apart from {joined(self.near)}" if self.near else ""
        number = f"{self.number(self.top)}, n = {self.n(self.top)}"
        return f"{self.name(self.top)} ({number}), which is better than {joined(self.worse)}{near}"

    @property
    def verdict(self) -> str:
        """From the smallest setting to the largest."""
        name, claim = FIGURES[self.figure][0], CLAIM[self.figure]
        if not self.some:
            return f"no comparison of {name}"
        if self.p[0, -1] >= LEVEL:
            return f"no difference within the spread in {name}"
        if not self.worth_naming(0, -1):
            return f"next to no difference in {name}"
        return claim.more if self.mean(-1) > self.mean(0) else claim.less

    @property
    def claim(self) -> str:
        """The verdict as a sentence without its full stop."""
        if not self.some:
            return f"fewer than two batch sizes can be compared in {FIGURES[self.figure][0]}"
        claim = CLAIM[self.figure]
        if self.verdict in (claim.more, claim.less):
            return f"the largest batch size {claim.verb} {self.verdict} than the smallest"
        return f"the smallest and the largest batch size show {self.verdict}"

    @property
    def sentences(self) -> str:
        """The verdict with its numbers, the best setting, and the settings that are left out."""
        numbers = ""
        if self.some:
            counts = joined([f"{n}" for n in dict.fromkeys((self.n(0), self.n(-1)))])
            numbers = f": {self.number(0)} at {self.name(0)}, {self.number(-1)} at {self.name(-1)} (n = {counts})"
        claim = f"with {self.line}, {self.claim}" if self.line else self.claim
        left_out = f"This leaves out {joined(self.left_out)}." if self.left_out else ""
        return " ".join(filter(None, (f"{capital(claim)}{numbers}.", self.unsteady, self.best, left_out)))

    @property
    def unsteady(self) -> str:
        """A warning if times vary so much that the machine, not the setting, may have made them."""
        stats = [setting.stat(self.figure) for setting in self.settings]
        if FIGURES[self.figure][1] != "seconds" or not any((s.sd or 0) > (s.mean or 0) / 2 for s in stats):
            return ""
        return "These times vary too much to compare, perhaps because other programs ran: repeat it on a quiet machine."

    @property
    def row(self) -> list[str]:
        """The cells of a table: line, smallest, largest, verdict, best, left out."""
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
    return adjusted([*of_batch_sizes(study), *of_rates(study)])


def adjusted(found: Sequence[Compared]) -> list[Compared]:
    """The comparisons with their p, adjusted for all of them together."""
    tests = [spread.pair_p(*samples(c)) if c.some else (c.p, c.p) for c in found]
    smallest = [np.maximum(*both).min() for c, both in zip(found, tests, strict=True) if c.some]
    factor = spread.page_factor(smallest, LEVEL)
    both = [np.maximum(np.minimum(1, factor * pooled), welch) for pooled, welch in tests]
    return [replace(c, p=p) for c, p in zip(found, both, strict=True)]


def of_batch_sizes(study: Study) -> Iterator[Compared]:
    for line in study.lines:
        for figure, *_, better in CLAIMS:
            name = line_name(study, line, with_budget=figure in OF_BUDGET)
            if len(line.settings) > 1 and any(setting.tells(figure) for setting in line.settings):
                yield family(name, figure, BATCH, better, line.settings)


def of_rates(study: Study) -> Iterator[Compared]:
    for name, settings in study.rate_lines:
        if len(settings) > 1 and any(setting.tells(CHOOSES) for setting in settings):
            yield family("" if name == "all" else name, chooses(study), RATE, 1, settings)


def chooses(study: Study) -> str:
    """Return the figure by which a setting is chosen: the accuracy on validation images, or the balanced accuracy where
    that chose the epochs of all runs."""
    asked = {run.leaves.get("trainer.best") for run in study.runs}
    return BALANCED if asked == {"val/balanced_acc"} else CHOOSES


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
    field = "val_images" if c.figure in (CHOOSES, BALANCED) else "test_images"
    counts = [number(run.record.get(field)) for setting in c.settings for run in setting.runs]
    return max((1 / count for count in counts if count), default=0.0)


def claims(found: Sequence[Compared], study: Study) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, sentences, rows of the table) of each claim measured at two sizes or more. None where no line has two
    sizes that can be compared."""
    groups = [[c for c in found if c.key == BATCH and c.figure == claim.figure] for claim in CLAIMS]
    if not any(c.some for group in groups for c in group):
        return []
    return [(FIGURES[g[0].figure][0], sentences(g, study), [c.row for c in g]) for g in groups if g]


def sentences(group: Sequence[Compared], study: Study) -> list[str]:
    """One claim over all lines. Of many lines, those of one verdict share a sentence, and the table has the numbers."""
    if len(group) <= MOST_LINES:  # else the numbers stand in the table alone
        return [c.sentences for c in group]
    same: dict[str, list[Compared]] = {}
    for c in group:
        same.setdefault(c.claim, []).append(c)
    if len(same) == 1 and len({(c.best, *c.left_out) for c in group}) == 1:
        others = " and ".join(spoken(key) for key in study.keys if key != BATCH)
        return [f"Whatever the {others}, {group[0].claim}. For example: {group[0].sentences}"]
    return [
        f"{capital(claim)} in {len(members)} of {len(group)} comparisons: {listed(c.line for c in members)}."
        for claim, members in same.items()
    ]


def preferences(found: Sequence[Compared]) -> list[str]:
    return [c.preference for c in found if c.key == RATE]


def fastest(found: Sequence[Compared], study: Study) -> list[str]:
    """Name the fastest batch size of each device, if devices are compared over batch sizes."""
    if not {"device", "accelerator.name"} & set(study.keys):
        return []
    told = [c for c in found if c.figure == "seconds_per_epoch" and c.some and c.worse]
    left_out = [f" (left out: {joined(c.left_out)})" if c.left_out else "" for c in told]
    return [
        f"With {c.line}, the fastest batch size is {c.top_beside_others}{lost}."
        for c, lost in zip(told, left_out, strict=True)
    ]
