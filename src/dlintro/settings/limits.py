"""Stops a wrong command in one line, before torch is imported. A key that has no row is an unknown key."""

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


def check(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> None:
    """UsageError with one line where a leaf of the composed configuration is unknown or has an illegal value."""
    for name, value in leaves(config):
        if name.endswith("._target_") or (name in GROUPS and not value):
            continue  # judged by the class it resolves to, when it is built; a group with nothing in it
        group, key = name.partition(".")[0], TABLE.get(name)
        chosen = choices.get(group) or ""
        if key is None and (above := TABLE.get(name.rpartition(".")[0])):  # a mapping was given to it
            check_value(above, {name.rpartition(".")[2]: value})
        if key is None:
            raise UsageError(no_row(name, group, chosen) or unknown(name))
        if key.only and chosen not in key.only:
            belongs = f"{name}: {group}={chosen} has no such key; the key belongs to {group}={' or '.join(key.only)}"
            raise UsageError(no_row(name, group, chosen) or belongs)
        check_value(key, value)


def check_whole(config: Mapping[str, Any]) -> None:
    """UsageError where a key is missing, as a file of the user's may leave one out of the group that it replaces."""
    there = dict(leaves(config))
    for name, key in TABLE.items():
        if key.group not in FOLDERS and name not in there:
            raise UsageError(f"{name}: your configuration has no value for this key; add {key.legal()}")


def no_row(name: str, group: str, chosen: str) -> str:
    """For somebody who adds a model or a data set: the place where the row of a key is missing, "" where none is."""
    argument = name.removeprefix(f"{group}.")
    if group not in FOLDERS or chosen not in options(group) or name not in option(group, chosen):
        return ""
    where = f"conf/{group}/{chosen}.yaml sets {name}"
    if name not in TABLE:
        return f"{where}, which has no row: add one, {argument}: TYPE = key(...), to {row_place(group)}"
    return f"{where}: add {chosen!r} to `only` of its row, {row_place(group, argument)}"


def row_place(group: str, argument: str = "") -> str:
    """The class of a group's rows, or the row of one of its keys, with file and line."""
    import inspect

    kind = next(field.metadata["rows"] for field in fields(Settings) if field.name == group)
    lines, first = inspect.getsourcelines(kind)
    line = next((n for n, text in enumerate(lines) if argument and text.startswith(f"    {argument}: ")), 1)
    return f"class {kind.__name__} of {inspect.getsourcefile(kind)}, line {first + line}"


def check_value(key: Key, value: Any) -> None:
    if not key.accepts(value):
        raise UsageError(f"{key.name}={brief(value)} is not allowed: use {key.legal()}")


def no_value(place: str, why: str) -> str:
    """The answer to ??? and to a ${...} that leads nowhere. `place`: OmegaConf's name for a key or a list's item."""
    name = re.split(r"[\[=]", place)[0]
    return f"{place} {why}" + (f": use {TABLE[name].legal()}" if name in TABLE else "")


def read_value(name: str, text: str) -> Any:
    """What stands behind NAME=, as training would take it; of a group, the option's name. UsageError if illegal."""
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


def unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [*GROUPS, *TABLE], n=1, cutoff=0.5)
    # a key given without its group (batch_size=32) is the most common slip
    near = [key for key in TABLE if key.split(".")[-1] == name][:1] or near
    return f"unknown key {name}" + (f"; did you mean {near[0]}?" if near else "; scripts/train --help lists all keys")
