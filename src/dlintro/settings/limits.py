"""Checks keys and values and refuses a wrong one in one line, before torch is imported."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dlintro.errors import UsageError
from dlintro.reader import parse_yaml
from dlintro.settings.conf import FOLDERS, option, options
from dlintro.settings.key import Key, leaves
from dlintro.settings.keys import GROUPS, TABLE, Settings

OTHER_NAMES = {  # What a key is called in other projects and in PyTorch, and its name here.
    "learning_rate": "optim.lr",
    "optimizer": "optim.name",
    "optim": "optim.name",
    "scheduler": "optim.schedule",
    "wd": "optim.weight_decay",
    "epochs": "trainer.max_epochs",
    "num_epochs": "trainer.max_epochs",
    "amp": "trainer.precision",
    "patience": "trainer.early_stopping",
    "device": "accelerator",
    "gpu": "accelerator",
    "arch": "model",
    "dataset": "data",
    "batch": "data.batch_size",
    "workers": "data.num_workers",
}


def check(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> None:
    """Raise UsageError, in one line, for an unknown key or an illegal value in a composed configuration."""
    for name, value in leaves(config):
        if name.endswith("._target_") or (name in GROUPS and not value):
            continue  # a _target_ is judged by the class it resolves to, when it is built; a group may be empty
        group, key = name.partition(".")[0], TABLE.get(name)
        chosen = choices.get(group) or ""
        if key is None and (above := TABLE.get(name.rpartition(".")[0])):  # the key was given a mapping
            check_value(above, {name.rpartition(".")[2]: value})
        if key is None:
            raise UsageError(no_row(name, group, chosen) or unknown(name))
        if key.only and chosen not in key.only:
            raise UsageError(no_row(name, group, chosen) or misplaced(key))
        check_value(key, value)


def check_whole(config: Mapping[str, Any]) -> None:
    """Raise UsageError for a missing key. A user's config file that replaces a group may lack one."""
    there = dict(leaves(config))
    for name, key in TABLE.items():
        if key.group not in FOLDERS and name not in there:
            raise UsageError(f"{name}: your configuration has no value for this key; add it and use {key.legal()}")


def no_row(name: str, group: str, chosen: str) -> str:
    """Tell somebody who adds a model or a data set where the row of a key is missing; "" if it isn't."""
    argument = name.removeprefix(f"{group}.")
    if group not in FOLDERS or chosen not in options(group) or name not in option(group, chosen):
        return ""
    where = f"conf/{group}/{chosen}.yaml sets {name}"
    if name not in TABLE:
        return f"{where}, which has no row: add one, {argument}: TYPE = key(...), to {row_place(group)}"
    return f"{where}: add {chosen!r} to `only` of its row, {row_place(group, argument)}"


def row_place(group: str, argument: str = "") -> str:
    """Name the class that has a group's rows, with the file and the line (of the argument's row, if it has one)."""
    import inspect

    kind = next(field.metadata["rows"] for field in fields(Settings) if field.name == group)
    lines, first = inspect.getsourcelines(kind)
    line = next((n for n, text in enumerate(lines) if argument and text.startswith(f"    {argument}: ")), 1)
    return f"class {kind.__name__} of {inspect.getsourcefile(kind)}, line {first + line}"


def check_value(key: Key, value: Any) -> None:
    if not key.accepts(value):
        raise UsageError(f"{key.name}={brief(value)} is not allowed: use {key.legal()}")


def misplaced(key: Key) -> str:
    """Write the message for a key that the chosen option of its group doesn't have."""
    choice = f"{key.group}={key.only[0]}" if len(key.only) == 1 else "one of these"
    return f"{key.name} belongs to {key.owners()}: add {choice}, or leave {key.name} out"


def no_value(place: str, why: str) -> str:
    """Write the message for ??? and for a ${...} that leads nowhere. `place` is OmegaConf's name of a key or item."""
    name = re.split(r"[\[=]", place)[0]
    return f"{place} {why}" + (f": use {TABLE[name].legal()}" if name in TABLE else "")


def read_value(name: str, text: str) -> Any:
    """Read the value of NAME=VALUE as training would; for a group it is the option's name. UsageError if illegal."""
    if (key := TABLE.get(name)) is None:
        return text
    try:
        value = text if key.kind == "text" else parse_yaml(text)
    except ValueError:
        value = text
    check_value(key, value)
    return value


def is_known(name: str) -> bool:
    return name in TABLE or name in GROUPS


def brief(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def meant(name: str) -> str | None:
    """Return the key or group that somebody means who types `name`: its last word alone, such as batch_size, or the
    name that other projects have for it. None if there is none."""
    same = [key for key in (*GROUPS, *TABLE) if name in (key, key.rpartition(".")[2])]
    return same[0] if same else OTHER_NAMES.get(name.rpartition(".")[2])


def dashed(word: str) -> str | None:
    """Return the message for a setting that was typed as a flag, such as --lr or --lr=0.01. None for other flags."""
    key = meant(word.partition("=")[0].lstrip("-").replace("-", "_"))
    return f"{word}: settings have no dashes; type {key}=VALUE" if key else None


def unknown(name: str) -> str:
    near = meant(name) or next(iter(difflib.get_close_matches(name, [*GROUPS, *TABLE], n=1, cutoff=0.5)), None)
    return f"unknown key {name}" + (f"; did you mean {near}?" if near else "; scripts/train --help lists all keys")
