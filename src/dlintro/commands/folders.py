"""Checks and names the folders of new runs and sweeps before anything is trained.

Nothing that is there already is changed, and a command that is refused leaves nothing behind.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from dlintro.errors import UsageError
from dlintro.run.named import outputs_folder
from dlintro.settings.keys import TABLE


def is_multirun(flags: list[str], given: Mapping[str, str]) -> bool:
    """True if the command asks for a sweep."""
    mode = "MULTIRUN" if "--multirun" in flags else given.get("hydra.mode", "")
    return mode == "MULTIRUN" or (mode != "RUN" and given.get("sweep", "null") not in ("null", ""))


def check_new_folders(given: Mapping[str, str], one_run: bool) -> None:
    """UsageError if Hydra would write into a folder that holds something, or that can't be written."""
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
            raise UsageError(f"{key}={folder}: type the folder's whole name; Hydra fills in ${{...}} only later")
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
    """OSError or ValueError if no folder of that name can be made and written to. It leaves nothing behind."""
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
    """The folder of a sweep, or None for a single run. Its name is a hash of the command's words, so that the same
    command finds it again."""
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
    """Removes the folder of a sweep that was refused before it had a sweep.json. Only Hydra has put a file there."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        folder.rmdir()


def remove_traces(folder: Path, output_subdir: str) -> None:
    """Removes what Hydra and dlintro wrote into the folder of a run that never started. A resumed run keeps its own."""
    started = (folder / "record.json").is_file()
    if started and output_subdir == ".hydra":  # it began after all, and rerun= needs these files
        return
    shutil.rmtree(folder / output_subdir, ignore_errors=True)
    if started:
        return
    (folder / "train.log").unlink(missing_ok=True)
    (folder / ".lock").unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
