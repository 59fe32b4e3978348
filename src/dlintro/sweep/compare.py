"""What a report may say differs: batch sizes and learning rates compared over seeds.

Smallest against largest batch size, and learning rates: Welch's t test, two-sided; over all comparisons of a report the
false discovery rate is held at 5 % (Benjamini and Hochberg 1995), or of a hundred comparisons five would differ by
chance. Times, counts and bytes are compared in logarithms: their spread grows with them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dlintro.sweep.groups import BATCH, RATE, Setting, Study, spoken
from dlintro.sweep.runs import FIGURES
from dlintro.sweep.words import at_size, line_name, listed, stat_text

FALSE_DISCOVERIES = 0.05
LEAST_POINTS, LEAST_SHARE = 0.002, 0.05  # smaller differences, of accuracies and of other figures, are not worth naming
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
MOST_INLINE = 3  # lines whose numbers stand in a claim's sentence; of more, in the table alone


@dataclass(frozen=True)
class Preference:
    """Which learning rate validation prefers, of settings that differ in nothing else."""

    line: str
    best: Setting
    others: Sequence[tuple[Setting, float | None]]  # with their p against the best; None: fewer than two seeds
    diverged: Sequence[Setting]

    @property
    def sentence(self) -> str:
        stat = self.best.stat("best/val/acc")
        name = f" under {self.line}" if self.line else ""
        mean = f"{stat_text('best/val/acc', stat)}, n = {stat.n}"
        near = [f"{s.values[RATE]:g}" for s, p in self.others if p is not None and p >= FALSE_DISCOVERIES]
        untold = [f"{s.values[RATE]:g}" for s, p in self.others if p is None]
        parts = [f"Validation prefers learning rate {self.best.values[RATE]:g}{name} (val accuracy {mean})"]
        parts += [f"not told apart from it within the spread: {listed(near)}"] if near else []
        parts += [f"with one seed nothing can be said of {listed(untold)}"] if untold else []
        parts += [] if near or untold or not self.others else ["each other rate is worse by more than the spread"]
        parts += (
            [f"at least one run diverged at {listed(f'{s.values[RATE]:g}' for s in self.diverged)}"]
            if self.diverged
            else []
        )
        return "; ".join(parts) + "."


@dataclass(frozen=True)
class Comparison:
    line: str
    figure: str
    more: str
    less: str
    smallest: Setting
    largest: Setting
    best: Setting | None
    p: float | None  # None: fewer than two seeds

    @property
    def verdict(self) -> str:
        name = FIGURES[self.figure][0]
        if self.p is None:
            return f"one seed can't tell {name} apart"
        if self.p >= FALSE_DISCOVERIES:
            return f"no difference within the spread in {name}"
        small, large = (setting.stat(self.figure).mean or 0 for setting in (self.smallest, self.largest))
        worth_naming = LEAST_POINTS if FIGURES[self.figure][1] in ("share", "points") else LEAST_SHARE * abs(small)
        if abs(large - small) < worth_naming:
            return f"next to no difference in {name}"
        return self.more if large > small else self.less

    @property
    def numbers(self) -> str:
        ends = [(setting, setting.stat(self.figure)) for setting in (self.smallest, self.largest)]
        said = [f"{stat_text(self.figure, stat)} at {setting.batch_size:,}" for setting, stat in ends]
        return f"{said[0]}, {said[1]}; n = {ends[0][1].n}, {ends[1][1].n}"


def tested(study: Study) -> tuple[list[Comparison], list[Preference]]:
    """All comparisons of a report, their p adjusted together."""
    from scipy.stats import false_discovery_control

    found, preferred = comparisons(study), preferences(study)
    all_p = [c.p for c in found] + [p for preference in preferred for _, p in preference.others]
    known = [p for p in all_p if p is not None]
    adjusted = iter(false_discovery_control(known) if known else ())

    def after(p: float | None) -> float | None:
        return None if p is None else float(next(adjusted))

    found = [replace(c, p=after(c.p)) for c in found]
    return found, [replace(q, others=[(setting, after(p)) for setting, p in q.others]) for q in preferred]


def comparisons(study: Study) -> list[Comparison]:
    found = []
    for line in study.lines:
        for figure, more, less, better in CLAIMS:
            told = [setting for setting in line.settings if setting.tells(figure)]
            if len(told) > 1:
                order = sorted(told, key=lambda s: s.stat(figure).mean or 0)
                best = {-1: order[0], 0: None, 1: order[-1]}[better]
                p = welch(figure, told[0], told[-1])
                name = line_name(study, line, with_budget=figure in OF_BUDGET)
                found.append(Comparison(name, figure, more, less, told[0], told[-1], best, p))
    return found


def preferences(study: Study) -> list[Preference]:
    found = []
    for name, settings in study.rate_lines:
        told = [s for s in settings if s.stat("best/val/acc").n and not s.count("diverged")]
        if len(settings) > 1 and told:
            best = max(told, key=lambda s: s.stat("best/val/acc").mean or 0)
            others = [(s, welch("best/val/acc", best, s)) for s in told if s is not best]
            diverged = [s for s in settings if s.count("diverged")]
            found.append(Preference("" if name == "all" else name, best, others, diverged))
    return found


def welch(figure: str, one: Setting, other: Setting) -> float | None:
    """p; None for fewer than two seeds."""
    from scipy.stats import ttest_ind

    a, b = one.stat(figure).values, other.stat(figure).values
    if FIGURES[figure][1] in ("s", "count", "bytes") and min(*a, *b) > 0:
        a, b = [math.log(value) for value in a], [math.log(value) for value in b]

    if min(len(a), len(b)) < 2:
        return None
    if len(set(a)) == len(set(b)) == 1:  # no spread, no t
        return 1.0 if a[0] == b[0] else 0.0
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def claims(study: Study) -> list[tuple[str, list[tuple[str, str]], list[list[str]]]]:
    """(title, (verdict, lines it holds for), rows of line, smallest, largest, best, verdict) of each claim measured at
    two sizes or more. None where no line has two seeds: nothing could be said."""
    found, _ = tested(study)
    if all(comparison.p is None for comparison in found):
        return []
    groups = [[comparison for comparison in found if comparison.figure == claim[0]] for claim in CLAIMS]
    return [(FIGURES[g[0].figure][0], verdicts(g, study), [row(c) for c in g]) for g in groups if g]


def verdicts(group: Sequence[Comparison], study: Study) -> list[tuple[str, str]]:
    """One claim over all lines, those of one verdict together."""
    same: dict[str, list[Comparison]] = {}
    for comparison in group:
        same.setdefault(comparison.verdict, []).append(comparison)
    if len(group) <= MOST_INLINE:
        return [
            (v, "; ".join(f"{c.line} ({c.numbers})" if c.line else c.numbers for c in members))
            for v, members in same.items()
        ]
    if len(same) == 1:
        others = " and ".join(spoken(key) for key in study.keys if key != BATCH)
        c = group[0]
        return [(verdict, f"for every {others}; such as {c.line} ({c.numbers})") for verdict in same]
    return [(verdict, "; ".join(c.line for c in members)) for verdict, members in same.items()]


def row(c: Comparison) -> list[str]:
    ends = [at_size(c.figure, setting) for setting in (c.smallest, c.largest)]
    p = "" if c.p is None else f" (p = {c.p:.2g})"
    return [c.line or "all", *ends, at_size(c.figure, c.best) if c.best else "", c.verdict + p]
