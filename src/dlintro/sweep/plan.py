"""What a sweep consists of: its jobs, each with a name of its own, and sweep.json, which knows the command again."""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dlintro.command import value_of
from dlintro.errors import RunError, UsageError
from dlintro.limits import GROUPS, leaves, shown
from dlintro.overrides import key_of
from dlintro.record import NOT_HASHED, write_json

FILES = ("data.path", "model.path", "model.weights")  # another file is another job, whatever a run's own hash says
HOW_RUN = tuple(key for key in NOT_HASHED if key not in FILES)  # keys that change no result
LONGEST_NAME = 100
CODE = "contents of model.path"


@dataclass(frozen=True)
class Job:
    """One combination: `name` is its folder's, `overrides` as they would be typed (behind `flags`), `settings` the
    configuration that they make."""

    name: str
    hash: str
    overrides: list[str]
    settings: dict[str, Any]
    choices: dict[str, str]
    flags: Sequence[str] = ()

    @property
    def command(self) -> str:
        """What runs this job alone."""
        single = ["hydra.mode=RUN"] if "sweep" in map(key_of, self.overrides) else []
        return shlex.join(["scripts/train", *self.flags, *self.overrides, *single])

    @property
    def seed(self) -> int:
        seed: int = self.settings["seed"]
        return seed


def make_jobs(
    composed: Sequence[tuple[list[str], dict[str, Any], dict[str, str]]], flags: Sequence[str] = ()
) -> list[Job]:
    """The jobs of (overrides, settings, choices), seed by seed: settings that are compared run side by side, and the
    first seeds show the whole picture early. A combination that is there twice is one job."""
    words = [overrides for overrides, _, _ in composed]
    varied = [key for key in map(key_of, words[0]) if len({value(key, w) for w in words}) > 1]
    varied.sort(key=lambda key: (key == "seed", key))  # the order in which they were typed makes no other job
    jobs: dict[str, Job] = {}
    for overrides, settings, choices in composed:
        parts = [label(key, value(key, overrides)) for key in varied] or [choices["model"], choices["data"]]
        readable = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part).strip("_.") for part in parts)
        hashed = job_hash(settings, {key: value(key, overrides) for key in varied if key in HOW_RUN})
        jobs.setdefault(hashed, Job(f"{readable[:LONGEST_NAME]}-{hashed}", hashed, overrides, settings, choices, flags))
    return sorted(jobs.values(), key=lambda job: job.seed)


def value(key: str, overrides: Sequence[str]) -> str:
    return next((value_of(word) for word in overrides if key_of(word) == key), "")


def label(key: str, text: str) -> str:
    """`batch_size_32`; of a group (model, accelerator) the option alone."""
    return text if key in GROUPS else f"{key.rsplit('.', 1)[-1]}_{text}"


def job_hash(settings: Mapping[str, Any], how_run: Mapping[str, str]) -> str:
    """`how_run`: keys that change no result, where a sweep asks just for their effect on the speed."""
    return digest({key: value for key, value in leaves(settings) if key not in HOW_RUN} | dict(how_run))


def sweep_name(first_key: str, overrides: Sequence[str]) -> str:
    """A sweep's folder where sweep.name isn't given: the same words, in any order, are the same sweep."""
    key = re.sub(r"[^A-Za-z0-9_]+", "_", first_key.rsplit(".", 1)[-1])
    return f"{key}-{digest(sorted(word for word in overrides if key_of(word) not in HOW_RUN))}"


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def base_of(jobs: Sequence[Job]) -> dict[str, Any]:
    """What all jobs have in common, the text of a user's file of code included."""
    first, *others = [dict(leaves(job.settings)) for job in jobs]
    base = {
        key: value
        for key, value in first.items()
        if key not in HOW_RUN and all(key in other and other[key] == value for other in others)
    }
    if base.get("model.path"):
        code = Path(base["model.path"]).expanduser()
        base[CODE] = hashlib.sha256(code.read_bytes()).hexdigest() if code.is_file() else None
    return base


def write_plan(folder: Path, jobs: Sequence[Job], words: Sequence[str], flags: Sequence[str]) -> list[Job]:
    """Writes sweep.json and returns the jobs, each under the name that the folder knows it by. `words`: the command's
    overrides. UsageError with the differences where the folder holds a sweep of another base configuration; values
    may be added to what is swept."""
    base, old = base_of(jobs), read_plan(folder)
    if old is not None:
        changed = [key for key in old["base"].keys() & base.keys() if old["base"][key] != base[key]]
        if changed:
            diff = "; ".join(f"{key}: {shown(old['base'][key])} -> {shown(base[key])}" for key in sorted(changed))
            if changed == [CODE]:
                diff = f"{base['model.path']} was edited since, and the finished jobs ran it as it was"
            raise UsageError(f"{folder.name}: the sweep in this folder has another base ({diff}); type sweep.name=NEW")
    earlier = {job["hash"]: job for job in old["jobs"]} if old else {}
    jobs = [replace(job, name=earlier.get(job.hash, {}).get("name", job.name)) for job in jobs]
    listed = {job.hash: {"name": job.name, "hash": job.hash, "overrides": job.overrides} for job in jobs}
    commands = [list(command) for command in old["commands"]] if old else []
    lasting = [word for word in words if key_of(word) != "sweep.retry"]  # said of one sitting
    if not any(same_sweep(lasting, command) for command in commands):
        commands.append(lasting)
    created = old["created"] if old else datetime.now().astimezone().isoformat(timespec="seconds")
    content: dict[str, Any] = {
        "name": folder.name,
        "command": shlex.join(["scripts/train", *flags, "-m", *commands[-1]]),
    }
    content |= {"created": created, "cwd": str(Path.cwd()), "commands": commands, "base": base}
    write_json(folder / "sweep.json", content | {"jobs": list((earlier | listed).values())})
    return jobs


def same_sweep(one: Sequence[str], other: Sequence[str]) -> bool:
    first, second = (sorted(word for word in words if key_of(word) not in HOW_RUN) for words in (one, other))
    return first == second


def read_plan(folder: Path) -> dict[str, Any] | None:
    """sweep.json of the sweep in `folder`, None where there is none."""
    path = folder / "sweep.json"
    if not path.is_file():
        return None
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        texts = [plan["created"], plan["cwd"], *(word for words in plan["commands"] for word in words)]
        names = [job["name"] for job in plan["jobs"]]
        texts += [word for job in plan["jobs"] for word in (job["hash"], *job["overrides"])]
        whole = isinstance(plan["base"], dict) and all(isinstance(text, str) for text in texts)
        whole = whole and all(re.fullmatch(r"\w[\w.-]*", name) for name in names)  # they are folders in this one
        whole = whole and bool(plan["commands"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: damaged; type sweep.name=NEW to start another sweep") from error
    if not whole:
        raise RunError(f"{path}: damaged; type sweep.name=NEW to start another sweep")
    return plan
