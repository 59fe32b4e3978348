"""Stops a wrong command in one line, before torch is imported. A key that has no row is an unknown key."""

import difflib
from collections.abc import Mapping
from typing import Any

from dlintro.errors import UsageError
from dlintro.settings.conf import GROUPS
from dlintro.settings.key import Key, leaves
from dlintro.settings.keys import TABLE


def check(config: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """UsageError with one line where a leaf of the composed configuration is unknown or has an illegal value."""
    for name, value in leaves(config):
        if name.endswith("._target_"):
            continue  # judged by the class it resolves to, when it is built
        key = TABLE.get(name)
        if key is None:
            raise UsageError(unknown(name))
        if key.only and choices.get(key.group) not in key.only:
            raise UsageError(
                f"{name}: {key.group}={choices.get(key.group)} has no such key; it belongs to "
                f"{key.group}={'|'.join(key.only)}"
            )
        check_value(key, value)


def check_value(key: Key, value: Any) -> None:
    if not key.accepts(value):
        raise UsageError(f"{key.name}={brief(value)}: {key.meaning}; legal: {key.legal()}")


def brief(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [*GROUPS, *TABLE], n=1, cutoff=0.5)
    # a key given without its group (batch_size=32) is the most common slip
    near = [key for key in TABLE if key.split(".")[-1] == name][:1] or near
    return f"unknown key {name}" + (f"; did you mean {near[0]}?" if near else "; scripts/train --help lists all keys")
