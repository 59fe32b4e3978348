"""The folders of runs and sweeps, before anything is trained.

What is there stays as it is, and a command that is refused leaves nothing behind.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dlintro.commands.named import outputs_folder
from dlintro.errors import UsageError
from dlintro.settings.keys import TABLE


def is_multirun(flags: list[str], given: Mapping[str, str]) -> bool:
    """True if the command asks for a sweep."""
    mode = "MULTIRUN" if "--multirun" in flags else given.get("hydra.mode", "")
    return mode == "MULTIRUN" or (mode != "RUN" and given.get("sweep", "null") not in ("null", ""))


def check_new_folders(given: Mapping[str, str], one_run: bool) -> None:
    """Before Hydra writes into them: what is there stays as it is."""
    resumes = given.get("resume", "null") not in ("null", "")
    if one_run and "hydra.sweep.dir" in given:
        raise UsageError(f"hydra.sweep.dir={given['hydra.sweep.dir']}: this is one run; type hydra.run.dir=DIR")
    if not one_run and "hydra.run.dir" in given:
        raise UsageError(f"hydra.run.dir={given['hydra.run.dir']}: this is a sweep; type sweep.name=NAME")
    keys = [] if resumes else ["hydra.run.dir"]
    keys += ["hydra.sweep.dir"] if given.get("hydra/launcher", "process") != "process" else []
    for key in set(keys) & given.keys():
        folder = Path(given[key])
        if "${" in given[key]:
            raise UsageError(f"{key}={folder}: type the folder's name; what Hydra would fill in isn't known before")
        try:
            taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
            if not taken:
                check_writable(folder)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"{key}={folder}: nothing can be written there ({why}); name another folder") from error
        if taken:
            raise UsageError(f"{key}={folder}: not empty; name a new one (resume=RUN goes on with a run)")


def check_writable(folder: Path) -> None:
    """OSError or ValueError where no folder of that name can be made and written to. Leaves nothing behind."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    finally:
        for path in made:
            with contextlib.suppress(OSError, ValueError):
                path.rmdir()


def sweep_folder(flags: list[str], overrides: list[str], given: Mapping[str, str]) -> Path | None:
    """A sweep's folder, named by what the sweep is, so that the same command finds it again; None for a single run."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not is_multirun(flags, given) or {"hydra.sweep.dir", "--cfg"} & {*given, *flags}:
        return None
    if given.get("hydra/launcher", "process") != "process":
        return None
    from dlintro.sweep.plan import sweep_name

    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    named = given.get("sweep", "null") not in ("null", "")
    first = given["sweep"] if named else min(swept, default="jobs")
    name = given.get("sweep.name", "null")
    if not TABLE["sweep.name"].accepts(name):
        raise UsageError(f"sweep.name={name} is not allowed: use {TABLE['sweep.name'].legal()}")
    name = sweep_name(first, overrides) if name in ("null", "") else name
    return Path(outputs_folder(), "sweeps", name).absolute()


def remove_unstarted_sweep(folder: Path) -> None:
    """Removes the folder of a sweep that was refused before it had a sweep.json. Hydra had put a file there."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        folder.rmdir()


def remove_traces(folder: Path, output_subdir: str) -> None:
    """Removes what Hydra and we put into the folder of a run that never started. A resumed run keeps its own files."""
    started = (folder / "record.json").is_file()
    if started and output_subdir == ".hydra":  # it began after all: what it was is needed to repeat it
        return
    shutil.rmtree(folder / output_subdir, ignore_errors=True)
    if started:
        return
    (folder / "train.log").unlink(missing_ok=True)
    (folder / ".lock").unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
