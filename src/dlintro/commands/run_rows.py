"""Reads each run and sweep in the outputs folder as one row of `scripts/runs`. No torch, no scipy, no curves: a folder
of some hundred runs is read in a fraction of a second."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from dlintro.errors import RunError, UsageError, one_line
from dlintro.reader import MOST_SWEEP_BYTES, damaged, read_json, read_yaml
from dlintro.run.named import Entry, folders_in
from dlintro.run.record import read_record
from dlintro.settings.words import key_of
from dlintro.sweep.plan import listed_jobs, seedless
from dlintro.sweep.standing import is_locked, standing


@dataclass(frozen=True)
class Row:
    """A run, or a sweep: then `statuses` counts its jobs, the accuracies are the means of its best setting over the
    seeds, and `seconds` is the training time of all its jobs. None stands for what isn't known."""

    name: str
    folder: Path
    is_sweep: bool
    started: float
    models: Sequence[str]
    data: Sequence[str]
    statuses: Mapping[str, int]
    val_acc: float | None = None
    test_acc: float | None = None
    seconds: float | None = None
    note: str = ""  # why a run failed, or which setting of a sweep has the highest validation accuracy
    typed: str = ""  # what its user typed for a run, beside the model and the data


@dataclass(frozen=True)
class Job:
    setting: tuple[str, ...]
    status: str
    record: Mapping[str, Any]


def row_of(entry: Entry) -> Row:
    try:
        return sweep_row(entry) if entry.is_sweep else run_row(entry)
    except (RunError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = one_line(error).removeprefix(f"{entry.folder}/")
        return Row(entry.name, entry.folder, entry.is_sweep, entry.started, (), (), {"damaged": 1}, note=why)


def run_row(entry: Entry) -> Row:
    """RunError where the record is damaged."""
    if not entry.begun:
        if is_locked(entry.folder):  # it reads its images, and has no record yet
            return Row(entry.name, entry.folder, False, entry.started, (), (), {"running": 1})
        raise RunError("it has no record.json, so no training began in it")
    record = read_record(entry.folder)
    return Row(
        *(entry.name, entry.folder, False, entry.started),
        *(named([record], "model"), named([record], "data")),
        {standing(entry.folder): 1},
        *(accuracy(record, "val"), accuracy(record, "test"), record.get("fit_seconds")),
        note=str(record.get("error") or ""),
        typed=typed_words(entry.folder, str(record.get("command") or "")),
    )


def typed_words(folder: Path, command: str) -> str:
    """The words of a command that tell its run from others, without those that the table shows anyway. A resumed run's
    command tells only what the resume changed, so what was typed at first stands before it."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:  # a record may come from anybody
        return ""
    if any(key_of(word) == "resume" for word in words) and (first := first_words(folder)):
        later = [word for word in words if key_of(word) != "resume"]
        words = [*(word for word in first if key_of(word) not in set(map(key_of, later))), *later]
    return shlex.join(word for word in words if "=" in word and not word.startswith(("model=", "data=", "hydra.")))


def first_words(folder: Path) -> list[str]:
    """The overrides with which the run in `folder` began, or [] if they can't be read."""
    try:
        words = read_yaml(folder / ".hydra" / "overrides.yaml")
    except RunError:
        return []
    return words if isinstance(words, list) and all(isinstance(word, str) for word in words) else []


def sweep_row(entry: Entry) -> Row:
    """RunError, ValueError, TypeError or KeyError where sweep.json is damaged. A damaged job is counted as one."""
    jobs = [read_job(entry.folder / name, setting) for name, setting in planned(entry.folder)]
    records = [job.record for job in jobs]
    seconds = [record["fit_seconds"] for record in records if record.get("fit_seconds") is not None]
    setting, val_acc, test_acc = highest_setting(jobs)
    return Row(
        *(entry.name, entry.folder, True, entry.started),
        *(named(records, "model"), named(records, "data")),
        Counter(job.status for job in jobs),
        *(val_acc, test_acc, sum(seconds) if seconds else None),
        note=setting,
    )


def planned(folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(name, setting) of each job. Hydra's own launcher writes no sweep.json: there each folder with a record is a job.
    A setting is the words that not all jobs have in common, without the seed."""
    if (folder / "sweep.json").exists():
        plan = read_json(folder / "sweep.json", MOST_SWEEP_BYTES)
        if not isinstance(plan, dict):
            raise damaged(folder / "sweep.json", "not a sweep")
        jobs = listed_jobs(plan)
        common = set.intersection(*(set(job["overrides"]) for job in jobs)) if jobs else set()
        return [(job["name"], setting_of(job["overrides"], common)) for job in jobs]
    found: list[tuple[str, tuple[str, ...]]] = [
        (path.name, (path.name,)) for path in folders_in(folder) if (path / "record.json").is_file()
    ]
    if not found:
        raise RunError("it has no sweep.json, so no job began in it")
    return found


def setting_of(words: Sequence[str], common: set[str]) -> tuple[str, ...]:
    return tuple(word for word in seedless(words) if word not in common)


def read_job(folder: Path, setting: tuple[str, ...]) -> Job:
    try:
        record = read_record(folder)
    except UsageError:  # it has no record yet
        return Job(setting, "running" if is_locked(folder) else "queued", {})
    except (RunError, OSError):
        return Job(setting, "damaged", {})
    return Job(setting, standing(folder), record)


def highest_setting(jobs: Sequence[Job]) -> tuple[str, float | None, float | None]:
    """The setting with the highest mean validation accuracy, and its mean validation and test accuracy. A setting that
    lost a seed doesn't count, because those that remain may be the lucky ones. The report tests how sure it is."""
    settings: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        settings.setdefault(job.setting, []).append(job)
    whole = {words: some for words, some in settings.items() if all(job.status == "ok" for job in some)}
    found = [(mean_of(some, "val"), words) for words, some in whole.items()]
    known = [(value, words) for value, words in found if value is not None]
    if not known:
        return "", None, None
    value, words = max(known)
    return f"highest: {' '.join(words)} (n={len(whole[words])})" if words else "", value, mean_of(whole[words], "test")


def mean_of(jobs: Iterable[Job], split: str) -> float | None:
    values = [accuracy(job.record, split) for job in jobs]
    known = [value for value in values if value is not None]
    return mean(known) if known and len(known) == len(values) else None


def accuracy(record: Mapping[str, Any], split: str) -> float | None:
    """Return the accuracy of the val-best weights or, if no epoch was validated, of the last ones."""
    best = record.get(f"best/{split}/acc")
    return record.get(f"{split}/acc") if best is None else best


def named(records: Iterable[Mapping[str, Any]], field: str) -> tuple[str, ...]:
    return tuple(sorted({str(record[field]) for record in records if record.get(field) is not None}))
