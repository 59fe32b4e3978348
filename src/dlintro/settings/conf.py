"""Reads the groups of conf/, their options and the defaults. It does so without Hydra, so that --help is quick."""

import difflib
import functools
import re
from pathlib import Path
from typing import Any

from dlintro.errors import UsageError
from dlintro.settings.key import leaves
from dlintro.settings.keys import TABLE

PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(p for p in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if p.is_dir())  # in a wheel or the repository
FOLDERS = {"model": "models", "data": "data"}  # where the classes of a group are


def options(group: str) -> list[str]:
    """List the names that `group=NAME` accepts."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def no_option(group: str, name: str) -> str:
    """Write the message for `group=name` where conf/ has no such file."""
    if file := unconfigured(group, name):
        return f"{group}={name}: {file} has no conf/{group}/{name}.yaml yet; CONTRIBUTING.md shows how to write it"
    found = options(group)
    near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? The" if near else "the"
    others = ""
    if group == "model" and not near:
        others = f"; for one of torchvision's networks, type model=torchvision model.name={name}"
    return f"{group}={name}: there is no such option; {hint} options are {', '.join(found)}{others}"


def unconfigured(group: str, name: str) -> Path | None:
    """Find the file of a model or data set that somebody is adding and that has no file in conf/ yet."""
    file = PACKAGE / FOLDERS.get(group, "none") / f"{name}.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    targets = [str(option("model", model)["model._target_"]).rpartition(".")[2] for model in options("model")]
    models = [kind for kind in re.findall(r"^class (\w+)\(Classifier\)", text, re.MULTILINE) if kind not in targets]
    return file if models or re.search(rf'^    names = \("{name}"', text, re.MULTILINE) else None


def file_of(group: str, name: str) -> str:
    """Name an option in a message: by its file in conf/, or as it was typed if the file is the user's own."""
    return f"conf/{group}/{name}.yaml" if name in options(group) else f"{group}={name}"


def default_options() -> dict[str, str | None]:
    """Return the option that each group has by default."""
    composed = read(CONF / "train.yaml")["defaults"]
    return {name: option for line in composed if isinstance(line, dict) for name, option in line.items()}


@functools.cache
def defaults() -> dict[str, Any]:
    """Return the default of each key. If only some options of a group have a key, its default is that of the first
    option in its row. Raises UsageError for a row without a default."""
    chosen, everywhere, found = default_options(), dict(leaves(read(CONF / "train.yaml"))), {}
    for key in TABLE.values():
        grouped = key.group in FOLDERS or key.group == "accelerator"
        name = key.only[0] if key.only else str(chosen[key.group]) if grouped else ""
        values = everywhere if not grouped else option(key.group, name) if name in options(key.group) else {}
        if key.name not in values:
            place = f"conf/{key.group}/{name}.yaml" if grouped else "conf/train.yaml"
            raise UsageError(f"{key.name} has a row in settings/keys.py but no default: add it to {place}")
        found[key.name] = values[key.name]
    return found


@functools.cache
def option(group: str, name: str) -> dict[str, Any]:
    """Return the keys that conf/GROUP/NAME.yaml and the files it builds on set, as {"model.widths": ...}."""
    content = read(CONF / group / f"{name}.yaml")
    found: dict[str, Any] = {}
    for parent in content.pop("defaults", []):
        found |= option(group, parent) if isinstance(parent, str) and parent != "_self_" else {}
    return found | dict(leaves(content if group in content else {group: content}))


def read(path: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content
