"""Draws the plot of a benchmark."""

from collections.abc import Mapping
from statistics import median
from typing import TYPE_CHECKING, Any

from dlintro.benchmark.tables import measured_cases, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"stack": "#0072b2", "bare": "#009e73", "plain": "#999999", "usual": "#d55e00"}
LABELS = {"stack": "dlintro", "bare": "bare loop", "plain": "plain float32 loop", "usual": "usual way"}


def speed_figure(result: Mapping[str, Any]) -> "Figure":
    """Draw the images per second of each way, with a dot for each round."""
    from matplotlib.figure import Figure

    found = list(measured_cases(result))
    figure = Figure(figsize=(11, 1.2 + 0.85 * len(found)), dpi=140, layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("training", "inference"), strict=True):
        ticks = []
        row = 0.0
        for case in found:
            speeds = {way: v for way, v in case["images_per_second"].items() if way.endswith(name)}
            ticks.append((row + (len(speeds) - 1) / 2, title(case).replace(", batch", "\nbatch")))
            for way, values in speeds.items():
                kind = way.split()[0]
                axes.plot(values, [row] * len(values), ".", color=COLOURS[kind], alpha=0.4, markersize=4)
                axes.plot(median(values), row, "o", color=COLOURS[kind], markersize=7, label=LABELS[kind])
                axes.text(median(values), row, f"  {median(values):,.0f}", va="center", fontsize=8)
                row += 1
            row += 0.8
        axes.set(xscale="log", title=f"{name}, images per second")
        axes.set_yticks([position for position, _ in ticks], [label for _, label in ticks], fontsize=8)
        axes.margins(x=0.25)
        axes.grid(axis="x", which="both", color="0.92")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=4, frameon=False)
    figure.suptitle(
        f"{result['device']}, medians of {result['rounds']} rounds, PyTorch {result['versions']['torch']}", fontsize=10
    )
    return figure
