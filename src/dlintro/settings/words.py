"""Reads and quotes one argument of a command, KEY=VALUE."""

import re
import shlex


def key_of(override: str) -> str:
    return override.lstrip("+").split("=")[0]


def value_of(override: str) -> str:
    value = override.partition("=")[2]
    return value[1:-1] if value[:1] in "'\"" and value[-1:] == value[:1] and len(value) > 1 else value


def quoted(text: str) -> str:
    """Quote the text as one value of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def in_quotes(override: str) -> str:
    """Quote the argument for a shell, where its value is a text with a comma or another special sign of Hydra's."""
    word = f"{key_of(override)}={quoted(value_of(override))}"
    return shlex.quote(word) if re.search(r'["$`!\\]', word) else f'"{word}"'
