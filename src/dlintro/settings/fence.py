"""Refuses words on the command line of scripts/train that can't be right, or that would run code.

The fence around Hydra: it builds what hydra.* and a _target_ name before our code runs.
"""

import re
from collections.abc import Sequence

from dlintro.accelerators import wrong_name
from dlintro.errors import UsageError
from dlintro.settings.conf import options
from dlintro.settings.keys import GROUPS, TABLE
from dlintro.settings.limits import unknown

FLAGS = ("-m", "--multirun", "--resolve", "--run", "-r", "--hydra-help", "--version", "--shell-completion", "-sc")
FLAGS_WITH_VALUE = ("--config-dir", "-cd", "--cfg", "-c", "--package", "-p", "--info", "-i")
COMMANDS = ("-m", "--multirun", "--run", "-r", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc")
HYDRA_KEYS = ("hydra.mode", "hydra.verbose", "hydra.run.dir", "hydra.sweep.dir", "hydra/launcher")


def separate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags, and the overrides. A list of what is taken, not of what isn't: argparse takes any abbreviation."""
    flags, overrides = [], []
    rest = iter(argv)
    for word in rest:
        name = word.split("=")[0]
        if name in FLAGS_WITH_VALUE:
            flags += [word] if "=" in word else [word, next(rest, "")]
        elif word in FLAGS:
            flags.append(word)
        elif word.startswith("-"):
            raise UsageError(f"{word}: not a flag here; taken are -m, --config-dir DIR, --cfg job and --help")
        else:
            overrides.append(word)
    commands = [flag for flag in flags if flag.split("=")[0] in COMMANDS]
    if len(commands) > 1:
        raise UsageError(f"{' and '.join(commands)}: one of them at a time")
    return flags, overrides


def check_overrides(overrides: list[str]) -> None:
    """UsageError for words that can't be right, or that would run code, before anything is composed."""
    for override in overrides:
        key, equals, value = override.lstrip("+").partition("=")
        if not equals or key.startswith("~"):
            raise UsageError(
                f"{override}: arguments have the form KEY=VALUE, without spaces, lists in quotes ('KEY=[1,2]'); "
                f"scripts/train --help lists the keys"
            )
        if "_target_" in key or re.search(r"_target_[\"']?\s*:", value):
            raise UsageError(f"{override}: a _target_ is not taken from the command line; your own network: model=file")
        if key.startswith("hydra"):
            if key not in HYDRA_KEYS:
                raise UsageError(f"{override}: of Hydra's own settings only {', '.join(HYDRA_KEYS)} are taken")
        elif key in GROUPS:
            if re.search(r"[/\\$]|\.\.", value):  # as a path it would lead Hydra out of the config folders
                raise UsageError(
                    f"{override}: {key}=NAME chooses a file by its name; a folder of yours: --config-dir DIR"
                )
            if value in ("", "null"):
                raise UsageError(f"{override}: leave it out, or type one of {', '.join(options(key))}")
            if "{" in value:
                raise UsageError(f"{override}: {key}=NAME chooses an option; set its keys one by one, {key}.KEY=VALUE")
            if key == "sweep" and re.search(r"[,(]", value):
                raise UsageError(f"{override}: one ready-made sweep at a time")
            plain = key == "accelerator" and "(" not in value  # choice() and glob() are Hydra's to read
            names = value.split(",") if plain else []
            if messages := [message for name in names if (message := wrong_name(name.strip()))]:
                raise UsageError(messages[0])
        elif key not in TABLE:
            raise UsageError(unknown(key))
        elif TABLE[key].argument == "name" and TABLE[key].group in ("data", "accelerator"):
            raise UsageError(f"{override}: type {TABLE[key].group}={value}")
