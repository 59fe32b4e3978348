"""The command `scripts/train`: what may stand on the command line, Hydra around it, and the exit status.

0 all well; 1 something failed while running; 2 the command was wrong; 130 after Ctrl-C; 143 after SIGTERM.
torch is not imported before the keys and values are checked: a slip is answered in a fraction of a second.
"""

import argparse
import contextlib
import logging
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.command import exit_status, heavy_imports
from dlintro.commands.replay import replay
from dlintro.errors import Interrupted, RunError, UsageError, disk_trouble
from dlintro.settings.conf import CONF, no_option
from dlintro.settings.fence import HYDRA_KEYS, check_overrides, separate
from dlintro.settings.keys import MAY_CHANGE_ON_RESUME, TABLE, Settings
from dlintro.settings.limits import brief
from dlintro.settings.words import in_quotes, key_of, quoted, value_of
from dlintro.text import shown_path, tell, typed

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `scripts/train` with these arguments."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: start(words))


def start(argv: Sequence[str]) -> int:
    if {"--help", "-h"} & set(argv):
        from dlintro.settings.help import print_help

        print_help()
        return 0
    if "--version" in argv:
        tell(f"dlintro {version('dlintro')}")
        return 0
    with held_signals():
        flags, overrides = separate(argv)
        check_overrides(overrides, flags)
        compose_and_run(*replay(overrides, flags))
    return 0


def compose_and_run(flags: list[str], overrides: list[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to stderr with a traceback
    from hydra import version as hydra_version
    from hydra._internal.utils import _run_hydra, get_args_parser
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.register_new_resolver(
        "random_hex", lambda digits: secrets.token_hex(digits)[:digits], use_cache=True, replace=True
    )
    given = {key_of(override): value_of(override) for override in overrides}
    check_new_folders(given, one_run=not is_multirun(flags, given))
    command = shlex.join(["scripts/train", *sys.argv[1:]])

    errors: list[Exception] = []

    def task(config: "DictConfig") -> None:
        try:
            run_composed(config, command, typed_path="model.path" in given)
        except Exception as error:  # kept from Hydra, which would print it in its own way
            errors.append(error)

    sweep = None
    try:
        sweep = sweep_folder(flags, overrides, given)
        sys.argv[1:] = [*flags, *overrides, *([f"hydra.sweep.dir={quoted(str(sweep))}"] if sweep else [])]
        # These are hydra.main's own lines: it has no place where its parser alone could be built without the check.
        hydra_version.setbase("1.3")
        with unchecked_help():
            parser = get_args_parser()
        _run_hydra(parser.parse_args(), parser, task, config_path=str(CONF), config_name="train")
    except OverrideParseException as error:
        raise UsageError(unreadable(str(error.override), str(error).splitlines()[0])) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(in_our_words(str(error))) from error
    finally:
        if sweep is not None:
            remove_unstarted_sweep(sweep)
    if errors:
        raise errors[0]


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait a fraction of a second, until Hydra has made the run's folder: `run_composed` lets them
    go, which knows what to remove. As exceptions they would be lost within Hydra, or come out as others."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextlib.contextmanager
def unchecked_help() -> Iterator[None]:
    """Python 3.14 checks each help text when it is added to a parser, and Hydra 1.3 adds one that is not a string
    (facebookresearch/hydra#3121). test_hydras_parser_cant_be_built_with_the_check says when this can go."""
    check = getattr(argparse.ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return
    setattr(argparse.ArgumentParser, "_check_help", lambda parser, action: None)  # noqa: B010  # mypy's Python has none
    try:
        yield
    finally:
        setattr(argparse.ArgumentParser, "_check_help", check)  # noqa: B010


def in_our_words(said: str) -> str:
    """Hydra's answer to a slip, with what to type here."""
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'", said, re.DOTALL):
        word = match[1]
        key = TABLE.get(key_of(word))
        if key and key.kind == "text":
            return f"{word}: a name with a comma needs two pairs of quotes, {in_quotes(word)}"
        if key and key.kind == "float" and re.fullmatch(r"\d+,\d+", value_of(word)):
            word = f"{word}: 0.5 has a point"
        return f"{word}: several values are a sweep, scripts/train -m ...; a list is typed 'KEY=[1,2]'"
    if match := re.match(r"In '.*': Could not find '(\w+)/(.+?)'", said):
        return no_option(match[1], match[2])
    if (match := re.match(r"Could not override '(.+?)'", said)) and (key := TABLE.get(match[1])) and key.only:
        return f"{key.name}: this key belongs to {key.group}={' or '.join(key.only)}"
    if (match := re.match(r"Error merging override (\S+)", said)) and (key := TABLE.get(key_of(match[1]))):
        return f"{match[1]} is not allowed: use {key.legal()}"
    return said.split("Config search path:")[0]


def unreadable(word: str, reason: str) -> str:
    """The answer to a word that Hydra's grammar doesn't take."""
    name, key = key_of(word), TABLE.get(key_of(word))
    if name in HYDRA_KEYS or (key and key.kind == "text"):
        whole = os.path.expanduser(value_of(word))  # noqa: PTH111  # the shell leaves ~ as it is behind KEY=
        return f"{word}: a name with such a sign needs two pairs of quotes, {in_quotes(f'{name}={whole}')}"
    hint = f"use {key.legal()}" if key and not key.kind.endswith("list") else f"quote lists, '{name}=[1,2]'"
    return f"{word}: Hydra can't read it ({reason}); {hint}"


def is_multirun(flags: list[str], given: Mapping[str, str]) -> bool:
    """Whether the command asks for a sweep."""
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
    return Path(os.environ.get("DLINTRO_OUTPUTS") or "outputs", "sweeps", name).absolute()


def remove_unstarted_sweep(folder: Path) -> None:
    """The folder of a sweep that was refused before it had a sweep.json, in which Hydra had put a file."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
        (folder / "multirun.yaml").unlink()
        folder.rmdir()


def run_composed(config: "DictConfig", command: str, typed_path: bool) -> None:
    """One composed configuration: checked, then trained. A folder in which nothing ran is removed."""
    from hydra.core.hydra_config import HydraConfig

    from dlintro.run.record import Record
    from dlintro.settings.compose import read

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir).resolve()
    record = Record(folder)
    if not record.claim():  # before anything in the folder is looked at: it may be about to change
        if hydra_config.output_subdir != ".hydra":
            shutil.rmtree(folder / str(hydra_config.output_subdir), ignore_errors=True)
        raise UsageError(f"{folder}: another process is running this run")
    handler = log_to(folder / "train.log")
    begun = folder / "record.json"
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        settings = read(config, hydra_config.runtime.choices)
        if (settings.resume or settings.rerun) and settings.code and not typed_path:
            raise UsageError(
                "model.path: a file of code is never taken from a record; name it again, model.path=FILE.py"
            )
        if settings.resume:
            check_same_run(settings, folder)
        with heavy_imports(lambda: remove_traces(folder, str(hydra_config.output_subdir))):
            from dlintro.run.train import train

        train(settings, folder, command)
    except UsageError:
        remove_traces(folder, str(hydra_config.output_subdir))
        raise
    except BaseException as error:
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit))
        if stopped and not begun.is_file():
            remove_traces(folder, str(hydra_config.output_subdir))
            raise
        log.error("%s", error, exc_info=error)
        error.logged = True  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.filename is None and disk_trouble(error):
            error.filename = str(folder)
        # Where nothing is wrong with the run itself, it can go on.
        if (stopped or disk_trouble(error)) and (folder / "checkpoints" / "last.ckpt").is_file():
            path = f" model.path={config.model.path}" if "path" in config.model else ""
            tell(f"go on: {typed('train')} resume={shown_path(folder)}{path}")
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        record.release()
        if begun.is_file():
            tell(f"run: {shown_path(folder)}")


def check_same_run(settings: Settings, folder: Path) -> None:
    """UsageError with the differences where a resumed run would not be the run that was interrupted."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from dlintro.run.record import read_record, read_yaml
    from dlintro.settings.identity import changes

    if read_record(folder).get("status") == "ok":  # by now; it may have been at work when the command was read
        raise UsageError(f"resume={folder.name}: that run has finished; rerun=RUN repeats it in a new folder")
    file = folder / ".hydra" / "config.yaml"
    try:
        stored: Any = OmegaConf.to_container(OmegaConf.create(dict(read_yaml(file))), resolve=True)
    except (RunError, TypeError, ValueError, RecursionError, OmegaConfBaseException) as error:
        raise UsageError(
            f"resume={folder.name}: {file} is missing or damaged, so nothing says that this command's run is the same; "
            f"rerun={folder.name} starts it again in a new folder"
        ) from error
    allowed = () if settings.optim.has_length else MAY_CHANGE_ON_RESUME
    changed = {key: pair for key, pair in changes(stored, settings.plain()).items() if key not in allowed}
    if changed:
        diff = "; ".join(f"{key}: {brief(old)} -> {brief(new)}" for key, (old, new) in changed.items())
        raise UsageError(f"resume={folder.name}: not the same run ({diff}); start it without resume")


def remove_traces(folder: Path, output_subdir: str) -> None:
    """What Hydra and we put into the folder of a run that never started. A resumed run keeps its own files."""
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


def log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler


if __name__ == "__main__":
    sys.exit(main())
