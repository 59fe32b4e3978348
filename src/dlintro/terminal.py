"""Draws in the terminal, as the only file that does. It redraws lines at the bottom, and everything else that is
printed appears above them.

Nothing is drawn into a pipe or a file, in a notebook, or on a terminal that can't go back (TERM=dumb). All drawing is
done by the thread that calls `show`: a second one would take time from the training and could hold a lock while a
DataLoader forks its workers. rich is imported where something is drawn, as --help and a slip draw nothing.
"""

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from dlintro.text import duration

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

T = TypeVar("T")
EVERY_SECONDS = 0.5  # between two drawings, of a millisecond or two each
CLEAR_LINE = "\r\x1b[2K"

_drawn: list["Live"] = []  # the lines that are being drawn now, the uppermost first


class Above:
    """Stands for a standard stream while lines are drawn: what is written to it appears above them, line by line."""

    def __init__(self, console: "Console", stream: TextIO) -> None:
        self.console, self.stream = console, stream
        self._begun = ""  # of a line that has no end yet
        self._process = os.getpid()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        if lines and os.getpid() != self._process:  # a worker of a DataLoader: it knows nothing of our lines
            self.stream.write("".join(f"{CLEAR_LINE}{line}\n" for line in lines))
        elif lines:
            self._print("\n".join(lines))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """Every whole line has been written already; the beginning of one waits for its end."""

    def end(self) -> None:
        text, self._begun = self._begun, ""
        if text:
            self._print(text)

    def _print(self, text: str) -> None:
        from rich.text import Text

        # soft_wrap: the terminal breaks what is too long, so that a path or a command can be copied whole.
        self.console.print(Text.from_ansi(text), soft_wrap=True)


class Live:
    """Lines at the bottom of the terminal. `shown`: whether this process may draw (of several, one does)."""

    def __init__(self, shown: bool = True) -> None:
        self.console = drawing_console() if shown else None
        self._due = 0.0
        self._live: Any = None
        self._streams: dict[str, tuple[TextIO, Above]] = {}

    def start(self) -> Self:
        self._due = time.monotonic() + EVERY_SECONDS
        if self.console is None or self._live is not None:
            return self
        from rich.live import Live as RichLive

        # rich's own redirection would break long lines and take the place of a stream that goes to a file.
        self._live = RichLive(
            console=self.console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()
        self.console.show_cursor(True)  # a process that is killed would leave a terminal without a cursor
        for name in ("stdout", "stderr") if not _drawn else ():
            stream = getattr(sys, name)
            if stream.isatty():
                self._streams[name] = stream, Above(self.console, stream)
                setattr(sys, name, self._streams[name][1])
        _drawn.append(self)
        return self

    def stop(self) -> None:
        """Leaves the terminal as if nothing had been drawn. Called twice, it does nothing more."""
        if self._live is None:
            return
        for name, (stream, above) in self._streams.items():
            above.end()
            if getattr(sys, name) is above:
                setattr(sys, name, stream)
        self._live.stop()
        self._live, self._streams = None, {}
        _drawn.remove(self)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def width(self) -> int:
        """The columns that a line may take. The last one stays free: some terminals go on to the next line there."""
        return self.console.width - 1 if self.console else 0

    @property
    def height(self) -> int:
        return self.console.height if self.console else 0

    def due(self) -> bool:
        """Return whether it is time to draw again. Costs next to nothing, so that it can be asked after each step."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + EVERY_SECONDS
        return True

    def show(self, lines: "RenderableType") -> None:
        if self._live is not None:
            self._live.update(lines, refresh=True)

    def show_fields(self, fields: Sequence["Field"], share: float | None = None, bar_rank: int = 9) -> None:
        """One line; `share`: how much is done, for a bar."""
        if self._live is not None:
            self.show(fitted(fields, self.width, share, bar_rank))


def drawing_console() -> "Console | None":
    """The console to draw on: standard output, or standard error if the output goes to a file. If it goes to another
    program, which may write to the same terminal, nothing is drawn."""
    if _drawn:
        return _drawn[0].console
    stream = next((s for s in (sys.stdout, sys.stderr) if s.isatty()), None)
    if stream is None or (stream is sys.stderr and is_pipe(sys.stdout)):
        return None
    from rich.console import Console

    console = Console(file=stream, highlight=False)
    return console if console.is_interactive else None


def is_pipe(stream: TextIO) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # it has no file: a test's or a notebook's
        return True


def clear() -> None:
    """Takes away what is still drawn, before the last words: an error may have left a loop without its end."""
    while _drawn:
        _drawn[-1].stop()


@dataclass(frozen=True)
class Field:
    """A part of a live line. Where the line is too long, fields become `short`, then those of the highest rank go."""

    label: str
    value: str
    rank: int
    short: str = ""

    @property
    def text(self) -> str:
        return f"{self.label} {self.value}" if self.label else self.value


def fitted(fields: Sequence[Field], width: int, share: float | None = None, bar_rank: int = 9) -> "Text":
    """The fields in one line of at most `width` columns, each whole or left out; before them a bar, if it fits in."""
    from rich.cells import cell_len
    from rich.text import Text

    bar = Field("", bar_of(share, width) if share is not None else "", bar_rank)
    texts = {field: field.text for field in (bar, *fields) if field.text}

    def too_long() -> bool:
        return sum(map(cell_len, texts.values())) + 2 * (len(texts) - 1) > width

    ranked = sorted(texts, key=lambda field: field.rank)
    if too_long() and ranked[-1] is bar:
        del texts[ranked.pop()]
    for field in ranked:  # what matters most is best known without its label
        if field.short and too_long():
            texts[field] = field.short
    for field in ranked[:0:-1]:
        if too_long():
            del texts[field]
    line = Text(no_wrap=True, overflow="ellipsis")
    for number, (field, text) in enumerate(texts.items()):
        line.append("  " if number else "")
        labelled = bool(field.label) and text == field.text
        style = "cyan" if field is bar else ""
        line.append(f"{field.label} " if labelled else "", "dim").append(field.value if labelled else text, style)
    return line


def bar_of(share: float, width: int) -> str:
    length = 30 if width > 100 else 12
    done = round(length * min(max(share, 0.0), 1.0))
    return "━" * done + "─" * (length - done)


def say(sentence: str) -> None:
    """A sentence on standard output; where a terminal's line ends, it is broken between words."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    console.print(sentence, soft_wrap=not console.is_terminal)


def track(items: Sequence[T], what: str) -> Iterator[T]:
    """The items, one by one, and a live line that says how far they have come."""
    began = time.monotonic()
    with Live() as live:
        for done, item in enumerate(items):
            if live.due():
                share = done / len(items)
                fields = [Field(what, f"{share:4.0%}", 0), time_left(time.monotonic() - began, share)]
                live.show_fields(fields, share)
            yield item


def time_left(seconds: float, share: float) -> Field:
    """By what the first `share` of the work took."""
    return Field("", f"{duration(seconds * (1 - share) / share)} left" if share else "", 1)


@contextlib.contextmanager
def at_work(what: str) -> Iterator[None]:
    """A live line that says what is being done, of something that can't say how far it has come."""
    with Live() as live:
        live.show_fields([Field("", what, 0)])
        yield
