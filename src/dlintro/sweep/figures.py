"""Draws the plots of a report: matplotlib figures with one panel each, so that a page can set them side by side or, on
a phone, one below the other. Each function yields the pictures for which there are numbers; `main` comes first and
shows what the page's first sentence says.

This file is longer than most because it is one list of plots. They have white paper in light and dark.
"""

import math
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from dlintro.sweep.answer import Answer, answers
from dlintro.sweep.compare import BALANCED, CHOOSES
from dlintro.sweep.groups import BATCH, RATE, Line, Setting, Study, said
from dlintro.sweep.runs import FIGURES, Run
from dlintro.sweep.svg import BETWEEN, mark
from dlintro.sweep.words import SPEED, capital, line_name, listed, lost_text, stat_text
from dlintro.target import number, target_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#555555")  # Okabe and Ito's
MARKERS = "osD^vP*X"
SIZE = (5.6, 4.2)  # inches; as wide as a phone shows it
MOST_CURVES = 12  # settings in a panel of learning curves
MOST_PANELS = 6  # of one kind
MOST_SECONDS = 180  # on an axis; longer times are in minutes
MOST_SETTINGS = 30  # in a chart of settings
MOST_TICKS = 8
# Ticks within a decade of a logarithmic axis, the densest first. Wider axes have whole decades, every second one, ...
TICKS = ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
SCALE = {"share": 100.0, "points": 100.0, "bytes": 2.0**-20}
# The captions of the main picture, by the figure that ranks the settings.
MAIN = {
    CHOOSES: "Validation accuracy of each setting, by which one is chosen.",
    BALANCED: "Balanced validation accuracy of each setting, by which one is chosen.",
    SPEED: "Images per second in training, without evaluation.",
}
SPREAD = "Bars show the mean ± sd over the seeds, and dots show the seeds."
AXIS = {"share": " (%)", "points": " (points)", "bytes": " (MiB)"}


@dataclass(frozen=True)
class Picture:
    name: str  # of its PNG
    caption: str
    figure: "Figure"


def pictures(study: Study) -> Iterator[Picture]:
    import matplotlib

    # A $ in somebody's path is no mathematics.
    style: dict[Any, Any] = {
        "text.parse_math": False,
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(style):
        yield from main(study)
        for draw in (target, accuracy, time, memory, gap, rates, heat_maps, settings_charts, learning_curves):
            yield from draw(study)


def main(study: Study) -> Iterator[Picture]:
    """The figure by which the settings are ranked, for each of them, or the learning curves of one setting alone."""
    import matplotlib

    found = answers(study)
    figure = found[0].compared.figure if found else ""
    told = [s for s in study.settings if figure and s.stat(figure).n]
    if not told or len(study.settings) == 1:
        return
    with matplotlib.rc_context({"font.size": 10}):
        if BATCH in study.keys and not {"data", "images"} & set(study.keys):
            panel_, axes = panel("", "batch size", axis_title(figure))
            draw_lines(axes, study.lines, figure, lambda line: line_name(study, line))
            mark_lost(axes, study.lines)
            batch_axis(axes, study.lines)
            lost = lost_legend(line.settings for line in study.lines)
        elif RATE in study.keys and figure == CHOOSES and len(study.rate_lines) <= len(COLOURS):
            panel_, axes = rates_panel(study)
            lost = " Dashed: test accuracy of the same weights, which chooses nothing." * (len(study.rate_lines) == 1)
            lost += lost_legend(settings for _, settings in study.rate_lines)
        else:
            ranked = [s for answer in found for s in answer.ranked if s in told]
            panel_, axes = dots(ranked, figure)
            lost = lost_legend([ranked], crosses=False)
        ring(axes, study, found)
        yield Picture("main", f"{MAIN[figure]} {SPREAD}{ringed(found)}{lost}", finish(panel_, axes))


def ring(axes: "Axes", study: Study, found: Sequence[Answer]) -> None:
    """A ring around the best setting."""
    for answer in found:
        if answer.best is None:
            continue
        mark_of = next((a for a in axes.lines if a.get_gid() and spot(answer.best) in str(a.get_gid())), None)
        if mark_of is not None:
            x, y = mark_of.get_data()
            axes.plot(x, y, "o", markersize=15, markerfacecolor="none", markeredgecolor="#1c1e21", markeredgewidth=1.2)


def ringed(found: Sequence[Answer]) -> str:
    names = [answer for answer in found if answer.best is not None]
    return "" if not names else " The ring marks the best setting." if len(names) == 1 else " Rings mark the best ones."


def spot(setting: Setting) -> str:
    """The words with which a setting's point begins under the pointer."""
    return f"{setting.label()}{BETWEEN}"


def panel(title: str, x: str, y: str, height: float = SIZE[1]) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure  # not pyplot: nothing global, no window system

    figure = Figure(figsize=(SIZE[0], height), dpi=140, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(textwrap.fill(title, 68), fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25)
    axes.ticklabel_format(useOffset=False)  # 92.1 is to be read off, not 0.1 above 92
    return figure, axes


def finish(figure: "Figure", axes: "Axes", names: str = "") -> "Figure":
    """A legend below the plot, where it hides nothing: what was measured first. `names`: what its labels are."""
    from matplotlib.container import Container

    named = sorted(zip(*axes.get_legend_handles_labels(), strict=True), key=lambda n: not isinstance(n[0], Container))
    if len(named) > 1:
        handles, labels = zip(*named, strict=True)
        longest = max(map(len, labels))
        columns = 1 + sum(longest <= most for most in (36, 22, 15, 9, 6))
        rows = math.ceil(len(labels) / columns) + bool(names)
        figure.set_figheight(figure.get_figheight() + 0.17 * (rows - 1))
        figure.legend(
            handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False, title=names or None,
            title_fontsize=8,
        )  # fmt: skip
    return figure


def file_name(*words: str) -> str:
    return "-".join(filter(None, (re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-") for word in words)))[:100]


def axis_title(figure: str) -> str:
    title, unit = FIGURES[figure]
    return title + AXIS.get(unit, "")


def plain(value: float, position: int = 0) -> str:
    return f"{value:,.10g}"


def log_axis(axis: Any, ticks: Sequence[float] = ()) -> None:
    """Plain numbers: matplotlib's own powers of ten would need its mathematics. Without `ticks` an axis that spans less
    than a factor of four stays linear: it would have next to no ticks. Called when all is drawn."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axis.set_major_formatter(FuncFormatter(plain))
    span = axis.get_data_interval()[1] / axis.get_minpos()
    if not ticks and span < 4:
        return
    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_major_formatter(FuncFormatter(plain))  # the scale has brought its own
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_locator(FixedLocator(readable(axis, ticks)))
    axis.set_minor_locator(NullLocator())


def readable(axis: Any, ticks: Sequence[float]) -> list[float]:
    """The `ticks`, or the most of a logarithmic axis, whose labels don't run into each other."""
    low, high = axis.get_view_interval()
    inches_per_decade = (4.4 if axis.axis_name == "x" else 3.2) / math.log10(high / low)

    def clear(one: float, other: float) -> bool:
        width = 0.036 * (len(plain(one)) + len(plain(other))) + 0.08 if axis.axis_name == "x" else 0.2
        return inches_per_decade * math.log10(other / one) > width

    if ticks:
        kept = [ticks[0]]
        for tick in ticks[1:]:
            kept += [tick] if clear(kept[-1], tick) else []
        return kept
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [[sub * 10.0**decade for decade in decades for sub in subs] for subs in TICKS]
    choices += [[10.0**decade for decade in decades[::step]] for step in range(2, len(decades))]
    for choice in choices:
        kept = [tick for tick in choice if low <= tick <= high]
        if len(kept) <= MOST_TICKS and all(clear(*pair) for pair in pairwise(kept)):
            return kept
    return [low]


def batch_axis(axes: "Axes", lines: Sequence[Line]) -> None:
    sizes = sorted({s.batch_size for line in lines for s in line.settings})
    log_axis(axes.xaxis, sizes)
    if len(sizes) > 6:
        axes.tick_params(axis="x", labelsize=8)


def draw_lines(
    axes: "Axes", lines: Sequence[Line], figure: str, named: Callable[[Line], str], dashed: str = ""
) -> None:
    """Mean and sd of each setting, its seeds as points; of the figure `dashed` the means alone."""
    for index, line in enumerate(lines):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        if dashed:
            draw_dashed(axes, line.settings, BATCH, dashed, colour, f"{named(line)} training".strip())
        name = f"{named(line)} test" if dashed else named(line)
        draw_stats(axes, line.settings, figure, colour, marker=marker, label=name.strip())


def draw_dashed(axes: "Axes", settings: Sequence[Setting], key: str, figure: str, colour: str, name: str) -> None:
    scale = SCALE.get(FIGURES[figure][1], 1.0)
    told = [s for s in settings if s.stat(figure).n and not s.lost]
    means = [scale * (s.stat(figure).mean or 0) for s in told]
    axes.plot([place_of(s, key) for s in told], means, "--", color=colour, linewidth=1.2, label=name, gid=mark(name))


def draw_stats(axes: "Axes", settings: Sequence[Setting], figure: str, colour: str, **style: Any) -> None:
    draw_means(axes, [s for s in settings if s.tells(figure)], BATCH, figure, colour, **style)


def draw_means(
    axes: "Axes", settings: Sequence[Setting], key: str, figure: str, colour: str, marker: str, label: str
) -> None:
    """Mean ± sd of each setting and its seeds as points. A line joins the settings that lost no seed; those that did
    stand apart, hollow: what is left of a setting is not to be read beside a whole one."""
    scale = SCALE.get(FIGURES[figure][1], 1.0)
    for is_whole in (True, False):
        stats = {place_of(s, key): s.stat(figure) for s in settings if bool(s.lost) != is_whole}
        means, spreads = (
            [scale * (value or 0) for value in values]
            for values in ([s.mean for s in stats.values()], [s.sd for s in stats.values()])
        )
        style: dict[str, Any] = {"fmt": f"-{marker}", "label": label, "markersize": 4}
        style = style if is_whole else {"fmt": marker, "mfc": "none", "markersize": 8}
        if stats:
            bars = axes.errorbar(list(stats), means, spreads, color=colour, capsize=2, linewidth=1.3, **style)
            for artist in bars.get_children():
                artist.set_gid(mark(label))
        places = [place for place, stat in stats.items() for _ in stat.values]
        seeds = [scale * value for stat in stats.values() for value in stat.values]
        axes.plot(places, seeds, ".", color=colour, alpha=0.4, markersize=4, gid=mark(label))
    for s in settings:
        hot_spot(axes, place_of(s, key), scale * (s.stat(figure).mean or 0), s, figure, label)


def place_of(setting: Setting, key: str) -> float:
    return setting.batch_size if key == BATCH else float(setting.values[key])


def mark_lost(axes: "Axes", lines: Sequence[Line]) -> None:
    """A cross at the foot: there is no number, but the run is not to vanish."""
    for index, line in enumerate(lines):
        draw_crosses(axes, [s.batch_size for s in line.settings if s.lost], index)


def draw_crosses(axes: "Axes", x: Sequence[float], index: int) -> None:
    if x:
        foot, heights = axes.get_xaxis_transform(), [0.03 + 0.04 * index] * len(x)
        axes.plot(x, heights, "x", color=COLOURS[index % len(COLOURS)], transform=foot)


def lost_legend(groups: Iterable[Sequence[Setting]], crosses: bool = True) -> str:
    """A caption's sentence on how settings that lost seeds are drawn, or "" if there are none."""
    if not any(setting.lost for settings in groups for setting in settings):
        return ""
    marks = "Hollow marks, and crosses at the foot:" if crosses else "Hollow marks:"
    return f" {marks} settings that lost seeds; their means are over the seeds that are left."


def budgets(study: Study) -> Iterator[tuple[str, list[Line]]]:
    for budget in dict.fromkeys(line.budget for line in study.lines):
        yield budget, [line for line in study.lines if line.budget == budget]


def measured(lines: Sequence[Line], figure: str) -> bool:
    return any(setting.tells(figure) for line in lines for setting in line.settings)


def equal(budget: str) -> str:
    return f", equal {budget}" if budget else ""


def own_name(line: Line) -> str:
    return line.label if line.label != "all" else ""


def accuracy(study: Study) -> Iterator[Picture]:
    for budget, lines in budgets(study):
        if measured(lines, "best/test/acc"):
            figure, axes = panel(f"Test accuracy{equal(budget)}", "batch size", axis_title("best/test/acc"))
            draw_lines(axes, lines, "best/test/acc", own_name)
            mark_lost(axes, lines)
            batch_axis(axes, lines)
            caption = (
                f"Test accuracy of the val-best weights against batch size{equal(budget)}. Bars: ± sd over the seeds, "
                f"points: the seeds.{lost_legend(line.settings for line in lines)}"
            )
            yield Picture(file_name("accuracy", budget), caption, finish(figure, axes))


def target(study: Study) -> Iterator[Picture]:
    for budget, lines in budgets(study):
        if not measured(lines, "steps_to_target"):
            continue
        goal = f"{study.target.metric} {target_text(study.target.metric, study.target.value or 0)}"
        figure, axes = panel(f"Steps to {goal}{equal(budget)}", "batch size", "steps to target")
        draw_lines(axes, lines, "steps_to_target", own_name)
        measured_steps = [s.stat("steps_to_target").values for line in lines for s in line.settings if s.all_reached]
        for index, line in enumerate(lines):
            draw_ideal(axes, line, COLOURS[index % len(COLOURS)], named=index == 0)
        log_axis(axes.yaxis)
        if (fewest := min(map(min, measured_steps))) > 0:  # or the ideal's foot would press what was measured together
            axes.set_ylim(bottom=fewest / 2.5)
            log_axis(axes.yaxis)
        batch_axis(axes, lines)
        missing = left_out(study, lines)
        caption = (
            f"Steps to the target, where every seed reached it{missing}. Dotted: the ideal, twice the batch, half the "
            "steps. Dashed: the fit S = S_min + E_min/B with its critical batch size B_crit, if there is one."
        )
        yield Picture(file_name("steps-to-target", budget), caption, finish(figure, axes))
        figure, axes = panel(f"Images to {goal}{equal(budget)}", "batch size", "images to target")
        draw_lines(axes, lines, "images_to_target", own_name)
        log_axis(axes.yaxis)
        batch_axis(axes, lines)
        caption = (
            f"Images to the target, where every seed reached it{missing}: flat where larger batches cost nothing, and "
            "rising where they waste images."
        )
        yield Picture(file_name("images-to-target", budget), caption, finish(figure, axes))


def left_out(study: Study, lines: Sequence[Line]) -> str:
    """The batch sizes that a fit leaves out, as a part of a sentence."""
    sizes = sorted({s.batch_size for line in lines for s in line.settings if not s.all_reached})
    return f" (not at batch size {listed([f'{size:,}' for size in sizes])})" if sizes else ""


def draw_ideal(axes: "Axes", line: Line, colour: str, named: bool) -> None:
    if not line.to_target:
        return
    first = line.to_target[0]
    sizes = np.geomspace(first.batch_size, line.settings[-1].batch_size, 50)
    steps = (first.stat("steps_to_target").mean or 0) * sizes[0] / sizes
    axes.plot(sizes, steps, ":", color=colour, linewidth=1, label="ideal" if named else None)
    if line.critical:
        name = f"fit, B_crit {line.critical.b_crit:,.0f}"
        axes.plot(sizes, [line.critical.steps(size) for size in sizes], "--", color=colour, linewidth=1, label=name)


def time(study: Study) -> Iterator[Picture]:
    captions = {
        "seconds_per_epoch": "Seconds of training an epoch takes: training images / images per second.",
        "train/images_per_second": "Images per second in training, without evaluation.",
        "seconds_to_target": "Seconds of training, without evaluation, until the target.",
    }
    for name, caption in captions.items():
        yield from against_batch(study, name, caption, logarithmic=True)


def memory(study: Study) -> Iterator[Picture]:
    yield from against_batch(study, "ram_peak_bytes", "Peak resident memory of the run's process.")
    yield from against_batch(study, "device_peak_bytes", "Peak of what was allocated on the device.")


def against_batch(study: Study, name: str, caption: str, logarithmic: bool = False) -> Iterator[Picture]:
    if measured(study.lines, name):
        title = FIGURES[name][0]
        figure, axes = panel(title[0].upper() + title[1:], "batch size", axis_title(name))
        draw_lines(axes, study.lines, name, lambda line: line_name(study, line))
        if logarithmic:
            log_axis(axes.yaxis)
        batch_axis(axes, study.lines)
        drawn = [[s for s in line.settings if s.tells(name)] for line in study.lines]
        caption += lost_legend(drawn, crosses=False)
        yield Picture(name.replace("/", "-").replace("_", "-"), caption, finish(figure, axes))


def gap(study: Study) -> Iterator[Picture]:
    for budget, lines in budgets(study):
        if not measured(lines, "gap"):
            continue
        figure, axes = panel(f"Training and test accuracy{equal(budget)}", "batch size", "accuracy (%)")
        draw_lines(axes, lines, "test/acc", own_name, dashed="train_eval/acc")
        batch_axis(axes, lines)
        hollow = lost_legend([line.settings for line in lines], crosses=False)
        caption = f"The last weights on a fixed part of the training images (dashed), and on the test images.{hollow}"
        yield Picture(file_name("train-test", budget), caption, finish(figure, axes))
        figure, axes = panel(f"Generalisation gap{equal(budget)}", "batch size", axis_title("gap"))
        draw_lines(axes, lines, "gap", own_name)
        axes.axhline(0, color="black", linewidth=0.8)
        batch_axis(axes, lines)
        caption = f"Training minus test accuracy, of the last weights. Below zero: better on the test images.{hollow}"
        yield Picture(file_name("gap", budget), caption, finish(figure, axes))


def rates(study: Study) -> Iterator[Picture]:
    if BATCH in study.keys or not study.rate_lines or not study.some("best/val/acc"):
        return
    if len(study.rate_lines) <= len(COLOURS):  # the main picture has shown them
        return
    figure, axes = rates_panel(study)
    yield Picture("accuracy-rate", "Validation accuracy against learning rate.", finish(figure, axes))


def rates_panel(study: Study) -> "tuple[Figure, Axes]":
    """Validation accuracy, which chooses a rate. A line alone has the test accuracy of the same weights beside it."""
    figure, axes = panel("", "learning rate", "accuracy (%)")
    for index, (name, settings) in enumerate(study.rate_lines):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        name = "" if name == "all" else name
        told = [s for s in settings if s.stat("best/val/acc").n]
        draw_means(axes, told, RATE, "best/val/acc", colour, marker=marker, label=name or "validation")
        if len(study.rate_lines) == 1:
            draw_dashed(axes, settings, RATE, "best/test/acc", colour, "test")
        draw_crosses(axes, [float(s.values[RATE]) for s in settings if s.lost], index)
    log_axis(axes.xaxis)
    return figure, axes


def heat_maps(study: Study) -> Iterator[Picture]:
    if RATE not in study.keys or BATCH not in study.keys:
        return
    groups: dict[str, list[Setting]] = {}
    for setting in study.settings:
        if setting.batch_size and number(setting.values[RATE]) and setting.stat("best/val/acc").n:
            groups.setdefault(setting.label(RATE, BATCH), []).append(setting)
    for name, settings in list(groups.items())[:MOST_PANELS]:
        sizes = sorted({s.batch_size for s in settings})
        learning_rates = sorted({float(s.values[RATE]) for s in settings})
        table = np.full((len(learning_rates), len(sizes)), np.nan)
        for s in settings:
            row, column = learning_rates.index(float(s.values[RATE])), sizes.index(s.batch_size)
            table[row, column] = 100 * (s.stat("best/val/acc").mean or 0)
        of = f", {name}" if name != "all" else ""
        figure, axes = panel(f"Best val accuracy (%){of}", "batch size", "learning rate")
        lost = {(learning_rates.index(float(s.values[RATE])), sizes.index(s.batch_size)) for s in settings if s.lost}
        draw_table(axes, table, [f"{size:,}" for size in sizes], [f"{rate:g}" for rate in learning_rates], lost)
        caption = "Best validation accuracy, mean over the seeds, per batch size and learning rate. Empty: no ok run."
        caption += " In brackets: seeds were lost, and the mean is of those that are left." if lost else ""
        yield Picture(file_name("heat-map", name if name != "all" else ""), caption, figure)


def draw_table(
    axes: "Axes", table: Any, columns: Sequence[str], rows: Sequence[str], bracketed: Collection[tuple[int, int]]
) -> None:
    axes.grid(False)
    axes.imshow(table, cmap="viridis", aspect="auto", origin="lower")
    axes.set_xticks(range(len(columns)), columns, fontsize=8)
    axes.set_yticks(range(len(rows)), rows)
    middle = (np.nanmin(table) + np.nanmax(table)) / 2
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            colour = "black" if value > middle else "white"
            text = f"({value:.1f})" if (row, column) in bracketed else f"{value:.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def settings_charts(study: Study) -> Iterator[Picture]:
    """A dot per setting where no number orders them: models, data sets, accelerators."""
    if BATCH in study.keys or RATE in study.keys or len(study.settings) < 2:
        return
    for name in ("best/test/acc", "train/images_per_second", "fit_seconds"):
        told = [setting for setting in study.settings if setting.stat(name).n]
        if not told:
            continue
        figure, axes = dots(told, name)
        title = capital(FIGURES[name][0])
        axes.set_title(title, fontsize=10)
        more = f" The first {MOST_SETTINGS} of {len(told)} settings." if len(told) > MOST_SETTINGS else ""
        caption = f"{title}. {SPREAD}{more}{lost_legend([told[:MOST_SETTINGS]], crosses=False)}"
        yield Picture("settings-" + name.replace("/", "-").replace("_", "-"), caption, figure)


def dots(settings: Sequence[Setting], name: str) -> "tuple[Figure, Axes]":
    """A row for each of the first settings, from the top: mean ± sd, and the seeds."""
    shown_ones = settings[:MOST_SETTINGS]
    figure, axes = panel("", axis_title(name), "", 1.4 + 0.3 * len(shown_ones))
    scale = SCALE.get(FIGURES[name][1], 1.0)
    for place, setting in enumerate(reversed(shown_ones)):
        stat = setting.stat(name)
        axes.plot([scale * v for v in stat.values], [place] * stat.n, ".", color=COLOURS[1], alpha=0.5)
        mean, spread = scale * (stat.mean or 0), scale * (stat.sd or 0)
        face = "none" if setting.lost else COLOURS[0]
        axes.errorbar(mean, place, xerr=spread, fmt="o", color=COLOURS[0], markerfacecolor=face, capsize=3)
        hot_spot(axes, mean, place, setting, name)
    axes.set_ylim(-0.6, len(shown_ones) - 0.4)
    axes.set_yticks(range(len(shown_ones)), [with_losses(s) for s in reversed(shown_ones)], fontsize=8)
    return figure, axes


def hot_spot(axes: "Axes", x: float, y: float, setting: Setting, figure: str, line: str = "") -> None:
    """A mark that nobody sees, where the page shows the setting's value."""
    stat = setting.stat(figure)
    of = f" of {setting.num_seeds}" if setting.lost else ""
    value = f"{spot(setting)}{stat_text(figure, stat)} (n = {stat.n}{of})"
    axes.plot([x], [y], "o", markersize=1, alpha=0, gid=mark(line, value))


def with_losses(setting: Setting) -> str:
    values = list(setting.values.values())
    name = said(values[0]) if len(values) == 1 else setting.label()
    return f"{name}\n({lost_text(setting)})" if setting.lost else name


def learning_curves(study: Study) -> Iterator[Picture]:
    """For batch sizes a panel per line, the sizes as shades; otherwise one panel."""
    panels = [(line_name(study, line), list(line.settings)) for line in study.lines] or [("", study.settings)]
    panels = [
        (name, [s for s in settings if any(len(accuracies(run)) > 1 for run in s.ok)]) for name, settings in panels
    ]
    panels = [(name, settings) for name, settings in panels if settings]
    over = ["images", *["train_seconds"] * ("model" in study.keys)]  # models differ in speed
    for index, (name, settings) in enumerate(panels[:MOST_PANELS]):
        left_out = len(panels) - MOST_PANELS if index == MOST_PANELS - 1 else 0
        for column in over:
            yield curves_panel(study, name, settings, column, left_out)


def curves_panel(study: Study, name: str, settings: Sequence[Setting], column: str, left_out: int) -> Picture:
    title, unit = progress(settings, column)
    figure, axes = panel("Validation accuracy" + (f", {name}" if name else ""), title, "val accuracy (%)")
    chosen = evenly(settings, MOST_CURVES)
    for place, setting in enumerate(chosen):
        label = f"{setting.batch_size:,}" if study.lines else setting.label()
        label += f" ({len(setting.ok)} of {setting.num_seeds} seeds)" if setting.lost else ""
        draw_curve(axes, setting, shade(place, len(chosen)), label, column, unit)
    log_axis(axes.xaxis)
    caption = f"Validation accuracy against {title}: mean over the seeds, thin lines the seeds."
    if len(chosen) < len(settings):
        caption += f" {len(chosen)} of {len(settings)} settings, evenly spaced."
    if left_out > 0:
        caption += f" {left_out} more such panels are left out."
    words = ("curves", name) if column == "images" else ("curves", "time", name)
    return Picture(file_name(*words), caption, finish(figure, axes, "batch size" if study.lines else ""))


def progress(settings: Sequence[Setting], column: str) -> tuple[str, float]:
    """Return the title of the axis for this column of metrics.csv, and the number to divide the column by."""
    if column == "images":
        return "images seen", 1
    ends = [max(curve)[0] for s in settings for run in s.ok if (curve := list(accuracies(run, column).values()))]
    minutes = max(ends, default=0) > MOST_SECONDS
    return f"{'minutes' if minutes else 'seconds'} of training, without evaluation", 60 if minutes else 1


def evenly(items: Sequence[Setting], most: int) -> list[Setting]:
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def shade(place: int, of: int) -> Any:
    from matplotlib import colormaps

    return COLOURS[place] if of <= 3 else colormaps["viridis"](0.92 * place / (of - 1))


def draw_curve(axes: "Axes", setting: Setting, colour: Any, name: str, column: str, unit: float) -> None:
    curves = [curve for run in setting.ok if (curve := accuracies(run, column, unit))]
    if len(curves) > 1:
        for curve in curves:
            axes.plot(*zip(*curve.values(), strict=True), color=colour, linewidth=0.5, alpha=0.4, gid=mark(name))
    common = sorted(set.intersection(*map(set, curves))) if curves else []
    if not common:
        return
    means = np.mean([[curve[images] for images in common] for curve in curves], axis=0)
    axes.plot(means[:, 0], means[:, 1], color=colour, linewidth=1.5, label=name, gid=mark(name))


def accuracies(run: Run, column: str = "images", unit: float = 1) -> dict[float, tuple[float, float]]:
    """Images seen -> (the value of `column` in `unit`, val accuracy in percent)."""
    return {
        row["images"]: (row[column] / unit, 100 * row["val/acc"])
        for row in run.curve
        if row.get("images") and row.get(column) and "val/acc" in row
    }
