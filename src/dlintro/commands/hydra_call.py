"""Hydra, called as hydra.main calls it, with its answers in our words."""

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
from dlintro.settings.words import in_quotes, key_of, value_of

if TYPE_CHECKING:
    from omegaconf import DictConfig


def call_hydra(words: Sequence[str], task: "Callable[[DictConfig], None]") -> None:
    """Composes what the words say and calls `task` with it, or the sweep's launcher. UsageError for a slip."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to stderr with a traceback
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver(
        "random_hex", lambda digits: secrets.token_hex(digits)[:digits], use_cache=True, replace=True
    )
    sys.argv[1:] = words
    # These are hydra.main's own lines: it has no place where its parser alone could be built without the check.
    version.setbase("1.3")
    with unchecked_help():
        parser = get_args_parser()
    with in_our_words():
        _run_hydra(parser.parse_args(), parser, task, config_path=str(CONF), config_name="train")


@contextlib.contextmanager
def unchecked_help() -> Iterator[None]:
    """Python 3.14 checks each help text when it is added to a parser, and Hydra 1.3 adds one that is not a string
    (facebookresearch/hydra#3121). test_hydras_parser_cant_be_built_with_the_check says when this can go."""
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
def in_our_words() -> Iterator[None]:
    """UsageError for what Hydra and OmegaConf raise."""
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
    """Hydra's answer to a slip, with what to type here."""
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'", said, re.DOTALL):
        word = match[1]
        key = TABLE.get(key_of(word))
        if key and key.kind == "text":
            return f"{word}: a name with a comma needs two pairs of quotes, {in_quotes(word)}"
        if key and key.kind == "float" and re.fullmatch(r"\d+,\d+", value_of(word)):
            word = f"{word}: 0.5 has a point"
        return f"{word}: several values are a sweep, scripts/train -m ...; a list is typed 'KEY=[1,2]'"
    if match := re.match(r"In '.*': Could not find '(\w+)/(.+?)'", said):
        return no_option(match[1], match[2])
    if (match := re.match(r"Could not override '(.+?)'", said)) and (key := TABLE.get(match[1])) and key.only:
        return f"{key.name}: this key belongs to {key.group}={' or '.join(key.only)}"
    if (match := re.match(r"Error merging override (\S+)", said)) and (key := TABLE.get(key_of(match[1]))):
        return f"{match[1]} is not allowed: use {key.legal()}"
    return said.split("Config search path:")[0]


def unreadable(word: str, reason: str) -> str:
    """The answer to a word that Hydra's grammar doesn't take."""
    name, key = key_of(word), TABLE.get(key_of(word))
    if name in HYDRA_KEYS or (key and key.kind == "text"):
        whole = os.path.expanduser(value_of(word))  # noqa: PTH111  # the shell leaves ~ as it is behind KEY=
        return f"{word}: a name with such a sign needs two pairs of quotes, {in_quotes(f'{name}={whole}')}"
    hint = f"use {key.legal()}" if key and not key.kind.endswith("list") else f"quote lists, '{name}=[1,2]'"
    return f"{word}: Hydra can't read it ({reason}); {hint}"
