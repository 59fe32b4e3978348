"""Writes what a person reads: on one line, without control codes, as somebody would type or say it."""

import contextlib
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

SCRIPTS = Path(__file__).parents[2] / "scripts"
COMMAND = re.compile(
    r"(?<![\w./-])scripts/(train|devices|predict|evaluate|pack|report|benchmark|claims|runs|tensorboard)\b"
)


def say(status: int, message: str) -> int:
    print(f"dlintro: {as_typed(printable(' '.join(message.split())))}", file=sys.stderr, flush=True)
    return status


def tell(text: str) -> None:
    """On stdout, where somebody reads it: Ctrl-C in `scripts/train | tee log` ends tee too."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # RuntimeError: in a signal handler, within a print
        print(text, flush=True)


class Unbroken:
    """A standard stream that takes what nobody can have any more: the reader may have gone (`| head`), or the disk be
    full. A run is worth more than its lines. `trouble`: what else than a reader's leaving made it stop."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.trouble = stream, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        with self._to_nowhere():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._to_nowhere():
            self.stream.flush()

    @contextlib.contextmanager
    def _to_nowhere(self) -> Iterator[None]:
        """If writing fails, send this text and all that follows to /dev/null, Python's last flush too."""
        try:
            yield
        except OSError as error:
            if isinstance(error, BlockingIOError):  # the reader is slow: this line is lost, the next may not be
                return
            self.trouble = "" if isinstance(error, BrokenPipeError) else str(error.strerror)
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def keep_streams() -> None:
    """Standard streams that can always be written to, in a process of its own (not where a test reads them)."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by `>&-`: the next file to be opened would get its number
            stream = open(os.devnull, mode)  # noqa: SIM115, PTH123
            os.set_inheritable(stream.fileno(), True)  # a sweep's jobs have it, too
            setattr(sys, name, stream)
        elif mode == "w" and getattr(sys, name) is getattr(sys, f"__{name}__"):
            getattr(sys, name).reconfigure(errors="replace")  # a Latin-1 terminal has no "–"
            setattr(sys, name, Unbroken(getattr(sys, name)))


def printable(text: object) -> str:
    """On one line and harmless: a file name may hold line breaks, terminal codes or bytes that are no text."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


class Harmless(logging.Formatter):
    """Lets a stranger's words reach the terminal, but not steer it."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def shown_path(folder: Path) -> str:
    """As the user would type it from here, where that is shorter."""
    relative = os.path.relpath(folder)
    return shlex.quote(relative if len(relative) < len(str(folder)) else str(folder))


def typed(name: str) -> str:
    """Return the word that starts a command from here: the checkout's script, or the name that pip installed."""
    script = SCRIPTS / name
    return shown_path(script) if script.is_file() else f"dlintro-{name}"


def as_typed(text: str) -> str:
    """A text that names commands as `scripts/NAME`, with the words that start them from here."""
    return COMMAND.sub(lambda found: typed(found[1]), text)


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
