"""Reads the files of run and sweep folders, which may come from anybody or from a failing disk.

Whatever a file holds, the result is its content or a RunError of one line, in bounded time and memory.
"""

import csv
import io
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from dlintro.errors import RunError, one_line

MOST_BYTES = 2**20  # of a record or a configuration; usual ones have a few thousand
MOST_SWEEP_BYTES = 2**24  # of a sweep.json or a page; enough for ten thousand jobs
MOST_CURVE_BYTES = 2**27  # of a metrics.csv; enough for a row at each of a million steps
MOST_YAML_BYTES = 2**18  # of a configuration, which is read a hundred times more slowly than a record
DEEPEST = 40  # containers within each other
MOST_VALUES = 100_000  # in a YAML file
LARGEST = 1e39  # just beyond the range of float32, which runs use


def opened(path: Path, most: int) -> io.BufferedReader:
    """Open the file for reading. Raises RunError if it isn't an ordinary file or has more than `most` bytes."""
    try:
        # O_NONBLOCK, because opening a pipe would wait until somebody writes to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        raise RunError(f"{path}: can't be read ({getattr(error, 'strerror', None) or error})") from error
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        file.close()
        raise damaged(path, "not an ordinary file")
    if found.st_size > most:
        file.close()
        raise damaged(path, f"it has {found.st_size:,} bytes, but {most:,} at most are allowed")
    return file


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """Read a text file. Raises RunError if it can't be read, isn't UTF-8, or has more than `most` bytes."""
    with opened(path, most) as file:
        try:
            content = file.read(most + 1)  # it may be growing
        except OSError as error:  # the disk failed, or another process put a folder there
            raise RunError(f"{path}: can't be read ({error.strerror})") from error
    if len(content) > most:
        raise damaged(path, f"it has more than the {most:,} bytes that are allowed")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise damaged(path, "not UTF-8") from error


def read_json(path: Path, most: int = MOST_BYTES) -> Any:
    """Read a JSON file of plain values whose numbers a run can have. Raises RunError for anything else."""
    text = read_text(path, most)
    try:
        content = json.loads(text, parse_constant=_no_number)
        check_plain(content)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON that a run has written: {one_line(error)}") from error
    return content


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values whose numbers a run can have. Raises RunError for anything else."""
    try:
        return parse_yaml(read_text(path, MOST_YAML_BYTES))
    except ValueError as error:
        raise damaged(path, one_line(error)) from error


def parse_yaml(text: str) -> Any:
    """Return the plain values of a YAML text. Raises ValueError for anything else.

    The text is first scanned event by event. libyaml's loader would crash the process on endless nesting, and a few
    aliases to aliases would make more values than fit into memory.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    depth = 0
    try:
        for count, event in enumerate(yaml.parse(text, loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has an alias, and no run writes aliases")
            if depth > DEEPEST or count > MOST_VALUES:
                raise ValueError("it nests too deeply" if depth > DEEPEST else "it holds too much")
        content = yaml.load(text, loader)
    except (yaml.YAMLError, RecursionError, OverflowError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"not YAML that a run has written: {one_line(error)}") from error
    check_plain(content)
    return content


def check_plain(content: Any, depth: int = 0) -> None:
    """Raise ValueError unless it consists of texts, numbers, true, false and null in lists and mappings."""
    if depth > DEEPEST:
        raise ValueError("it nests too deeply")
    if isinstance(content, dict):
        for name, value in content.items():
            if not isinstance(name, str):
                raise ValueError(f"a key in it is a {type(name).__name__}, not a text")
            check_plain(name)
            check_plain(value, depth + 1)
    elif isinstance(content, list):
        for value in content:
            check_plain(value, depth + 1)
    elif isinstance(content, str):
        content.encode()  # ValueError for half a character (JSON's \ud800), which can't be printed or written
        if "\0" in content:
            raise ValueError("it has a text with a zero byte")
    elif isinstance(content, (int, float)):
        if not (-LARGEST <= content <= LARGEST):
            raise ValueError("it has a number that no run can have")
    elif content is not None:
        raise ValueError(f"it has a value of the type {type(content).__name__}")


def read_rows(path: Path) -> Iterator[Mapping[str, str]]:
    """Yield the rows of a metrics.csv as mappings by the names in its first line. A row that a crash cut off or joined
    with the next one is left out. Raises RunError if the file can't be read."""
    with opened(path, MOST_CURVE_BYTES) as raw, io.TextIOWrapper(raw, encoding="utf-8", newline="") as file:
        rows = csv.reader(line for line in file if line.endswith("\n"))
        try:
            names = next(rows, [])
            for row in rows:
                if len(row) == len(names):
                    yield dict(zip(names, row, strict=True))
        except (OSError, ValueError, csv.Error) as error:  # ValueError: not UTF-8
            raise damaged(path, one_line(error)) from error


def finite(text: str) -> float | None:
    """Read a cell of a metrics.csv. Returns None for an empty cell, nan and inf; ValueError if no run can have it."""
    if text.lower() in ("", "nan", "inf", "-inf"):
        return None
    value = float(text)
    check_plain(value)
    return value


def damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path}: damaged ({why})")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")
