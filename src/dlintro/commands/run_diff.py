"""Says in which settings and results two runs differ: `scripts/runs --diff A B`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.errors import UsageError
from dlintro.reader import read_yaml
from dlintro.run.named import short, shortened
from dlintro.run.record import read_record, settings_file
from dlintro.settings.identity import WHICH, changes
from dlintro.settings.limits import brief
from dlintro.text import duration, printable, tell

# A result may depend on these, besides the settings.
MADE_WITH = ("model", "data", "device", "precision", "threads", "git")
RESULTS = (
    "status", "error", "best/val/acc", "best/test/acc", "val/acc", "test/acc", "val/loss", "test/loss",
    "best/val/balanced_acc", "best/test/balanced_acc", "train_eval/acc", "best/epoch", "epochs", "steps", "ended_by",
    "diverged_step", "fit_seconds",
    "train/images_per_second", "ram_peak_bytes", "device_peak_bytes", "parameters", "noise_scale",
    "steps_to_target", "images_to_target", "seconds_to_target",
)  # fmt: skip
Pairs = dict[str, tuple[Any, Any]]


def show_difference(one: Path, other: Path, as_json: bool) -> None:
    records = [record_of(folder) for folder in (one, other)]
    found = {
        "settings": facts_changed(*records) | settings_changed(one, other),
        "results": pairs(RESULTS, *records),
    }
    names = [short(folder.absolute()) for folder in (one, other)]
    if as_json:
        tell(json.dumps({"runs": names, **{part: as_lists(differ) for part, differ in found.items()}}, indent=2))
        return
    if not any(found.values()):
        tell(printable(f"{names[0]} and {names[1]} have the same settings and the same results."))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for header in ("", *(shortened(name, set(names)) for name in names)):
        table.add_column(Text(printable(header)), overflow="fold")
    for part, differ in found.items():
        told = {name: [printable(spoken(name, value)) for value in pair] for name, pair in differ.items()}
        told = {name: pair for name, pair in told.items() if pair[0] != pair[1]}  # else nobody would see a difference
        table.add_row(Text(part if told else f"{part}: the same", style="bold"))
        for name, pair in told.items():
            table.add_row(Text(f"  {printable(name)}"), *map(Text, pair))
    Console(highlight=False).print(table)


def record_of(folder: Path) -> Mapping[str, Any]:
    if (folder / "sweep.json").is_file():
        raise UsageError(f"{folder}: this is a sweep; --diff compares two runs, or two jobs of a sweep, SWEEP/JOB")
    return read_record(folder)


def settings_changed(one: Path, other: Path) -> Pairs:
    """The settings that decide the result and differ. A key at its default is the same as one that isn't there."""
    configs = [read_yaml(settings_file(folder)) for folder in (one, other)]
    found = changes(*(config if isinstance(config, dict) else {} for config in configs))
    return {name: pair for name, pair in found.items() if name not in WHICH.values()}  # the records name them better


def facts_changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> Pairs:
    """In what the runs were made with, besides the settings: the machine, the versions, the contents of files."""
    found = pairs(MADE_WITH, one, other)
    versions = [record.get("versions") or {} for record in (one, other)]
    found |= pairs(tuple(dict.fromkeys([*versions[0], *versions[1]])), *versions)
    for what in ("images", "code", "weights"):
        field, said = f"{what}_fingerprint", f"contents of the {what}"
        if one.get(field) != other.get(field):
            found[said] = one.get(field), other.get(field)
    return found


def pairs(names: Sequence[str], one: Mapping[str, Any], other: Mapping[str, Any]) -> Pairs:
    both = {name: (one.get(name), other.get(name)) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def as_lists(differ: Pairs) -> dict[str, list[Any]]:
    return {name: list(pair) for name, pair in differ.items()}


def spoken(name: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return value[:12] if name.startswith("contents of") else value
    if name.endswith("acc"):
        return f"{value:.2%}"
    if name == "best/epoch":
        return str(value + 1)  # people count epochs from 1
    if name.endswith("seconds"):
        return duration(value) if value >= 10 else f"{value:.2g} s"
    if name.endswith("_bytes"):
        return f"{value / 1e6:,.0f} MB"
    if isinstance(value, float) and name in RESULTS:
        return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and name in RESULTS else brief(value)
