"""Draws pictures that many claims share, readable on a projector and for the colour-blind.

The functions import matplotlib when they run, and use Figure instead of pyplot, which needs no window system and has no
global state.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlintro.claims.measurements import Measurements

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7a5195",
    "#555555",
)  # after Okabe and Ito
SIZE = (6.4, 4.0)  # inches
TICKS = [sign * tick for sign in (-1, 1) for tick in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)] + [
    0
]  # multiples of the margin
STYLE: Any = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}


def panel(title: str, x: str = "", y: str = "", size: tuple[float, float] = SIZE) -> "tuple[Figure, Axes]":
    """Make one plot with a title that says what it shows, and labels for its axes."""
    figure, ((axes,),) = panels(1, 1, title, size)
    axes.set(xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    return figure, axes


def panels(
    rows: int, columns: int, title: str, size: tuple[float, float] = SIZE, share: bool = False
) -> "tuple[Figure, list[list[Axes]]]":
    """Make several plots or images under one title."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, dpi=140, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    figure.suptitle(textwrap.fill(title, round(size[0] * 10)), fontsize=12)
    return figure, grid.tolist()


def image(axes: "Axes", pixels_HW: "np.ndarray | object", title: str = "", signed: bool = False) -> None:
    """Draw grey or RGB pixels. `signed` draws them blue below zero and red above."""
    pixels = np.asarray(pixels_HW, dtype=np.float64)
    if signed:
        most = float(np.abs(pixels).max()) or 1.0
        axes.imshow(pixels, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest")
    else:
        axes.imshow(pixels, cmap="gray", interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def dots(measurements: Measurements, quantity: str, title: str, y: str, scale: float = 1.0) -> "Figure":
    """Draw the value of each seed of each arm, and the arms' means."""
    arms = measurements.arms(quantity)
    figure, axes = panel(title, "", y)
    for position, arm in enumerate(arms):
        values = scale * measurements.values(quantity, arm)
        spread = np.linspace(-0.12, 0.12, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(position + spread, values, "o", color=COLOURS[position % len(COLOURS)], alpha=0.55, markersize=5)
        axes.plot([position - 0.25, position + 0.25], [values.mean()] * 2, color="black", linewidth=1.5)
    axes.set_xticks(
        range(len(arms)), [f"{textwrap.fill(arm, 16)}\nn = {len(measurements.of(quantity, arm))}" for arm in arms]
    )
    axes.set_xlim(-0.6, len(arms) - 0.4)
    return figure


def effects(statements: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw each difference's mean and 99 % interval in multiples of its margin (dashed), from findings as verdict.json
    has them. Ratios are drawn as logarithms, so a ratio of 1 lies at 0."""
    told = [f for f in statements if f["margin"] and None not in (f["mean"], f["low"], f["high"])]
    figure, axes = panel(
        "Measured differences: mean and 99 % interval", "multiples of the margin", size=(6.4, 1.4 + 0.6 * len(told))
    )
    for row, found in enumerate(told):
        ends = np.array([found["low"], found["mean"], found["high"]])
        in_margins = np.log(ends) / np.log(found["margin"]) if found["is_ratio"] else ends / found["margin"]
        axes.plot(in_margins[::2], [row, row], color=COLOURS[0], linewidth=2)
        axes.plot(in_margins[1], row, "o", color=COLOURS[0])
    axes.axvline(0, color="black", linewidth=0.8)
    for side in (-1, 1):
        axes.axvline(side, color=COLOURS[1], linewidth=1, linestyle="--")
    axes.set_yticks(range(len(told)), [f"{textwrap.fill(f['says'], 40)}\n{f['verdict']}" for f in told], fontsize=8)
    low, high = axes.get_xlim()
    axes.set_xscale("symlog", linthresh=4)
    axes.set_xticks([tick for tick in TICKS if low <= tick <= high], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(len(told) - 0.4, -0.6)
    return figure
