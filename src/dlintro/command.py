"""What the commands share: one line for a mistake, the exit status, the log.

0 all well; 1 something failed; 2 the command was wrong; 130 after Ctrl-C; 143 after SIGTERM. No torch in here: --help
and a slip are answered in a fraction of a second.
"""

import argparse
import atexit
import contextlib
import errno
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from dlintro.accelerators import wrong_name
from dlintro.errors import Interrupted, RunError, UsageError, disk_trouble, first_line, refuse_url
from dlintro.settings.limits import brief, dashed
from dlintro.settings.words import value_of
from dlintro.terminal import at_work, clear
from dlintro.text import Harmless, as_typed, keep_streams, say

RUN_HELP = (
    "a run: its folder, its name or a part of it, or last for the newest. Its weights are those of the epoch that was "
    "best on the validation images. A .ckpt file will do, too"
)
MODEL_PATH_HELP = "your file, for a run of model=file: it is code, so it is never taken from a checkpoint"


class Parser(argparse.ArgumentParser):
    """argparse's, with one line for a mistake. No abbreviated options: a new one would change what they mean."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def format_help(self) -> str:
        return as_typed(super().format_help())

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        if unknown.startswith("-") and "KEY=VALUE" in (self.usage or "") and (said := dashed(unknown)):
            raise UsageError(said)
        raise UsageError(f"{message}; {self.prog} --help shows the usage")


def exit_status(work: Callable[[], int]) -> int:
    """Runs a command and returns its exit status. An error that is neither the user's mistake nor an ordinary failure
    is ours, and keeps its traceback."""
    keep_streams()
    set_up_logging()
    if "JPY_PARENT_PID" in os.environ or os.environ.get("MPLBACKEND", "").startswith("module:"):  # in a notebook, which
        os.environ["TTY_COMPATIBLE"] = "0"  # shows a table that rich draws anew below the old one
    os.environ["MPLBACKEND"] = "agg"  # a command opens no window
    atexit.register(gc.freeze)  # else Python ends by looking through all modules for garbage: a second
    status = answered(work)
    sys.stdout.flush()
    if status == 0 and (trouble := getattr(sys.stdout, "trouble", "")):
        return say(1, f"standard output: {trouble}")
    return status


def answered(work: Callable[[], int]) -> int:
    try:
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as a shell has it for what runs in the background
            signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, terminated)
        try:
            return work()
        finally:
            clear()
    except UsageError as error:
        return say(2, str(error))
    except RunError as error:
        return say(1, str(error))
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # Lightning's answer to Ctrl-C
            return 128 + signal.SIGINT
        return error.code if isinstance(error.code, int) else 1
    except Interrupted as error:
        return 128 + error.signum
    except Exception as error:
        if isinstance(error, OSError) and (why := disk_trouble(error)):
            if error.errno == errno.ENAMETOOLONG:  # only a name that was typed can be so long
                return say(2, f"{brief(error.filename)}: {why}")
            return say(1, f"{error.filename or 'the output folder'}: {why}")
        if not getattr(error, "logged", False):  # no run has put the traceback into its log
            raise
        return say(1, first_line(error))


@contextlib.contextmanager
def heavy_imports(leave: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Around the imports of torch and Lightning. None of the objects that they make is garbage: to look for it while
    they are made, and at them ever after, would take a fifth of a short run's time. Ctrl-C or SIGTERM calls `leave` and
    ends the process at once: as an exception it would be lost in some library's import, or come out as another one."""
    if "lightning" in sys.modules:  # a second run in this process: the first one's remains are garbage
        yield
        return

    def end(signum: int, frame: Any) -> None:
        try:
            clear()
            leave()
        finally:
            os._exit(128 + signum)

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    for signum in before:
        signal.signal(signum, end if before[signum] is not signal.SIG_IGN else signal.SIG_IGN)
    gc.disable()
    try:
        with at_work("loading PyTorch"), without_scipy_signal():
            yield
    finally:
        gc.freeze()
        gc.enable()
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def without_scipy_signal() -> Iterator[None]:
    """Keep torchmetrics from importing scipy.signal, which takes 0.5 s. It does so only to give a function a second
    name, for an audio metric. Here it finds an empty module with that name, which is gone afterwards, so whoever needs
    scipy.signal imports it as usual."""
    name = "scipy.signal"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = stand_in = ModuleType(name)
    stand_in.hamming = None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def split_words(words: Iterable[str], known: Callable[[str], bool]) -> tuple[dict[str, str], list[str]]:
    """({key: value} of the KEY=VALUE words whose key is known, the other words). accelerator=NAME is checked. A file
    that is there is no KEY=VALUE, whatever its name."""
    given: dict[str, str] = {}
    others: list[str] = []
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals or not known(key) or Path(word).exists():
            others.append(word)
        elif key in given:
            raise UsageError(f"{word}: {key} is given twice")
        else:
            given[key] = value_of(word)
    if message := wrong_name(given.get("accelerator", "auto")):
        raise UsageError(message)
    return given, others


def existing(path: str) -> str:
    """A file or folder that is there, before torch is imported to read it."""
    refuse_url(path)
    if not Path(path).exists():
        raise UsageError(f"{path}: there is no such file or folder")
    return path


def terminated(signum: int, frame: Any) -> NoReturn:
    sys.exit(128 + signum)


class ToStderr(logging.Handler):
    """Writes to what is standard error at that moment: while a live line is drawn, that is above the line."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def set_up_logging() -> None:
    """Our own lines go to stderr as they are; everybody's go to the run's train.log, tracebacks too."""
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log that can't be written, as the disk is full, is no second trouble
    console = ToStderr()
    console.setLevel(logging.INFO)
    console.setFormatter(Harmless("%(message)s"))
    console.addFilter(lambda record: record.name.startswith("dlintro") and not record.exc_info)
    root = logging.getLogger()
    root.handlers = [console]
    root.setLevel(logging.INFO)
    logging.getLogger("dlintro").setLevel(logging.DEBUG)
