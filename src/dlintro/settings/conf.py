"""The folder conf/: its groups, their options and the defaults, read without Hydra: quick enough for --help."""

import difflib
import functools
from pathlib import Path
from typing import Any

from dlintro.settings.key import leaves
from dlintro.settings.keys import TABLE

PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if p.is_dir())  # in a wheel; in the repository
FOLDERS = {"model": "models", "data": "data"}  # a group's classes


def options(group: str) -> list[str]:
    """What may stand behind `group=`."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def no_option(group: str, name: str) -> str:
    """What is wrong with `group=name`, for which there is no file."""
    if (file := PACKAGE / FOLDERS.get(group, group) / f"{name}.py").is_file():
        return f"{group}={name}: {file} has no {CONF / group / name}.yaml yet, with its _target_ and its keys"
    found = options(group)
    near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{group}={name}: there is no such option; {hint}There are {', '.join(found)}"


def default_options() -> dict[str, str | None]:
    """Of each group."""
    composed = read(CONF / "train.yaml")["defaults"]
    return {name: option for line in composed if isinstance(line, dict) for name, option in line.items()}


@functools.cache
def defaults() -> dict[str, Any]:
    """The value of each key where nothing is said. A key that only some options of its group have: its value in the
    first of them that its row names."""
    chosen, everywhere, found = default_options(), dict(leaves(read(CONF / "train.yaml"))), {}
    for key in TABLE.values():
        grouped = key.group in FOLDERS or key.group == "accelerator"
        values = option(key.group, key.only[0] if key.only else str(chosen[key.group])) if grouped else everywhere
        found[key.name] = values[key.name]
    return found


@functools.cache
def option(group: str, name: str) -> dict[str, Any]:
    """The keys that conf/GROUP/NAME.yaml sets, and the files that it is a difference to: {"model.widths": ...}."""
    content = read(CONF / group / f"{name}.yaml")
    found: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        found |= option(group, parent)
    return found | dict(leaves(content if group in content else {group: content}))


def read(path: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
