"""Refuses arguments of scripts/train that can't be right or that would run code.

It has to come before Hydra, which builds whatever hydra.* and a _target_ name before any other code runs.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from dlintro.accelerators import wrong_name
from dlintro.errors import UsageError
from dlintro.settings.conf import no_option, options
from dlintro.settings.keys import CODE, FILES, GROUPS, TABLE
from dlintro.settings.limits import brief, dashed, unknown
from dlintro.settings.words import key_of, value_of

LONG = {"-m": "--multirun", "-c": "--cfg", "-i": "--info", "-p": "--package", "-cd": "--config-dir"}
FLAGS = ("--multirun", "--resolve")
FLAGS_WITH_VALUE: dict[str, tuple[str, ...]] = {  # flag -> the values that it takes; () means a folder
    "--cfg": ("job", "hydra", "all"),
    "--info": ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
    "--package": tuple(dict.fromkeys(key.group for key in TABLE.values() if key.group != key.name)),
    "--config-dir": (),
}
COMMANDS = ("--multirun", "--cfg", "--info")
HYDRA_KEYS: dict[str, tuple[str, ...]] = {  # key -> the values that it takes; () means a folder
    "hydra.mode": ("RUN", "MULTIRUN"),
    "hydra.verbose": ("false", "true"),
    "hydra.run.dir": (),
    "hydra.sweep.dir": (),
    "hydra/launcher": ("process", "basic"),
}
LONGEST_NAME = 255  # bytes in the name of a file or folder


def separate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments into Hydra's flags and overrides. Only known flags pass: argparse takes abbreviations."""
    flags: dict[str, str] = {}
    overrides = []
    rest = iter(argv)
    for word in rest:
        typed, equals, value = word.partition("=")
        name = LONG.get(typed, typed)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        if name not in FLAGS_WITH_VALUE and (name not in FLAGS or equals):
            no_flag = f"{word}: there is no such flag; use -m, --config-dir DIR, --cfg job or --help"
            raise UsageError(dashed(word) or no_flag)
        if name in flags:
            raise UsageError(f"{typed}: this flag is given twice; give it once")
        flags[name] = value if equals or name in FLAGS else next(rest, "")
        if name in FLAGS_WITH_VALUE:
            check_flag(typed, flags[name], FLAGS_WITH_VALUE[name])
    commands = [flag for flag in flags if flag in COMMANDS]
    if len(commands) > 1:
        raise UsageError(f"{' and '.join(commands)}: use one of them at a time")
    if "--cfg" not in flags and (lonely := {"--resolve", "--package"} & flags.keys()):
        raise UsageError(f"{min(lonely)}: this flag belongs to --cfg; type --cfg job {min(lonely)}")
    if "--multirun" in flags and any(key_of(word) == "hydra.mode" for word in overrides):
        raise UsageError("hydra.mode: -m already makes this a sweep; leave one of the two out")
    return [word for flag, value in flags.items() for word in (flag, value) if word], overrides


def check_flag(typed: str, value: str, known: Sequence[str]) -> None:
    if known and value not in known:
        raise UsageError(f"{typed} {value}".rstrip() + f": this flag takes one of {', '.join(known)}")
    if not known and not (value and Path(value).is_dir()):
        raise UsageError(f"{typed} {value}".rstrip() + f": there is no such folder; type {typed} DIR")


def check_overrides(overrides: list[str], flags: Sequence[str] = ()) -> None:
    """Raise UsageError for arguments that can't be right or that would run code, before anything is composed."""
    commas = "--multirun" in flags  # without -m, the answer to Hydra's error says how to type a sweep
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if not equals or key.startswith("~"):
            raise UsageError(
                f"{override}: type arguments as KEY=VALUE, without spaces and with lists in quotes ('KEY=[1,2]'); "
                f"scripts/train --help lists the keys"
            )
        if "_target_" in key or re.search(r"_target_[\"']?\s*:", value):
            raise UsageError(
                f"{override}: a _target_ can't be typed; for your own network, type model=file model.path=FILE.py"
            )
        check_names(override, key, value_of(override))
        if key.startswith("hydra"):
            check_hydra_key(override, key, value_of(override))
        elif key in GROUPS:
            if re.search(r"[/\\$]|\.\.", value):  # a path would lead Hydra out of the config folders
                raise UsageError(
                    f"{override}: {key}=NAME chooses a file by its name; type --config-dir DIR to add your own folder"
                )
            if value_of(override) in ("", "null", "???"):
                raise UsageError(f"{override}: leave it out, or type one of {', '.join(options(key))}")
            if re.search(r"[{\[]", value):
                raise UsageError(f"{override}: {key}=NAME chooses an option; set its keys one by one, {key}.KEY=VALUE")
            if key == "sweep" and re.search(r"[,(]", value):
                raise UsageError(f"{override}: type one ready-made sweep at a time: {', '.join(options(key))}")
            names = [] if "(" in value else value.split(",")  # Hydra reads choice() and glob()
            for name in map(str.strip, names):
                if key == "accelerator" and (message := wrong_name(name)):
                    raise UsageError(message)
                if is_no_text(name) and (commas or len(names) == 1):  # Hydra would fail on it
                    raise UsageError(no_option(key, name))
        elif key not in TABLE:
            raise UsageError(unknown(key))
        elif TABLE[key].argument == "name" and TABLE[key].group in ("data", "accelerator"):
            raise UsageError(f"{override}: type {TABLE[key].group}={value} instead")


def is_no_text(value: str) -> bool:
    """Return whether Hydra reads the value as a number or as true or false, and not as a text."""
    try:
        float(value)
    except ValueError:
        return value.lower() in ("true", "false")
    return True


def check_hydra_key(override: str, key: str, value: str) -> None:
    if key not in HYDRA_KEYS:
        raise UsageError(f"{override}: of Hydra's own settings, only {', '.join(HYDRA_KEYS)} can be changed")
    if (known := HYDRA_KEYS[key]) and value not in known:
        raise UsageError(f"{override}: use {key}={' or '.join(known)}")
    if not known and (value in ("", "null", "???") or value[0] in "[{"):
        raise UsageError(f"{override}: type the name of a folder, {key}=DIR")


def check_names(override: str, key: str, value: str) -> None:
    """Raise UsageError for the name of a file or folder that is too long or that isn't UTF-8."""
    try:
        override.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{override}: this name has bytes that are not UTF-8; rename the file or folder") from error
    is_path = key in (*FILES, *CODE, "resume", "rerun") or HYDRA_KEYS.get(key) == () or key in GROUPS
    if is_path and max(map(len, os.fsencode(value).split(b"/"))) > LONGEST_NAME:
        raise UsageError(
            f"{key}={brief(value)}: the name is too long; a file or folder name has {LONGEST_NAME} bytes at most"
        )
