"""Finds the run or sweep that a word on the command line names: a path, `last`, a name, or a part of a name."""

import contextlib
import difflib
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from dlintro.errors import RunError, UsageError, refuse_url
from dlintro.reader import MOST_BYTES, MOST_SWEEP_BYTES, read_json
from dlintro.settings.keys import TABLE
from dlintro.settings.limits import brief
from dlintro.settings.words import key_of, quoted, value_of
from dlintro.text import shown_path, typed

LAST = "last"
MOST_LISTED = 4  # matches of an ambiguous word


@dataclass(frozen=True)
class Entry:
    """A folder of outputs/runs or outputs/sweeps."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def is_sweep(self) -> bool:
        return self.folder.parent.name == "sweeps"

    @cached_property
    def begun(self) -> bool:
        """False for a folder in which nothing has been trained yet."""
        names = ("sweep.json", "*/record.json") if self.is_sweep else ("record.json",)
        return any(any(self.folder.glob(name)) for name in names)

    @cached_property
    def started(self) -> float:
        """When the run or sweep was started, or last resumed, in seconds since 1970.

        Records of earlier versions have no time: then the folder's name has it, or else the folder's age tells it.
        """
        file, most = ("sweep.json", MOST_SWEEP_BYTES) if self.is_sweep else ("record.json", MOST_BYTES)
        try:
            told = read_json(self.folder / file, most)
            seconds = datetime.fromisoformat(told.get("started") or told["created"]).timestamp()
            datetime.fromtimestamp(seconds)  # a year that can't be shown here is no time
            return seconds
        except (RunError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
            return self._started_by_name()

    def _started_by_name(self) -> float:
        try:
            return datetime.strptime(self.name[:15], "%Y%m%d-%H%M%S").timestamp()
        except (ValueError, OverflowError):
            with contextlib.suppress(OSError):  # it may have been removed in the meantime
                return self.folder.stat().st_mtime
            return 0.0


def outputs_folder() -> Path:
    """The folder that all runs and sweeps are written to, unless `hydra.run.dir` names another one."""
    return Path(os.environ.get("DLINTRO_OUTPUTS") or "outputs")


def entries() -> list[Entry]:
    """All runs and sweeps in the outputs folder."""
    return [Entry(folder) for part in ("runs", "sweeps") for folder in folders_in(outputs_folder() / part)]


def folders_in(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def find_run(word: str) -> Path:
    """The path that `word` names: a file or folder of that name, `last` for the run or sweep started last, or a run, a
    sweep or a sweep's job (SWEEP/JOB) by its name or a part of it. UsageError if it names none, or more than one."""
    refuse_url(word)
    path = Path(os.path.expanduser(word))  # noqa: PTH111  # Path.expanduser raises for a user that isn't there
    if word and os.path.exists(path):  # noqa: PTH110  # Path.exists raises for a name that is too long
        return path
    found = entries()
    if word == LAST and (begun := [entry for entry in found if entry.begun]):
        return max(begun, key=lambda entry: (entry.started, entry.name)).folder
    matches = matching(word, found)
    if len(matches) == 1:
        return matches[0]
    raise UsageError(ambiguous(word, matches) if matches else unknown_run(word, found))


def matching(word: str, found: Sequence[Entry]) -> list[Path]:
    """The folders that `word` fits best. A whole name is a better fit than the end of one, such as a run's four hex
    digits, and that is a better fit than any other part."""
    folders = [entry.folder for entry in found]
    if not word.strip("./"):
        return []
    if "/" not in word:
        return best(word, folders) or best(word, list(jobs(found)))
    sweep, _, job = word.rpartition("/")
    return best(job, list(jobs([Entry(folder) for folder in best(sweep.rpartition("/")[2], folders)])))


def best(word: str, folders: Sequence[Path]) -> list[Path]:
    fits: tuple[Callable[[str], bool], ...] = (
        lambda name: name == word,
        lambda name: name.endswith(f"-{word}"),
        lambda name: word in name,
    )
    return next((some for fit in fits if (some := [folder for folder in folders if fit(folder.name)])), [])


def jobs(found: Sequence[Entry]) -> Iterator[Path]:
    for entry in found:
        if entry.is_sweep:
            yield from (folder for folder in folders_in(entry.folder) if (folder / "record.json").is_file())


def short(folder: Path) -> str:
    """A run's or sweep's name, or SWEEP/JOB."""
    return f"{folder.parent.name}/{folder.name}" if folder.parent.name not in ("runs", "sweeps") else folder.name


def shortened(name: str, names: Collection[str]) -> str:
    """The part of a usual run's name, TIME-MODEL-DATA-4HEX, that finds it among `names`; other names stay whole."""
    usual = re.fullmatch(r"(\d{8}-\d{6})-.*-([0-9a-f]{4})", name)
    if usual and sum(other.endswith(f"-{usual[2]}") for other in names) == 1:
        return usual[2]
    return usual[1] if usual and sum(usual[1] in other for other in names) == 1 else name


def ambiguous(word: str, matches: Sequence[Path]) -> str:
    names = sorted(map(short, matches), reverse=True)
    if len(set(names)) < len(names):  # a run and a sweep of the same name
        names = sorted(map(shown_path, matches))
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    listed = ", ".join(names[:MOST_LISTED])
    return f"{brief(word)} could be any of {len(names)}: {listed}{more}; type more of the name that you mean"


def unknown_run(word: str, found: Sequence[Entry]) -> str:
    missing = f"{brief(word)}: there is no such file or folder, and "
    outputs = shown_path(outputs_folder())
    if not found:
        return f"{missing}there are no runs in {outputs} yet; {typed('train')} makes the first"
    parts = {part: entry.name for entry in found for part in (*entry.name.split("-"), entry.name)}
    near = difflib.get_close_matches(word, parts, n=1, cutoff=0.6)
    newest = max(found, key=lambda entry: entry.started).name
    meant = f"did you mean {parts[near[0]]}?" if near else f"the newest is {newest}, and {typed('runs')} lists them"
    return f"{missing}none of the {len(found)} runs and sweeps in {outputs} has that in its name; {meant}"


def with_paths(overrides: Sequence[str]) -> list[str]:
    """The overrides with a path in the place of each name of a run, so that what is stored never says `last`."""
    return [with_path(word) for word in overrides]


def with_path(override: str) -> str:
    key, value = key_of(override), value_of(override)
    if key not in ("resume", "rerun", "model.weights") or value in ("", "null") or re.search(r"[,\[({]", value):
        return override
    if value in TABLE[key].words:  # model.weights=imagenet
        return override
    if value.lower() in TABLE[key].words:
        raise UsageError(f"{override}: did you mean {key}={value.lower()}?")
    try:
        path = find_run(value)
    except UsageError as error:
        raise UsageError(f"{key}={error}") from error
    if key == "model.weights" and path.is_dir():
        path = weights_of(path, override)
    if str(path) == os.path.expanduser(value):  # noqa: PTH111
        return override
    shown = os.path.relpath(path)
    shown = shown if len(shown) < len(str(path)) else str(path)
    plain = re.fullmatch(r"[\w./-]+", shown, re.ASCII)
    return f"{key}={shown if plain else quoted(shown)}"


def weights_of(run: Path, override: str) -> Path:
    """The val-best checkpoint of a run that another one starts from."""
    checkpoint = run / "checkpoints" / "best.ckpt"
    if not checkpoint.is_file():
        if (run / "sweep.json").is_file():
            raise UsageError(f"{override}: {shown_path(run)} is a sweep; name one of its jobs, SWEEP/JOB")
        raise UsageError(f"{override}: {shown_path(run)} has no val-best weights (checkpoints/best.ckpt)")
    return checkpoint
