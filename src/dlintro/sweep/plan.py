"""Names a sweep's jobs and writes sweep.json, by which the same command finds its sweep again."""

import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dlintro.errors import RunError, UsageError
from dlintro.reader import MOST_SWEEP_BYTES, read_json, read_yaml
from dlintro.run.record import write_json
from dlintro.settings.identity import counted, is_of
from dlintro.settings.key import leaves
from dlintro.settings.keys import GROUPS, HOW_RUN, Settings
from dlintro.settings.limits import brief
from dlintro.settings.words import key_of, value_of

LONGEST_NAME = 100
CODE_TEXT = "contents of model.path"
IMAGES = "contents of data.path"  # a key of sweep.json's base: `place_of` the images -> their fingerprint
HASHES = "of what is not at its default"  # how sweep.json's hashes are made; earlier versions hashed all settings


@dataclass(frozen=True)
class Job:
    """One combination. `name` is its folder's name, `overrides` are what a user would type (after `flags`), and
    `settings` are the result."""

    name: str
    hash: str
    overrides: list[str]
    settings: Settings
    flags: Sequence[str] = ()

    @property
    def command(self) -> str:
        """Return the command that runs this job alone."""
        single = ["hydra.mode=RUN"] if "sweep" in map(key_of, self.overrides) else []
        return shlex.join(["scripts/train", *self.flags, *self.overrides, *single])


def make_jobs(composed: Sequence[tuple[list[str], Settings]], flags: Sequence[str] = ()) -> list[Job]:
    """Return the jobs of (overrides, settings), sorted by seed: compared settings run side by side, and the first seeds
    show the whole picture early. Equal combinations are one job."""
    keys = varied([overrides for overrides, _ in composed])
    keys.sort(key=lambda key: (key == "seed", key))  # the order of typing must not change a job's name
    jobs: dict[str, Job] = {}
    for overrides, settings in composed:
        parts = [label(key, value(key, overrides)) for key in keys]
        parts = parts or [settings.choices.model, settings.choices.data]
        readable = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.") for part in parts)
        hashed = job_hash(settings.plain(), overrides, keys)
        jobs.setdefault(hashed, Job(f"{readable[:LONGEST_NAME]}-{hashed}", hashed, overrides, settings, flags))
    return sorted(jobs.values(), key=lambda job: job.settings.seed)


def seedless(words: Sequence[str]) -> list[str]:
    """Return the words that name a job's setting: all but its seed."""
    return [word for word in words if key_of(word) != "seed"]


def varied(words: Sequence[Sequence[str]]) -> list[str]:
    """Return the keys for which the jobs have different values."""
    return [key for key in map(key_of, words[0]) if len({value(key, overrides) for overrides in words}) > 1]


def value(key: str, overrides: Sequence[str]) -> str:
    return next((value_of(word) for word in overrides if key_of(word) == key), "")


def label(key: str, text: str) -> str:
    """Return `batch_size_32` for a key, or the option alone for a group (model, accelerator)."""
    return text if key in GROUPS else f"{key.rsplit('.', 1)[-1]}_{text}"


def job_hash(config: Mapping[str, Any], overrides: Sequence[str], keys: Sequence[str]) -> str:
    """Hash the settings that decide the result, and also those varied `keys` that only decide the speed."""
    how_run = {key: value(key, overrides) for key in keys if key in HOW_RUN}
    return digest(counted(config, HOW_RUN) | how_run)


def sweep_name(first_key: str, overrides: Sequence[str]) -> str:
    """Name a sweep's folder without sweep.name: the same words in any order give the same sweep."""
    key = re.sub(r"[^A-Za-z0-9_]+", "_", first_key.rsplit(".", 1)[-1])
    return f"{key}-{digest(sorted(word for word in overrides if key_of(word) not in HOW_RUN))}"


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def base_of(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the settings that all jobs share, and the hashes of the users' files of code."""
    first, *others = [dict(leaves(job.settings.plain())) for job in jobs]
    base = {
        key: value
        for key, value in first.items()
        if not is_of(key, HOW_RUN) and all(key in other and other[key] == value for other in others)
    }
    for path in dict.fromkeys(job.settings.code for job in jobs):
        if path:
            code = Path(path).expanduser()
            found = hashlib.sha256(code.read_bytes()).hexdigest() if code.is_file() else None
            base |= {f"{CODE_TEXT}={path}": found} | ({CODE_TEXT: found} if base.get("model.path") else {})
    return base


def write_plan(folder: Path, jobs: Sequence[Job], words: Sequence[str], flags: Sequence[str]) -> list[Job]:
    """Write sweep.json and return the jobs, each with the name that the folder knows it by. `words` are the command's
    overrides. Raises UsageError with the differences if the folder has a sweep of another base configuration. New
    values of what is swept may be added."""
    base, old = base_of(jobs), read_plan(folder)
    if old is not None:
        changed = [key for key in old["base"].keys() & base.keys() if old["base"][key] != base[key]]
        if changed:
            diff = "; ".join(f"{key}: {brief(old['base'][key])} -> {brief(base[key])}" for key in sorted(changed))
            if all(key.startswith(CODE_TEXT) for key in changed):
                paths = dict.fromkeys(key.partition("=")[2] or base["model.path"] for key in sorted(changed))
                diff = f"{', '.join(paths)} was edited since, but the finished jobs ran the earlier version"
            raise UsageError(
                f"{folder.name}: the sweep in this folder has other settings ({diff}); type sweep.name=NEW"
            )
        base |= {
            key: old["base"][key] for key in old["base"] if key.startswith((IMAGES, CODE_TEXT)) and key not in base
        }
    earlier = {job["hash"]: job for job in known_jobs(folder, old, jobs)} if old else {}
    jobs = [replace(job, name=earlier.get(job.hash, {}).get("name", job.name)) for job in jobs]
    listed = {job.hash: {"name": job.name, "hash": job.hash, "overrides": job.overrides} for job in jobs}
    commands = [list(command) for command in old["commands"]] if old else []
    lasting = [word for word in words if key_of(word) != "sweep.retry"]  # sweep.retry counts for one start only
    if not any(same_sweep(lasting, command) for command in commands):
        commands.append(lasting)
    now = datetime.now().astimezone()
    created = old["created"] if old else now.isoformat(timespec="seconds")
    content: dict[str, Any] = {
        "name": folder.name,
        "command": shlex.join(["scripts/train", *flags, "-m", *commands[-1]]),
    }
    content |= {
        "created": created,
        "started": now.isoformat(timespec="milliseconds"),
        "cwd": str(Path.cwd()),
        "commands": commands,
        "base": base,
        "hashes": HASHES,
    }
    write_json(folder / "sweep.json", content | {"jobs": list((earlier | listed).values())})
    return jobs


def images_of(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprints of the images that the sweep began with, by their `place_of`."""
    found = plan["base"].get(IMAGES)
    return dict(found) if isinstance(found, Mapping) else {}


def place_of(settings: Settings) -> str:
    """Return what a sweep knows a user's images by: data.path, with data.labels if there is one."""
    labels = settings.data.get("labels")
    return str(settings.data.get("path")) + (f" with data.labels={labels}" if labels else "")


def note_images(folder: Path, images: Mapping[str, str]) -> dict[str, str]:
    """Add fingerprints to sweep.json for later starts, and return all that it has. An entry that another runner has
    already written stays."""
    plan = read_plan(folder)
    assert plan is not None
    known = {**images, **images_of(plan)}
    if known != images_of(plan):
        write_json(folder / "sweep.json", plan | {"base": plan["base"] | {IMAGES: known}})
    return known


def known_jobs(folder: Path, plan: Mapping[str, Any], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Return the jobs that the plan lists. Hashes of an earlier version are computed again: from the settings that a
    started job wrote down, or else by its overrides, if they are among `jobs`."""
    listed: list[dict[str, Any]] = plan["jobs"]
    if plan.get("hashes") == HASHES or not listed:
        return listed
    words = [job["overrides"] for job in listed]
    keys = [key for key in varied(words) if all(key in map(key_of, overrides) for overrides in words)]
    by_words = {tuple(sorted(job.overrides)): job.hash for job in jobs}

    def hash_of(job: dict[str, Any]) -> str:
        config = folder / job["name"] / ".hydra" / "config.yaml"
        if not config.is_file():
            return str(by_words.get(tuple(sorted(job["overrides"])), job["hash"]))
        try:
            return job_hash(dict(read_yaml(config)), job["overrides"], keys)
        except (RunError, TypeError, ValueError, RecursionError):  # a damaged one equals none of our jobs
            return str(job["hash"])

    return [job | {"hash": hash_of(job)} for job in listed]


def same_sweep(one: Sequence[str], other: Sequence[str]) -> bool:
    first, second = (sorted(word for word in words if key_of(word) not in HOW_RUN) for words in (one, other))
    return first == second


def read_plan(folder: Path) -> dict[str, Any] | None:
    """Read the sweep.json in `folder`, or return None if there is none. Raises RunError if it is damaged."""
    path = folder / "sweep.json"
    if not os.path.lexists(path):
        return None
    try:
        plan: dict[str, Any] = read_json(path, MOST_SWEEP_BYTES)
        texts = [plan["created"], plan["cwd"], *(word for words in plan["commands"] for word in words)]
        texts += [job["hash"] for job in listed_jobs(plan)]
        whole = isinstance(plan["base"], dict) and all(isinstance(text, str) for text in texts)
        whole = whole and bool(plan["commands"])
    except (RunError, ValueError, KeyError, TypeError) as error:
        why = str(error) if isinstance(error, RunError) else f"{path}: damaged"
        raise RunError(f"{why}; type sweep.name=NEW to start another sweep") from error
    if not whole:
        raise RunError(f"{path}: damaged; type sweep.name=NEW to start another sweep")
    return plan


def listed_jobs(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the jobs of a sweep.json. Raises ValueError, KeyError or TypeError if a job's name can't be a folder in
    the sweep's folder, or if its overrides aren't words."""
    jobs: list[dict[str, Any]] = plan["jobs"]
    for job in jobs:
        if not re.fullmatch(r"\w[\w.-]*", job["name"]):
            raise ValueError(f"a job has the name {brief(job['name'])}")
        if not all(isinstance(word, str) for word in job["overrides"]):
            raise ValueError(f"the job {brief(job['name'])} has overrides that are no words")
    return jobs
