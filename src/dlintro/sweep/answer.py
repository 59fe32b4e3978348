"""The answer to a sweep's question: which setting is best, by how much, and how sure that is.

Validation accuracy chooses, or balanced accuracy where trainer.best says so. Images per second do where only
accelerators, precisions or batch sizes on them are compared. The terminal and report.html say the same sentence. It is
the page's one main comparison, so its p is adjusted for all pairs of settings, and not for the other comparisons on the
page (compare.py), which have their own adjustment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dlintro.settings.identity import is_of
from dlintro.settings.keys import HOW_RUN
from dlintro.sweep.compare import (
    BALANCED,
    CHOOSES,
    LEAST_POINTS,
    LEAST_SHARE,
    LEVEL,
    Compared,
    adjusted,
    chooses,
    family,
)
from dlintro.sweep.groups import BATCH, LAST, RATE, Setting, Study, said, spoken
from dlintro.sweep.words import (
    RANKED_BY,
    SPEED,
    capital,
    figure_text,
    joined,
    plural,
    setting_name,
    stat_text,
    why_left_out,
)
from dlintro.target import number

ON_MACHINES = ("accelerator.name", "trainer.precision", LAST)  # what changes the speed rather than the result
TESTED = {CHOOSES: "best/test/acc", BALANCED: "best/test/balanced_acc"}  # the same of the test images
APART = ("data", "images")  # accuracies on different images are not ranked
PLURALS = {BATCH: "batch sizes", RATE: "learning rates", "model": "models", "optim.name": "optimizers"}
UNIT = {CHOOSES: "validation accuracy", BALANCED: "balanced validation accuracy", SPEED: "images per second"}
MOST_NAMED = 4
MOST_COLUMNS = 2  # keys with a column each; more share one, so that a table fits a phone


@dataclass(frozen=True)
class Answer:
    """About the settings on one data set. `place`: words for the data set where there are several."""

    compared: Compared
    all_settings: Sequence[Setting]
    place: str = ""

    @cached_property
    def ranked(self) -> list[Setting]:
        """The settings, best mean first. Those that are compared with nothing come last."""
        figure = self.compared.figure
        return sorted(
            self.all_settings, key=lambda s: (self._is_left_out(s), not s.stat(figure).n, -(s.stat(figure).mean or 0))
        )

    @property
    def whole(self) -> list[Setting]:
        """The settings that lost no seed and have the figure, best mean first."""
        return [s for s in self.ranked if not s.lost and s.stat(self.compared.figure).n]

    @property
    def best(self) -> Setting | None:
        """The setting that is told apart from at least one other and has the highest mean; None where there is none."""
        c = self.compared
        return c.settings[c.top] if c.some and c.beaten else None

    def verdict(self, setting: Setting) -> str:
        """One word for the setting's row of a table."""
        c = self.compared
        if self._is_left_out(setting):
            return "left out"
        if not c.some:
            return ""
        place = c.settings.index(setting)
        if place == c.top:
            return "best" if self.is_clear else "highest"
        return "worse" if place in c.beaten else "tied"

    @property
    def is_clear(self) -> bool:
        """Return whether the best mean is told apart from all others."""
        return bool(self.compared.beaten and not self.compared.near)

    def _is_left_out(self, setting: Setting) -> bool:
        """Return whether a setting is compared with nothing, while others are, or because it lost seeds."""
        return bool(setting.lost) or (self.compared.some and setting not in self.compared.settings)

    @property
    def headline(self) -> str:
        sentence = self._sentence()
        return f"On {self.place}: {sentence}" if self.place else capital(sentence)

    def _sentence(self) -> str:
        c, what = self.compared, RANKED_BY[self.compared.figure]
        if not any(s.stat(c.figure).n for s in self.all_settings):
            return f"no run has ended with a {what}, so there is nothing to compare."
        if len(self.all_settings) == 1:
            return self._of_one_setting()
        if not c.some:
            return self._without_a_comparison()
        top = f"{c.number(c.top)} {UNIT[c.figure]}"
        if not c.beaten:
            low = min(range(len(c.settings)), key=c.mean)
            figures = f"{figure_text(c.figure, c.mean(low))} ({c.name(low)}) and {figure_text(c.figure, c.mean(c.top))}"
            return (
                f"{self._no_difference}: their mean {UNIT[c.figure]} lies between {figures} ({c.name(c.top)}, "
                f"{self._counts})."
            )
        if not c.near:
            second = max((p for p in range(len(c.settings)) if p != c.top), key=c.mean)
            other = c.name(second) + (", the next best" if len(c.settings) > 2 else "")
            return (
                f"{self._subject(c.top)} is best: {top}, {self._distance(second)} than {other} "
                f"({self._counts}, p = {c.p[c.top, second]:.2g})."
            )
        highest = f"has the highest {what}, {c.number(c.top)}" if c.figure != SPEED else f"is the fastest, {top}"
        near = [place for place in range(len(c.settings)) if place not in (c.top, *c.beaten)]
        return (
            f"{self._subject(c.top)} {highest} ({self._counts}): it beats {self._others(c.beaten)}, but is not clearly "
            f"better than {self._others(near)}."
        )

    @property
    def _no_difference(self) -> str:
        c = self.compared
        others = [place for place in range(len(c.settings)) if place != c.top]
        if any(c.p[c.top, place] < LEVEL for place in others) and not any(c.worth_naming(c.top, p) for p in others):
            least = f"{100 * LEAST_POINTS:g} points" if c.figure != SPEED else f"{LEAST_SHARE:.0%}"
            return f"the {len(c.settings)} {self._plural} differ by less than {least}, too little to call one the best"
        return f"these seeds can't tell the {len(c.settings)} {self._plural} apart"

    def _others(self, places: Sequence[int]) -> str:
        """The settings by name, or their number where each has a long name."""
        names = [self.compared.name(place) for place in places]
        if self.compared.key or len(places) == 1:
            return few(names) if self.compared.key else self._name(self.compared.settings[places[0]])
        return f"{len(places)} others"

    def _of_one_setting(self) -> str:
        (setting,), figure = self.all_settings, self.compared.figure
        stat, what = setting.stat(figure), RANKED_BY[figure]
        seeds = f"{stat.n} seeds" if stat.n > 1 else "one seed"
        if setting.lost:
            seeds = f"{stat.n} of {plural(setting.num_seeds, 'seed')}, because {self._why(setting)}"
        return f"{what} is {stat_text(figure, stat)} over {seeds}."

    def _without_a_comparison(self) -> str:
        """Say why nothing is compared: fewer than two settings have two seeds or more that all ended well."""
        c, what = self.compared, RANKED_BY[self.compared.figure]
        if c.settings:
            kept = "kept all its seeds" if any(s.lost for s in self.all_settings) else "has two seeds or more"
            return f"only {self._subject(0, 'middle')} {kept} ({c.number(0)} {what}), so nothing is compared."
        if self.whole:
            first = self.whole[0]
            return (
                f"{self._name(first)} has the highest {what}, {stat_text(c.figure, first.stat(c.figure))}, but one "
                "seed each can't tell a difference from chance."
            )
        return f"every one of the {len(self.all_settings)} {self._plural} lost seeds, so nothing is compared."

    @property
    def details(self) -> list[str]:
        """Sentences beside the answer: the ends, the test accuracy, and the settings that are left out."""
        return [*filter(None, (self._ends(), self._test(), self._left_out()))]

    def _ends(self) -> str:
        """The best setting beside the smallest and the largest, where a number orders them."""
        c = self.compared
        if not self.best or len(c.settings) < 3 or any(number(s.values.get(c.key)) is None for s in c.settings):
            return ""
        last = len(c.settings) - 1
        if c.top in (0, last):
            end, beyond = ("smallest", "smaller") if c.top == 0 else ("largest", "larger")
            return f"{c.name(c.top)} is the {end} that was tried, and a {beyond} one may be better still."
        places = (("smallest", 0), ("largest", last))
        ends = [f"the {end}, {c.name(place)}, reaches {c.number(place)}" for end, place in places]
        return f"{capital(joined(ends))}."

    def _test(self) -> str:
        setting = self.best or (self.whole[0] if self.whole else None)
        test = TESTED.get(self.compared.figure, "")
        if setting is None or not test or not setting.stat(test).n:
            return ""
        it = "it" if len(self.all_settings) == 1 else self._name(setting)
        return f"On the test images, which chose nothing, {it} reaches {stat_text(test, setting.stat(test))}."

    def _left_out(self) -> str:
        """The settings that are compared with nothing, and why."""
        if len(self.all_settings) == 1:
            return ""
        left_out = [s for s in self.all_settings if self._is_left_out(s)]
        if not left_out:
            return ""
        named = [f"{self._name(s)} ({self._why(s) or 'one seed'})" for s in left_out]
        some_remain = any(s.lost and s.ok for s in left_out)
        seeds = ", because the seeds that remain may be the lucky ones" if some_remain else ""
        return f"The comparison leaves out {few(named)}{seeds}."

    def _why(self, setting: Setting) -> str:
        return why_left_out(setting, self.compared.figure)

    def _name(self, setting: Setting) -> str:
        """ "batch size 16", "model mnist_cnn with learning rate 0.1"."""
        key = self.compared.key
        if key:
            return f"{spoken(key)} {setting_name(setting, key)}"
        first, *others = [f"{spoken(key)} {told(value)}" for key, value in setting.values.items() if key not in APART]
        return " with ".join(filter(None, (first, joined(others))))

    def _subject(self, place: int, where: str = "start") -> str:
        name = self._name(self.compared.settings[place])
        return capital(name) if where == "start" and not self.place else name

    @property
    def _plural(self) -> str:
        key = self.compared.key
        return PLURALS.get(key) or (f"values of {spoken(key)}" if key else "settings")

    @property
    def _counts(self) -> str:
        counts = sorted({self.compared.n(place) for place in range(len(self.compared.settings))})
        return f"n = {joined([str(count) for count in counts])}"

    def _distance(self, place: int) -> str:
        """Say by how much the best setting is better than this one."""
        c = self.compared
        if c.figure != SPEED:
            return f"{100 * (c.mean(c.top) - c.mean(place)):.2f} points more"
        return f"{100 * (c.mean(c.top) / c.mean(place) - 1):.0f} % more"


def answers(study: Study) -> list[Answer]:
    """One for each data set, in the order of the study."""
    figure = chooses(study) if not is_of_speed(study) else SPEED
    places: dict[str, list[Setting]] = {}
    for setting in study.settings:
        place = ", ".join(said(setting.values[key]) for key in study.keys if key in APART)
        places.setdefault(place, []).append(setting)
    families = []
    for settings in places.values():
        keys = [key for key in study.keys if len({said(s.values[key]) for s in settings}) > 1]
        key = keys[0] if len(keys) == 1 else ""
        ordered = sorted(settings, key=lambda s: s.batch_size) if key == BATCH else settings
        families.append(family("", figure, key, 1, ordered))
    return [
        Answer(c, settings, place if len(places) > 1 else "")
        for c, (place, settings) in zip(adjusted(families), places.items(), strict=True)
    ]


def is_of_speed(study: Study) -> bool:
    """Return whether the sweep asks which machine, or which batch size on each machine, is the fastest."""
    machines = [key for key in study.keys if key in ON_MACHINES or is_of(key, HOW_RUN)]
    return bool(machines) and set(study.keys) <= {*machines, BATCH} and study.some(SPEED)


def few(names: Sequence[str]) -> str:
    """The first names, and the number of the others."""
    if len(names) <= MOST_NAMED + 1:
        return joined(names)
    return f"{', '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} others"


def headline(found: Sequence[Answer]) -> str:
    """The answer in one sentence, or one for each data set."""
    return " ".join(answer.headline for answer in found) or "There is no run to compare."


@dataclass(frozen=True)
class Row:
    """A setting in the table of the terminal and of the page."""

    values: list[str]  # of the keys that differ, in the study's order; one cell where there are many keys
    ranked_by: str  # accuracies in percent, or images per second
    test: str
    seeds: str  # "3", or "2 of 3" where some were lost
    verdict: str


def rows(study: Study, found: Sequence[Answer]) -> list[Row]:
    """Best first; those that lost seeds come last."""
    return [row(study, answer, setting) for answer in found for setting in answer.ranked]


def row(study: Study, answer: Answer, setting: Setting) -> Row:
    figure = answer.compared.figure
    stat, of = setting.stat(figure), f" of {setting.num_seeds}" if setting.lost else ""
    values = [told(value) for value in setting.values.values()]
    if len(values) > MOST_COLUMNS:
        values = [setting.label()]
    tested = TESTED.get(figure, TESTED[CHOOSES])
    test = stat_text(tested, setting.stat(tested))
    ranked_by, test = (text.removesuffix(" %") for text in (stat_text(figure, stat), test))
    return Row(values or ["all runs"], ranked_by, test, f"{stat.n}{of}", answer.verdict(setting))


def told(value: Any) -> str:
    return f"{value:,}" if type(value) is int else said(value)


def ranks_by(study: Study) -> tuple[str, ...]:
    """The headers of a table's figures: the one that ranks the settings, and the same of the test images."""
    if is_of_speed(study):
        return ("images/s",)
    kind = "balanced " if chooses(study) == BALANCED else ""
    return (f"{kind}validation %", f"{kind}test %")


def headers(study: Study) -> list[str]:
    """The names of a row's values."""
    return [spoken(key) for key in study.keys] if 0 < len(study.keys) <= MOST_COLUMNS else ["setting"]
