"""Checks a sweep before its first job, in a process of its own because the checks import torch."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.errors import UsageError
from dlintro.settings.keys import FILES, Settings
from dlintro.sweep.plan import IMAGES, images_of, place_of, read_plan
from dlintro.sweep.standing import stored

if TYPE_CHECKING:
    from dlintro.data.source import Facts

VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


@dataclass(frozen=True)
class Preflight:
    """The facts that the jobs share. `error` says why one of them can't run, or is None. `note` says which batch sizes
    are the same because the data set has fewer images. `images` are the fingerprints of the users' sets by their
    data.path."""

    num_cores: int
    num_accelerators: int
    error: str | None
    note: str | None
    images: Mapping[str, str]


def preflight(answer: Connection, folder: Path, combinations: Mapping[str, Settings]) -> None:
    """Check the settings of a sweep and send a Preflight. `folder` is the sweep's folder; `combinations` are the
    settings by the words that made them."""
    import torch

    from dlintro.accelerators import num_usable_cores

    sets: dict[str, Any] = {}
    found = ((words, impossible(settings, sets)) for words, settings in combinations.items())
    error = next((f"{why} (of the combination {words})" for words, why in found if why), None)
    of_users = {
        place_of(settings): sets[str(settings.data)].source.facts
        for settings in combinations.values()
        if settings.data.get("path") and str(settings.data) in sets
    }
    error = error or other_images(folder, of_users)
    images = {path: facts.fingerprint for path, facts in of_users.items()}
    accelerators = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    note = same_sizes(combinations.values(), sets)
    answer.send(Preflight(num_usable_cores(), accelerators, error, note, images))


def same_sizes(combinations: Iterable[Settings], sets: Mapping[str, Any]) -> str | None:
    from dlintro.run.parts import fewer_images

    asked = {(s.data["batch_size"], sets[str(s.data)].num_train) for s in combinations if str(s.data) in sets}
    more = sorted((size, num) for size, num in asked if size > num)
    notes = [fewer_images([size for size, n in more if n == num], num) for num in sorted({num for _, num in more})]
    return "; ".join(notes) or None


def impossible(settings: Settings, sets: dict[str, Any]) -> str | None:
    """Say why this data and this model don't fit together, or return None. No pixel is decoded and no weight is made.
    `sets` keeps the data modules, because looking through a user's folder takes time."""
    import torch

    from dlintro.run.parts import build_data, build_model, refuse_one_image

    model = {key: None if f"model.{key}" in FILES else value for key, value in settings.model.items()}
    try:
        if (key := str(settings.data)) not in sets:
            sets[key] = build_data(settings)
        if settings.code:  # only the job runs a user's own code
            return None
        with torch.device("meta"):
            refuse_one_image(build_model(replace(settings, model=model), sets[key]), sets[key])
    except UsageError as error:
        return str(error)
    except Exception:  # some networks can't be made on the meta device; their job will tell
        return None
    return None


def other_images(folder: Path, found: Mapping[str, "Facts"]) -> str | None:
    """Say how these sets, by their data.path, differ from those that the sweep in `folder` began with."""
    from dlintro.run.inputs import counted, read_images

    plan = read_plan(folder)
    assert plan is not None
    known, folders = images_of(plan), [folder / job["name"] for job in plan["jobs"]]
    differ = ""
    for path, facts in found.items():
        if known.get(path) not in (None, facts.fingerprint):
            began = (job for job in folders if stored(job).get("images_fingerprint") == known[path])
            differ = counted(next((each for job in began if (each := read_images(job))), None), facts.images)
        elif IMAGES not in plan["base"] and any(of_before(stored(job), facts) for job in folders):
            differ = "an earlier version ran its jobs, chose their test images differently, and noted no contents"
        if differ:
            return (
                f"data.path={path}: the images are not those that the sweep {folder.name} began with ({differ}); "
                f"type sweep.name=NEW"
            )
    return None


def of_before(record: Mapping[str, Any], facts: "Facts") -> bool:
    """Return whether an earlier version ran on these images and recorded no fingerprint of them."""
    return bool(facts.images) and record.get("data") == facts.name and "images_fingerprint" not in record


def only_device(number: int) -> dict[str, str]:
    """Return environment variables with which a process sees only accelerator `number` of those visible here."""
    narrowed = {
        name: [word for word in os.environ[name].split(",") if word] for name in VISIBLE_DEVICES if name in os.environ
    }
    if any(narrowed.values()):
        return {name: visible[number] for name, visible in narrowed.items() if number < len(visible)}
    return dict.fromkeys(VISIBLE_DEVICES, str(number))
