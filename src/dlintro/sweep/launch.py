"""A multirun, top to bottom: every combination composed and checked, sweep.json, the jobs, the failures, the report."""

import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro import limits
from dlintro.command import printable, shown_path
from dlintro.errors import Interrupted, RunError, UsageError
from dlintro.sweep.plan import make_jobs, write_plan
from dlintro.sweep.runner import Runner
from dlintro.sweep.standing import FAILURES, stored

SAID = 25  # combinations from which it is worth saying that they are being checked


def launch(loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[list[str]]) -> list[JobReturn]:
    """Runs what of the sweep isn't done yet. UsageError before anything starts; at the end RunError if a job failed,
    Interrupted if the sweep was stopped."""
    if len(job_overrides) >= SAID:
        print(f"checking {len(job_overrides)} combinations", flush=True)
    jobs = make_jobs([compose(loader, config, words) for words in job_overrides])
    folder = Path(config.hydra.sweep.dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    overrides = list(config.hydra.overrides.task)
    with FileLock(folder / ".lock"):  # two runners may start at once
        write_plan(folder, jobs, shlex.join(["scripts/train", "-m", *overrides]), overrides)
    sweep = jobs[0].settings["sweep"]
    runner = Runner(folder, jobs, sweep["n_jobs"], sweep["retry"])
    runner.run()
    finish(runner)
    return [
        JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=stored(folder / job.name))
        for job in jobs
    ]


def compose(
    loader: ConfigLoader, config: DictConfig, words: list[str]
) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """A combination's overrides, settings and chosen options; UsageError where it can't be."""
    composed = loader.load_sweep_config(config, words)
    choices: dict[str, str] = OmegaConf.to_container(composed.hydra.runtime.choices)  # type: ignore[assignment]
    OmegaConf.set_struct(composed, False)
    del composed["hydra"]
    settings: Any = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    try:
        limits.check(settings, choices)
        if settings["resume"] or settings["rerun"]:
            raise UsageError("resume and rerun are of one run: give them without -m")
    except UsageError as error:
        raise UsageError(f"{error} (of the combination {' '.join(words)})") from error
    ours = {group: name for group, name in choices.items() if group in limits.GROUPS}
    return words, settings, ours


def finish(runner: Runner) -> None:
    """The table of all failures, the report, and how it ended."""
    from dlintro.sweep.report import write_report

    folder, console = runner.folder, Console(highlight=False)
    counts = Counter(runner.statuses.values())
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    show_errors(runner, console)
    with FileLock(folder / ".lock"):  # and end at once
        report = write_report([folder], folder)
    print(f"report: {shown_path(report)}", flush=True)
    if runner.stopped_by is not None:
        print("the same command again goes on with it", flush=True)
    print(f"sweep: {shown_path(folder)}", flush=True)
    if runner.stopped_by is not None:
        raise Interrupted(signal.Signals(runner.stopped_by))
    failed = sum(counts[status] for status in FAILURES)
    if failed:
        retry = f"scripts/train resume={shown_path(folder)} sweep.retry=failed"
        raise RunError(f"{failed} of {len(runner.jobs)} jobs failed; to try them again: {retry}")


def show_errors(runner: Runner, console: Console) -> None:
    named = [job for job in runner.jobs if runner.statuses[job.name] in (*FAILURES, "diverged", "unavailable")]
    if not named:
        return
    table = Table(title="no ordinary result", title_justify="left")
    for header in ("status", "job", "why"):
        table.add_column(header, overflow="fold")
    for job in named:
        why = printable(stored(runner.folder / job.name).get("error") or "")
        table.add_row(runner.statuses[job.name], Text(job.name), Text(why))
    console.print(table)
