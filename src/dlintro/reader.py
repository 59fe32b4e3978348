"""The one reader of the files of a run or sweep folder. They may come from anybody, or from a failing disk.

Whatever a file holds, the answer is its content or a RunError of one line, in bounded time and memory.
"""

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NoReturn

from dlintro.errors import RunError, one_line

MOST_BYTES = 2**20  # of a record or a configuration; ours have a few thousand
MOST_SWEEP_BYTES = 2**24  # of a sweep.json, or a page: some ten thousand jobs
MOST_CURVE_BYTES = 2**27  # of a metrics.csv: a row at each of a million steps
MOST_YAML_BYTES = 2**18  # a configuration is read a hundred times more slowly than a record
DEEPEST = 40  # containers within each other
MOST_VALUES = 100_000  # in a YAML file
LARGEST = 1e39  # just beyond float32, in which a run counts


def opened(path: Path, most: int) -> IO[bytes]:
    """The file, open for reading. RunError where it isn't an ordinary file, or has more bytes than `most`."""
    try:
        # Without waiting: a pipe in a file's place would be opened when somebody writes to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise RunError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise damaged(path, "not an ordinary file")
    if found.st_size > most:
        file.close()
        raise damaged(path, f"{found.st_size:,} bytes, more than the {most:,} that it can have")
    return file


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """RunError where it can't be read, is no UTF-8, or has more bytes than `most`."""
    with opened(path, most) as file:
        try:
            content = file.read(most + 1)  # it may be growing
        except OSError as error:  # a folder that another process has put there, a disk's fault
            raise RunError(f"{path}: can't be read ({error.strerror})") from error
    if len(content) > most:
        raise damaged(path, f"more than the {most:,} bytes that it can have")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise damaged(path, "not UTF-8") from error


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Plain values, with numbers as a run may have them. RunError for anything else."""
    text = read_text(path, most)
    try:
        content = json.loads(text, parse_constant=_no_number)
        check_plain(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON as a run writes it: {one_line(error)}") from error
    return content


def read_yaml(path: Path) -> Any:
    """Plain values, with numbers as a run may have them. RunError for anything else."""
    try:
        return parse_yaml(read_text(path, MOST_YAML_BYTES))
    except ValueError as error:
        raise damaged(path, one_line(error)) from error


def parse_yaml(text: str) -> Any:
    """The plain values that a YAML text means. ValueError for anything else.

    It is looked through first, event by event: libyaml's loader ends the process with a segmentation fault where nodes
    are nested without end, and a few aliases to aliases mean more values than any memory holds.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(text, loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has an alias, which no run writes")
            if depth > DEEPEST or count > MOST_VALUES:
                raise ValueError("it nests too deeply" if depth > DEEPEST else "it holds too much")
        content = yaml.load(text, loader)
    except (yaml.YAMLError, RecursionError, OverflowError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not YAML as a run writes it: {one_line(error)}") from error
    check_plain(content)
    return content


def check_plain(content: Any, depth: int = 0) -> None:
    """ValueError where it is more than texts, numbers, true, false and null in lists and mappings."""
    if depth > DEEPEST:
        raise ValueError("it nests too deeply")
    if isinstance(content, dict):
        for name, value in content.items():
            if not isinstance(name, str):
                raise ValueError(f"{type(name).__name__} as a key")
            check_plain(name)
            check_plain(value, depth + 1)
    elif isinstance(content, list):
        for value in content:
            check_plain(value, depth + 1)
    elif isinstance(content, str):
        content.encode()  # half a character (JSON's \ud800) is a ValueError; it could be neither printed nor written
        if "\0" in content:
            raise ValueError("a text with a zero byte")
    elif isinstance(content, (int, float)):
        if not (-LARGEST <= content <= LARGEST):
            raise ValueError("a number that no run has")
    elif content is not None:
        raise ValueError(f"a value of the type {type(content).__name__}")


def read_rows(path: Path) -> Iterator[Mapping[str, str]]:
    """The whole rows of a metrics.csv, by the names in its first line. A row that a crash has cut, or grown together
    with the next one, is left out. RunError where the file can't be read."""
    with opened(path, MOST_CURVE_BYTES) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        rows = csv.reader(line for line in file if line.endswith("\n"))
        try:
            names = next(rows, [])
            for row in rows:
                if len(row) == len(names):
                    yield dict(zip(names, row, strict=True))
        except (OSError, ValueError, csv.Error) as error:  # ValueError: no UTF-8
            raise damaged(path, one_line(error)) from error


def finite(text: str) -> float | None:
    """A reading of a metrics.csv; None for an empty cell, nan and inf. ValueError for anything else that no run has."""
    if text.lower() in ("", "nan", "inf", "-inf"):
        return None
    value = float(text)
    check_plain(value)
    return value


def damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path}: damaged ({why})")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
