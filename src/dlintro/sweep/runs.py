"""Reads the jobs of sweeps and single run folders for a report. Values that a run doesn't have stay absent."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dlintro.errors import RunError, UsageError, one_line
from dlintro.reader import LARGEST, MOST_SWEEP_BYTES, damaged, finite, parse_yaml, read_json, read_rows, read_yaml
from dlintro.run.record import read_record, settings_file
from dlintro.settings.key import leaves
from dlintro.settings.keys import TABLE
from dlintro.settings.limits import brief
from dlintro.sweep.plan import CODE_TEXT, listed_jobs
from dlintro.sweep.standing import standing
from dlintro.target import Target, number, reach

# The numbers of a run: name -> (title, unit). The record has the first ones, and the others follow from them.
FIGURES = {
    "best/test/acc": ("test accuracy, val-best weights", "share"),
    "test/acc": ("test accuracy, last weights", "share"),
    "train_eval/acc": ("training accuracy, evaluated", "share"),
    "best/val/acc": ("val accuracy, val-best weights", "share"),
    "best/val/balanced_acc": ("balanced val accuracy, val-best weights", "share"),
    "best/test/balanced_acc": ("balanced test accuracy, val-best weights", "share"),
    "val/acc": ("val accuracy, last weights", "share"),
    "train/acc": ("training accuracy, running", "share"),
    "best/test/loss": ("test loss, val-best weights", ""),
    "test/loss": ("test loss, last weights", ""),
    "train_eval/loss": ("training loss, evaluated", ""),
    "val/loss": ("val loss, last weights", ""),
    "train/loss": ("training objective, running", ""),
    "steps": ("steps", "count"),
    "epochs": ("epochs", "count"),
    "fit_seconds": ("seconds of fitting", "s"),
    "startup_seconds": ("seconds of start-up", "s"),
    "train/images_per_second": ("images per second", "count"),
    "ram_peak_bytes": ("peak RAM", "bytes"),
    "device_peak_bytes": ("peak device memory", "bytes"),
    "noise_scale": ("gradient noise scale", "count"),
    "noise_scale/grad_squared": ("sum of |G|² readings", ""),
    "noise_scale/trace": ("sum of tr Σ readings", ""),
    "parameters": ("parameters", "count"),
    "diverged_step": ("diverged at step", "count"),
    "n_jobs": ("jobs at a time", "count"),
    "gap": ("training minus test accuracy", "points"),
    "seconds_per_epoch": ("seconds per epoch", "s"),
    "steps_to_target": ("steps to target", "count"),
    "images_to_target": ("images to target", "count"),
    "seconds_to_target": ("seconds to target", "s"),
}
BAD = ("failed", "oom", "diverged", "interrupted", "unavailable", "damaged")  # endings that are not ok
BATCH, ACCUMULATE = "data.batch_size", "trainer.accumulate_grad_batches"
CURVES = ("val/acc", "val/loss", "train_eval/acc", "train_eval/loss")
TOLD = ("model", "data", "device")  # leaves from the record; the other leaves come from the configuration
# The fingerprints in the record, and the keys that name the files.
CONTENTS = {"images": "data.path", "code": "model.path", "weights": "model.weights"}
OPTION_OF = {
    "accelerator": "accelerator.name",
    "model": "model",
    "data": "data",
}  # group -> the leaf that GROUP=OPTION sets


@dataclass(frozen=True)
class Sweep:
    name: str
    folder: Path
    command: str
    created: str


@dataclass(frozen=True)
class Run:
    name: str
    folder: Path
    status: str  # the record's, or "queued" without a record, or "damaged" if it can't be read
    error: str
    record: Mapping[str, Any]
    leaves: Mapping[str, Any]  # the configuration's leaves, TOLD and CONTENTS
    overrides: Mapping[str, Any]
    curve: Sequence[Mapping[str, float]]  # readings of CURVES with their step, images and train_seconds
    figures: Mapping[str, float]

    @property
    def seed(self) -> Any:
        return self.leaves.get("seed", self.record.get("seed"))

    @property
    def batch_size(self) -> int | None:
        """The number of images in an optimizer step."""
        size = number(self.leaves.get(BATCH, self.record.get("batch_size")))
        if size is None:
            return None
        step = size * (number(self.leaves.get(ACCUMULATE)) or 1)
        return int(min(step, number(self.record.get("train_images")) or step))

    @property
    def at_chance(self) -> bool:
        """Return whether the test accuracy may be guessing: its Wilson interval reaches down to 1 / classes."""
        from scipy.stats import binomtest

        accuracy, images = self.figures.get("test/acc"), number(self.record.get("test_images"))
        classes = number(self.record.get("classes"))
        if accuracy is None or not images or not classes:
            return False
        counted = binomtest(round(accuracy * images), int(images))
        return bool(counted.proportion_ci(method="wilson").low <= 1 / classes)


def read(folders: Sequence[Path]) -> tuple[list[Sweep], list[Run]]:
    """Return the sweeps among the folders and all runs in them, each once. A damaged sweep or run is a row, too. Raises
    UsageError for a folder that is neither."""
    sweeps, runs = [], {}
    for folder in dict.fromkeys(path.resolve() for path in folders):
        if os.path.lexists(folder / "sweep.json"):
            sweep, jobs = read_sweep(folder)
            sweeps += [sweep] if sweep else []
        elif os.path.lexists(folder / "record.json"):
            jobs = [read_run(folder, folder.name, {})]
        else:
            raise UsageError(f"{folder}: neither a sweep (it has no sweep.json) nor a run (it has no record.json)")
        runs.update({run.folder: run for run in jobs})
    if len(sweeps) > 1:  # jobs of two sweeps may have the same name
        return sweeps, [replace(run, name=f"{run.folder.parent.name}/{run.name}") for run in runs.values()]
    return sweeps, list(runs.values())


def read_sweep(folder: Path) -> tuple[Sweep | None, list[Run]]:
    """Return the sweep and its jobs, or None and one row that says why if its sweep.json is damaged."""
    path = folder / "sweep.json"
    try:
        plan = read_json(path, MOST_SWEEP_BYTES)
        jobs = [(job["name"], overridden(job["overrides"])) for job in listed_jobs(plan)]
        name, command, created = (str(plan.get(key) or "") for key in ("name", "command", "created"))
    except (RunError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = one_line(error) if isinstance(error, RunError) else str(damaged(path, one_line(error)))
        return None, [Run(folder.name, folder, "damaged", why, {}, {}, {}, (), {})]
    runs = completed([read_run(folder / name, name, overrides) for name, overrides in jobs])
    runs = [with_code(run, plan.get("base")) for run in runs]
    return Sweep(name or folder.name, folder, command, created), runs


def with_code(run: Run, base: Any) -> Run:
    """Add the code's fingerprint from sweep.json to a job of an earlier version, which didn't record it."""
    path = run.leaves.get("model.path")
    if "code" in run.leaves or not path or not isinstance(base, Mapping):
        return run
    found = base.get(CODE_TEXT) if base.get("model.path") == path else None
    return replace(run, leaves={**run.leaves, "code": found[:8]}) if isinstance(found, str) else run


def read_run(folder: Path, name: str, overrides: Mapping[str, Any]) -> Run:
    """Read a run. Never raises for the folder's contents: a damaged job is a row of the report."""
    try:
        record = read_record(folder)
        status, error = standing(folder), str(record.get("error") or "")
    except UsageError:
        record, status, error = {}, "queued", ""
    except (RunError, OSError) as raised:
        record, status, error = {}, "damaged", one_line(raised)
    config: dict[str, Any] = {}
    curve: list[dict[str, float]] = []
    try:  # a damaged job of a sweep still belongs to its setting
        config = read_config(settings_file(folder))
        curve = list(read_curve(folder / "metrics.csv"))
    except RunError as raised:  # a run with unknown seed and settings can't be compared
        if record:
            status, error = "damaged", one_line(raised)
    told = {key: record[key] for key in TOLD if record.get(key) is not None}
    told |= {name: str(found)[:8] for name in CONTENTS if (found := record.get(f"{name}_fingerprint"))}
    figures = {name: found for name in FIGURES if (found := number(record.get(name))) is not None}
    known = {**overrides, **config, **told}
    known |= as_done(known, record)
    return Run(name, folder, status, error, record, known, overrides, curve, derived(record, figures))


def as_done(known: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, int]:
    """Return the batch size and the accumulation that the run really had, if the settings ask for more images than
    there are: a larger batch is the same run."""
    images = number(record.get("train_images"))
    size, whole = number(known.get(BATCH)), number(known.get(ACCUMULATE))
    if not images or not size:
        return {}
    batches = math.ceil(images / min(size, images))
    found = {BATCH: int(images)} if size > images else {}
    return found | ({ACCUMULATE: batches} if whole and whole > batches else {})


def derived(record: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, float]:
    found = dict(figures)
    if "train_eval/acc" in found and "test/acc" in found:
        found["gap"] = found["train_eval/acc"] - found["test/acc"]
    images, speed = number(record.get("train_images")), found.get("train/images_per_second")
    if images and speed:
        found["seconds_per_epoch"] = images / speed
    return found


def read_config(path: Path) -> dict[str, Any]:
    """Return the leaves of a run's configuration. Raises RunError if it is missing, damaged or illegal."""
    if not os.path.lexists(path):
        raise RunError(f"{path}: missing")
    content = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise damaged(path, "not a configuration")
    found = dict(leaves(content))
    for name, value in found.items():
        key = TABLE.get(name)  # unknown keys may be another version's
        if key and not key.accepts(value) and "${" not in str(value):
            raise damaged(path, f"{name} is {brief(value)}")
    return found


def read_curve(path: Path) -> Iterator[dict[str, float]]:
    """Yield the rows with a reading of CURVES; the many rows of the training itself aren't needed. Raises RunError if
    the file is damaged."""
    if not os.path.lexists(path):
        return
    names = ("step", "images", "train_seconds", *CURVES)
    for row in read_rows(path):
        if any(row.get(name) for name in CURVES):
            try:
                found = {name: value for name in names if (value := finite(row.get(name, ""))) is not None}
            except ValueError as error:
                raise damaged(path, one_line(error)) from error
            if odd := [name for name, value in found.items() if not 0 <= value <= (1 if "acc" in name else LARGEST)]:
                raise damaged(path, f"{odd[0]} is {found[odd[0]]:g}")
            yield found


def overridden(words: Sequence[str]) -> dict[str, Any]:
    """Turn data.batch_size=32 into {"data.batch_size": 32}."""
    found = {}
    for word in words:
        key, _, text = word.lstrip("+").partition("=")
        try:
            value = parse_yaml(text)
        except ValueError:  # e.g. a name that looks like a date
            value = text
        exact = number(value) if isinstance(value, str) else None  # YAML 1.1 reads 1e-3 as text
        found[OPTION_OF.get(key, key)] = value if exact is None else exact
    return found


def completed(jobs: Sequence[Run]) -> list[Run]:
    """Complete unstarted jobs: put their overrides on the started job that has the most overrides in common."""
    told = [job for job in jobs if job.status != "damaged" and all(key in job.leaves for key in TOLD)]

    def complete(job: Run) -> Run:
        if job in told or not told:
            return job
        nearest = max(told, key=lambda other: sum(other.overrides.get(k) == v for k, v in job.overrides.items()))
        has_config = bool(job.leaves.keys() - {*job.overrides, *TOLD, *CONTENTS})
        known = {k: v for k, v in nearest.leaves.items() if k in (*TOLD, *CONTENTS)} if has_config else nearest.leaves
        found = {**known, **job.leaves}
        for name, key in CONTENTS.items():  # another folder or file than the nearest job's is unknown
            if name not in job.leaves and found.get(key) != nearest.leaves.get(key):
                found.pop(name, None)
        same_set = all(found.get(key) == nearest.leaves.get(key) for key in ("data", "data.path", "data.train_size"))
        return replace(job, leaves=found | (as_done(found, nearest.record) if same_set else {}))

    return [complete(job) for job in jobs]


def with_target(run: Run, target: Target) -> Run:
    """Return the run with steps, images and seconds to the target from its curve, or without them if not reached."""
    names = ("steps_to_target", "images_to_target", "seconds_to_target")
    figures = {name: value for name, value in run.figures.items() if name not in names}
    reached = None if target.value is None else reach(run.curve, target.metric, target.value)
    if reached is not None:
        figures |= {"steps_to_target": reached.steps, "images_to_target": reached.images}
        figures |= {} if reached.seconds is None else {"seconds_to_target": reached.seconds}
    elif not run.curve and run.record.get("target/value") == target.value:
        figures |= {name: run.figures[name] for name in names if name in run.figures}
    return replace(run, figures=figures)
