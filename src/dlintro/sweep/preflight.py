"""What has to be known before a sweep's first job, and takes torch to know; asked in a process of its own."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from dlintro.errors import UsageError
from dlintro.settings.keys import FILES, Settings

VISIBLE_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


@dataclass(frozen=True)
class Preflight:
    """What the jobs share, and why one of them can't be (None: all can)."""

    num_cores: int
    num_accelerators: int
    error: str | None
    note: str | None = None  # which batch sizes are the same, as the set has fewer images


def preflight(answer: Connection, combinations: Mapping[str, Settings]) -> None:
    """The process's work: sends a Preflight. `combinations`: settings by the words that made them."""
    import torch

    from dlintro.accelerators import num_usable_cores

    sets: dict[str, Any] = {}
    found = ((words, impossible(settings, sets)) for words, settings in combinations.items())
    error = next((f"{why} (of the combination {words})" for words, why in found if why), None)
    accelerators = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    note = same_sizes(combinations.values(), sets)
    answer.send(Preflight(num_usable_cores(), accelerators, error, note))


def same_sizes(combinations: Iterable[Settings], sets: Mapping[str, Any]) -> str | None:
    from dlintro.run.parts import fewer_images

    asked = {s.data["batch_size"]: sets[str(s.data)] for s in combinations if str(s.data) in sets}
    more = {size: data.num_train for size, data in asked.items() if size > data.num_train}
    notes = [fewer_images([s for s in sorted(more) if more[s] == num], num) for num in sorted({*more.values()})]
    return "; ".join(notes) or None


def impossible(settings: Settings, sets: dict[str, Any]) -> str | None:
    """Why this data and this model don't go together, from their arguments alone: no pixel is read, no weight made.
    `sets`: the data modules made so far, as a user's folder takes time to look through."""
    import torch

    from dlintro.run.parts import build_data, build_model, refuse_one_image

    if settings.code:  # a user's own code is for its job to run
        return None
    model = {key: None if f"model.{key}" in FILES else value for key, value in settings.model.items()}
    try:
        if (key := str(settings.data)) not in sets:
            sets[key] = build_data(settings)
        with torch.device("meta"):
            refuse_one_image(build_model(replace(settings, model=model), sets[key]), sets[key])
    except UsageError as error:
        return str(error)
    except Exception:  # not every network can be made without memory, and this is not the place to fail for it
        return None
    return None


def only_device(number: int) -> dict[str, str]:
    """The environment in which a process sees accelerator `number` alone, of those that are visible here."""
    narrowed = {
        name: [word for word in os.environ[name].split(",") if word] for name in VISIBLE_DEVICES if name in os.environ
    }
    if any(narrowed.values()):
        return {name: visible[number] for name, visible in narrowed.items() if number < len(visible)}
    return dict.fromkeys(VISIBLE_DEVICES, str(number))
