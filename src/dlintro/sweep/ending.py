"""Ends a sweep in the terminal: the settings as a table, the answer, and what to type next."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.sweep.answer import Answer, answers, headers, headline, ranks_by, rows
from dlintro.sweep.groups import Study
from dlintro.sweep.plan import Job, seedless
from dlintro.text import printable, shown_path, typed

MOST_SHOWN = 10  # settings
LONGEST_WORD = 12  # of a setting's values; longer ones are broken in a narrow terminal


def show_ending(study: Study, jobs: Sequence[Job], folder: Path, console: Console) -> None:
    """`jobs`: the sweep's, by which the best setting's command is known."""
    found, whole_lines = answers(study), not console.is_terminal  # a pipe gets each sentence on one line
    console.print(settings_table(study, found))
    if (more := len(study.settings) - MOST_SHOWN) > 0:
        console.print(f"{more} more {'setting is' if more == 1 else 'settings are'} in the report.", style="dim")
    console.print()
    console.print(Text(printable(headline(found)), "bold"), soft_wrap=whole_lines)
    for sentence in (sentence for answer in found for sentence in answer.details):
        console.print(Text(printable(sentence)), soft_wrap=whole_lines)
    console.print("\n[bold]next[/]")
    for meaning, command in next_commands(found, jobs, folder).items():
        console.print(f"  {meaning}:", style="dim")
        print(f"    {command}", flush=True)  # not by rich, which would break a long one


def settings_table(study: Study, found: Sequence[Answer]) -> Table:
    """The best settings first. In a narrow terminal the values of the keys fold; the numbers never do."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="bold")
    shown = rows(study, found)[:MOST_SHOWN]
    for place, header in enumerate(headers(study)):
        words = [word for text in (header, *(row.values[place] for row in shown)) for word in text.split()]
        table.add_column(header, overflow="fold", min_width=min(LONGEST_WORD, max(map(len, words), default=1)))
    figures = ranks_by(study)
    for header in (*figures, "seeds"):
        table.add_column(header, justify="right", no_wrap=True)
    if verdicts := any(row.verdict for row in shown):
        table.add_column("", no_wrap=True)
    for row in shown:
        cells = [*row.values, row.ranked_by, *([] if len(figures) == 1 else [row.test]), row.seeds]
        cells += [row.verdict] if verdicts else []
        style = {"best": "bold green", "highest": "bold", "left out": "yellow"}.get(row.verdict, "")
        table.add_row(*(Text(printable(cell)) for cell in cells), style=style)
    return table


def next_commands(found: Sequence[Answer], jobs: Sequence[Job], folder: Path) -> dict[str, str]:
    """Return the next commands by their purpose."""
    commands = {"the curves, in your browser": f"{typed('tensorboard')} {shown_path(folder)}"}
    by_name = {job.name: job for job in jobs}
    for answer in found if len(jobs) > 1 else ():
        best = answer.best or (answer.whole[0] if answer.whole else None)
        job = by_name.get(best.ok[0].name) if best else None
        if best and job:
            where = f" on {answer.place}" if answer.place else ""
            run = f"{shown_path(folder / job.name)}{code_of(job)}"
            name = "the best setting" if answer.is_clear else "the setting with the highest mean"
            commands[f"the accuracy of each class for {name}{where}"] = f"{typed('evaluate')} {run}"
            if len(answer.all_settings) > 1:
                commands[f"{name}{where}, trained alone"] = command_of(job)
    return commands


def command_of(job: Job) -> str:
    """The command of a job without its seed, as it is typed here."""
    return typed("train") + replace(job, overrides=seedless(job.overrides)).command.removeprefix("scripts/train")


def code_of(job: Job) -> str:
    """The user's file of code, which evaluate never takes from a record."""
    return f" model.path={shlex.quote(str(job.settings.code))}" if job.settings.code else ""
