"""A multirun, top to bottom: every combination composed and checked, sweep.json, the jobs, the failures, the report."""

import json
import shlex
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.errors import Interrupted, RunError, UsageError
from dlintro.run.record import made_by, write_json
from dlintro.settings.compose import read
from dlintro.settings.keys import OF_THE_SWEEP, Settings
from dlintro.settings.words import key_of
from dlintro.sweep.plan import make_jobs, write_plan
from dlintro.sweep.runner import Runner
from dlintro.sweep.standing import FAILURES, stored
from dlintro.terminal import at_work
from dlintro.text import printable, shown_path
from dlintro.version import changes_between, ordered

SAID = 25  # combinations from which it is worth saying that they are being checked


def launch(loader: ConfigLoader, config: DictConfig, job_overrides: Sequence[list[str]]) -> list[JobReturn]:
    """Runs what of the sweep isn't done yet. UsageError before anything starts; at the end RunError if a job failed,
    Interrupted if the sweep was stopped."""
    if len(job_overrides) >= SAID:
        print(f"checking {len(job_overrides)} combinations", flush=True)
    sources = config.hydra.runtime.config_sources
    flags = [word for s in sources if s.provider == "command-line" for word in ("--config-dir", s.path)]
    jobs = make_jobs([compose(loader, config, words) for words in job_overrides], flags)
    folder, sweep = Path(config.hydra.sweep.dir).absolute(), jobs[0].settings.sweep
    if sweep.name not in (None, folder.name):
        raise UsageError(f"sweep.name={sweep.name}: the sweep is in {folder}; give its name on the command line")
    folder.mkdir(parents=True, exist_ok=True)
    words = list(config.hydra.overrides.task)
    with FileLock(folder / ".lock"):  # two runners may start at once
        plan = folder / "sweep.json"
        before = plan.read_bytes() if plan.exists() else None
        jobs = write_plan(folder, jobs, words, flags)
        written = plan.read_bytes()
    oldest = min(filter(None, (made_by(stored(folder / job.name)) for job in jobs)), key=ordered, default=None)
    if changes := changes_between(oldest):
        print(changes, flush=True)
    runner = Runner(folder, jobs, sweep.n_jobs, sweep.retry)
    try:
        runner.run()
    except UsageError:  # what took torch to know: no job has begun
        with FileLock(folder / ".lock"):
            take_back(folder, before, written)
        raise
    finish(runner, shlex.join(["scripts/train", *flags, "-m", *words]))
    return [
        JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED, _return_value=stored(folder / job.name))
        for job in jobs
    ]


def compose(loader: ConfigLoader, config: DictConfig, words: list[str]) -> tuple[list[str], Settings]:
    """A combination's overrides and settings; UsageError where it can't be."""
    composed = loader.load_sweep_config(config, words)
    try:
        settings = read(composed, composed.hydra.runtime.choices)
        if settings.resume or settings.rerun:
            raise UsageError("resume=RUN and rerun=RUN are for one run; leave out -m")
    except UsageError as error:
        raise UsageError(f"{error} (of the combination {' '.join(words)})") from error
    return [word for word in words if key_of(word) not in OF_THE_SWEEP], settings


def take_back(folder: Path, before: bytes | None, written: bytes) -> None:
    """Leaves the plan as it was `before` this process wrote it for nothing, unless another runner uses it by now."""
    plan = folder / "sweep.json"
    if before is not None:
        if plan.read_bytes() == written:
            write_json(plan, json.loads(before))
    elif not any(path.is_dir() for path in folder.iterdir()):
        plan.unlink(missing_ok=True)
        (folder / ".lock").unlink(missing_ok=True)


def finish(runner: Runner, command: str) -> None:
    """Show what failed and what the sweep found, write the report, and raise if the sweep did not end well."""
    from dlintro.sweep.ending import show_ending
    from dlintro.sweep.groups import study
    from dlintro.sweep.report import write_study
    from dlintro.sweep.runs import read as read_runs

    folder, console = runner.folder, Console(highlight=False)
    counts = Counter(runner.statuses.values())
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    show_errors(runner, console)
    with FileLock(folder / ".lock"):  # two runners may end at once
        targets = {(job.settings.target.metric, job.settings.target.value) for job in runner.jobs}
        target = targets.pop() if len(targets) == 1 else None
        with at_work("writing the report"):
            found = study(*read_runs([folder]), target)
            report = write_study(found, [folder], folder, target)
    show_ending(found, runner.jobs, folder, console)
    print(f"report: {shown_path(report)}", flush=True)
    if runner.stopped_by is not None:
        print("the same command resumes the sweep", flush=True)
    print(f"sweep: {shown_path(folder)}", flush=True)
    if runner.stopped_by is not None:
        raise Interrupted(signal.Signals(runner.stopped_by))
    if failed := sum(counts[status] for status in FAILURES):
        retry = command if "sweep.retry=failed" in command else f"{command} sweep.retry=failed"
        raise RunError(f"{failed} of {len(runner.jobs)} jobs failed; to try them again: {retry}")
    if stopped := counts["interrupted"]:
        raise RunError(f"{stopped} of {len(runner.jobs)} jobs were stopped from outside; to resume them: {command}")


def show_errors(runner: Runner, console: Console) -> None:
    unusual = (*FAILURES, "diverged", "unavailable", *(() if runner.stopped_by else ("interrupted",)))
    named = [job for job in runner.jobs if runner.statuses[job.name] in unusual]
    if not named:
        return
    table = Table(title="jobs that did not end well", title_justify="left")
    for header in ("status", "job", "why"):
        table.add_column(header, overflow="fold")
    for job in named:
        why = printable(stored(runner.folder / job.name).get("error") or "")
        table.add_row(runner.statuses[job.name], Text(job.name), Text(why))
    console.print(table)
