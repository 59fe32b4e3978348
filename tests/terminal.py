"""A command in a terminal of a given width, as pyte draws it: what stood on the screen, from first to last."""

import codecs
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyte

REDRAWN = b"\r\x1b[2K"  # how a live line begins again


@dataclass
class Shown:
    """`lines`: all that has been on the screen at the end, the history too, without trailing blanks. `frames`: every
    picture on the way, as (seconds, lines of the screen). `raw`: what was written to the terminal."""

    status: int = 0
    lines: list[str] = field(default_factory=list)
    frames: list[tuple[float, list[str]]] = field(default_factory=list)
    raw: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def ever(self) -> set[str]:
        """Every line that could be read at any time."""
        return {line for _, lines in self.frames for line in lines if line} | {line for line in self.lines if line}


def in_terminal(
    command: Sequence[str | Path],
    columns: int,
    rows: int = 24,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    watch: Callable[[subprocess.Popen[bytes], Shown], None] = lambda process, shown: None,
    seconds: float = 100,
) -> Shown:
    """Runs the command to its end, or kills it after so many seconds. `watch` is called after each piece of output."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (rows, columns))
    environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | (env or {})
    for name in {"COLUMNS", "LINES", "NO_COLOR", "TTY_COMPATIBLE", "MPLBACKEND"} - (env or {}).keys():
        environment.pop(name, None)
    process = subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
    stream, shown, began = pyte.ByteStream(screen), Shown(), time.monotonic()
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a piece may end within a character
    try:
        while time.monotonic() - began < seconds:
            if not select.select([master], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(master, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not data:
                break
            shown.raw += decoder.decode(data)
            for part in data.replace(REDRAWN, b"\0" + REDRAWN).split(
                b"\0"
            ):  # each picture, though several came at once
                stream.feed(part)
                lines = [line.rstrip() for line in screen.display]
                if not shown.frames or lines != shown.frames[-1][1]:
                    shown.frames.append((time.monotonic() - began, lines))
            watch(process, shown)
        shown.status = process.wait(timeout=10)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)
    history = ["".join(row[column].data for column in range(columns)).rstrip() for row in screen.history.top]
    shown.lines = history + [line.rstrip() for line in screen.display]
    return shown


def command(module: str, *words: str) -> list[str]:
    """A command as its script starts it."""
    return [sys.executable, "-c", f"import sys; from dlintro.{module} import main; sys.exit(main())", *words]
