"""The command `scripts/runs`: a table of the runs and sweeps in the outputs folder, and what tells two runs apart."""

import argparse
import difflib
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.command import Parser, exit_status, split_words
from dlintro.commands.run_rows import Row, row_of
from dlintro.errors import UsageError
from dlintro.run.named import entries, find_run, outputs_folder, shortened
from dlintro.run.record import STATUSES
from dlintro.text import duration, printable, shown_path, tell, typed

KEYS = ("model", "data", "status")
ALL_STATUSES = (*STATUSES, "queued", "damaged")
COLOURS = {"ok": "green", "running": "cyan", "queued": "dim", "interrupted": "yellow", "unavailable": "yellow"}
NARROW = 110  # columns of a terminal below which notes are left out
LONG_NAME, LONG_WORD = 18, 9  # letters beyond which a name takes two lines there
SORT: dict[str, Callable[[Row], Any]] = {
    "started": lambda row: row.started,
    "name": lambda row: row.name,
    "model": lambda row: row.models,
    "data": lambda row: row.data,
    "status": lambda row: sorted(row.statuses),
    "val": lambda row: -1.0 if row.val_acc is None else row.val_acc,
    "test": lambda row: -1.0 if row.test_acc is None else row.test_acc,
    "time": lambda row: -1.0 if row.seconds is None else row.seconds,
}


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: runs(sys.argv[1:] if argv is None else argv))


def runs(argv: Sequence[str]) -> int:
    given, words = split_words(argv, KEYS.__contains__)
    for key, equals, _ in (word.partition("=") for word in words if not word.startswith("-")):
        if equals:
            raise UsageError(f"{key}: runs can't be chosen by this key; use {', '.join(KEYS)}")
    arguments = parser().parse_args(words)
    if arguments.diff:
        from dlintro.commands.run_diff import show_difference

        one, other = map(find_run, arguments.diff)
        show_difference(one, other, as_json=arguments.json)
        return 0
    wanted = {key: text.split(",") for key, text in given.items()}
    check_statuses(wanted.get("status", []))
    every = [row_of(entry) for entry in entries()]
    rows = [row for row in every if all(set(names) & values_of(row, key) for key, names in wanted.items())]
    rows.sort(key=lambda row: (SORT[arguments.sort](row), row.started, row.name))
    if arguments.json:
        tell(json.dumps([as_json(row) for row in rows], indent=2))
    elif rows:
        show(rows, {row.name for row in every})
    else:
        tell(printable(nothing(every, wanted)))
    return 0


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        "scripts/runs",
        "Lists the runs and sweeps in the outputs folder, the newest last. A sweep is one row: how its jobs ended, and "
        "the accuracies of the setting with the highest mean validation accuracy, as means over the seeds. The last "
        "column of a wide terminal has what was typed for a run, or why it failed; for a sweep it has that setting.",
    )
    parser.add_argument(
        "--sort", choices=SORT, default="started", metavar="KEY", help=f"sort by {', '.join(SORT)}; the largest is last"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--diff", nargs=2, metavar=("A", "B"), help="show in which settings and results the runs A and B differ"
    )
    parser.usage = "scripts/runs [model=NAME] [data=NAME] [status=NAME] [--sort KEY] [--json] [--diff A B]"
    parser.epilog = (
        "model=NAME, data=NAME and status=NAME show only such rows. Several names may be given: status=failed,oom. "
        "Wherever a command takes a RUN, the name in the first column will do, a part of it, or last."
    )
    return parser


def check_statuses(names: Sequence[str]) -> None:
    for name in names:
        if name not in ALL_STATUSES:
            near = difflib.get_close_matches(name, ALL_STATUSES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(ALL_STATUSES)}"
            raise UsageError(f"status={name}: there is no such status; {hint}")


def values_of(row: Row, key: str) -> set[str]:
    return set({"model": row.models, "data": row.data, "status": row.statuses}[key])


def nothing(every: Sequence[Row], wanted: Mapping[str, Sequence[str]]) -> str:
    where = shown_path(outputs_folder())
    if not every:
        return f"There are no runs in {where} yet. {typed('train')} makes the first."
    asked = " ".join(f"{key}={','.join(names)}" for key, names in wanted.items())
    there = [f"{key}={','.join(sorted(set().union(*(values_of(row, key) for row in every))))}" for key in wanted]
    return f"None of the {len(every)} runs and sweeps in {where} has {asked}. There are {' and '.join(there)}."


def as_json(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "folder": str(row.folder.absolute()),
        "kind": "sweep" if row.is_sweep else "run",
        "started": datetime.fromtimestamp(row.started).astimezone().isoformat(timespec="seconds"),
        "model": list(row.models),
        "data": list(row.data),
        "status": dict(row.statuses) if row.is_sweep else next(iter(row.statuses)),
        "val/acc": row.val_acc,
        "test/acc": row.test_acc,
        "fit_seconds": row.seconds,
        "note": row.note or None,
        "typed": row.typed or None,
    }


def show(rows: Sequence[Row], names: set[str]) -> None:
    """In a terminal a run goes by the short name that is enough to find it; in a pipe by its whole one."""
    in_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if in_terminal else 10_000
    wide = width >= NARROW
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("name", overflow="fold", no_wrap=wide, min_width=4)
    table.add_column("started", justify="right", no_wrap=True)
    for header in ("model", "data", "status"):
        table.add_column(header, overflow="fold", no_wrap=wide)
    for header in ("val", "test", "time"):
        table.add_column(header, justify="right", no_wrap=True)
    if wide:
        table.add_column("", style="dim")
    for row in rows:
        name = shortened(row.name, names) if in_terminal else row.name
        table.add_row(
            *(in_lines(name, 1_000 if wide else LONG_NAME), Text(day(row.started))),
            *(in_lines(several(some), 1_000 if wide else LONG_WORD) for some in (row.models, row.data)),
            *(statuses(row, " " if wide else "\n"), percent(row.val_acc), percent(row.test_acc)),
            Text("–" if row.seconds is None else duration(row.seconds)),
            *([Text(printable(row.note or row.typed), no_wrap=True, overflow="ellipsis")] if wide else []),
        )
    Console(highlight=False, width=width).print(table)


def in_lines(name: str, most: int) -> Text:
    """The name in as many lines as it takes, broken behind its hyphens and underscores."""
    lines = [""]
    for piece in re.findall(r"[^-_]*[-_]+|[^-_]+", printable(name)):
        if len(lines[-1] + piece) > most and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return Text("\n".join(lines))


def several(names: Sequence[str]) -> str:
    return (", ".join(names) if len(names) < 3 else f"{len(names)} kinds") or "–"


def statuses(row: Row, space: str) -> Text:
    parts = []
    for name in sorted(row.statuses, key=ALL_STATUSES.index):
        said = f"{row.statuses[name]} {name}" if row.is_sweep and name != "damaged" else name
        parts.append(Text(said, style=COLOURS.get(name, "red")))
    return Text(f",{space}").join(parts)


def percent(share: float | None) -> Text:
    return Text("–" if share is None else f"{share:.2%}")


def day(seconds: float) -> str:
    """The time for today's runs, the date for older ones, and the year where it was long ago."""
    then, now = datetime.fromtimestamp(seconds), datetime.now()
    if then.date() == now.date():
        return f"{then:%H:%M}"
    return f"{then.day} {then:%b}" if abs(now - then) < timedelta(days=300) else f"{then:%b %Y}"


if __name__ == "__main__":
    sys.exit(main())
