"""Calls Hydra as hydra.main does, and turns its errors into one-line messages that say what to type."""

import argparse
import contextlib
import os
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from dlintro.errors import UsageError
from dlintro.settings.conf import CONF, no_option
from dlintro.settings.fence import HYDRA_KEYS
from dlintro.settings.keys import TABLE
from dlintro.settings.limits import misplaced
from dlintro.settings.words import in_quotes, key_of, value_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def call_hydra(words: Sequence[str], task: "Callable[[DictConfig], None]") -> None:
    """Compose the arguments and call `task`, or the sweep's launcher. Raises UsageError for a mistake in them."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors instead of printing them
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver(
        "random_hex", lambda digits: secrets.token_hex(digits)[:digits], use_cache=True, replace=True
    )
    sys.argv[1:] = words
    # These lines are hydra.main's own, as it offers no way to build only its parser without the check.
    version.setbase("1.3")
    with unchecked_help():
        parser = get_args_parser()
    with hydra_errors_as_usage_errors():
        _run_hydra(parser.parse_args(), parser, task, config_path=str(CONF), config_name="train")


@contextlib.contextmanager
def unchecked_help() -> Iterator[None]:
    """Turn off argparse's check of help texts. Python 3.14 checks each text when it is added to a parser, and Hydra 1.3
    adds one that is not a string (facebookresearch/hydra#3121). When this is no longer needed,
    test_hydras_parser_cant_be_built_with_the_check fails."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return
    setattr(argparse.ArgumentParser, "_check_help", lambda parser, action: None)  # noqa: B010  # mypy's Python has none
    try:
        yield
    finally:
        setattr(argparse.ArgumentParser, "_check_help", check)  # noqa: B010


@contextlib.contextmanager
def hydra_errors_as_usage_errors() -> Iterator[None]:
    """Turn errors of Hydra and OmegaConf into UsageErrors."""
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except OverrideParseException as error:
        raise UsageError(unreadable(str(error.override), str(error).splitlines()[0])) from error
    except RecursionError as error:
        raise UsageError("a value nests too deeply; lists are typed 'KEY=[1,2]'") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(translated(str(error))) from error


def translated(said: str) -> str:
    """Rewrite Hydra's message about a mistake so that it says what to type."""
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'", said, re.DOTALL):
        word = match[1]
        key = TABLE.get(key_of(word))
        if key and key.kind == "text":
            return f"{word}: a name with a comma needs two pairs of quotes, {in_quotes(word)}"
        if key and key.kind == "float" and re.fullmatch(r"\d+,\d+", value_of(word)):
            return f"{word}: type a decimal point, {key.name}={value_of(word).replace(',', '.')}"
        return (
            f"{word}: several values make a sweep, which needs -m (scripts/train -m ...); a list is typed 'KEY=[1,2]'"
        )
    if match := re.match(r"In '.*': Could not find '(\w+)/(.+?)'", said):
        return no_option(match[1], match[2])
    if (match := re.match(r"Could not override '(.+?)'", said)) and (key := TABLE.get(match[1])) and key.only:
        return misplaced(key)
    if (match := re.match(r"Error merging override (\S+)", said)) and (key := TABLE.get(key_of(match[1]))):
        return f"{match[1]} is not allowed: use {key.legal()}"
    return said.split("Config search path:")[0]


def unreadable(word: str, reason: str) -> str:
    """Write the message for an argument that Hydra's grammar can't read."""
    name, key = key_of(word), TABLE.get(key_of(word))
    if name in HYDRA_KEYS or (key and key.kind == "text"):
        whole = os.path.expanduser(value_of(word))  # noqa: PTH111  # the shell doesn't expand ~ after KEY=
        if value_of(word).startswith("~") and re.fullmatch(r"[\w./-]+", whole):
            return f"{word}: ~ isn't expanded here; type {name}={whole}"
        return f"{word}: a name with a special character needs two pairs of quotes, {in_quotes(f'{name}={whole}')}"
    hint = f"use {key.legal()}" if key and not key.kind.endswith("list") else f"put lists in quotes, '{name}=[1,2]'"
    return f"{word}: Hydra can't read it ({reason}); {hint}"
