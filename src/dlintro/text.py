"""Writes what a person reads: on one line, without control codes, as somebody would type or say it."""

import contextlib
import logging
import os
import shlex
import sys
from pathlib import Path


def say(status: int, message: str) -> int:
    print(f"dlintro: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)
    return status


def tell(text: str) -> None:
    """On stdout, where somebody reads it: Ctrl-C in `scripts/train | tee log` ends tee too."""
    with contextlib.suppress(OSError, RuntimeError, ValueError):  # RuntimeError: in a signal handler, within a print
        print(text, flush=True)


def printable(text: object) -> str:
    """On one line and harmless: a file name may hold line breaks, terminal codes or bytes that are no text."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


class Harmless(logging.Formatter):
    """What a stranger's record says may reach the terminal, but not steer it."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def shown_path(folder: Path) -> str:
    """As the user would type it from here, where that is shorter."""
    relative = os.path.relpath(folder)
    return shlex.quote(relative if len(relative) < len(str(folder)) else str(folder))


def typed(name: str) -> str:
    """What starts the command from here: the checkout's script, or what pip has installed."""
    script = Path(__file__).parents[2] / "scripts" / name
    if script.is_file():
        return shown_path(script)
    if name == "tensorboard":  # its own command, which knows nothing of our folder
        return f"tensorboard --logdir {shown_path(Path(os.environ.get('DLINTRO_OUTPUTS') or 'outputs'))}"
    return f"dlintro-{name}"


def duration(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
