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
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.command import exit_status, heavy_imports
from dlintro.commands.replay import replay
from dlintro.errors import Interrupted, RunError, UsageError, disk_trouble
from dlintro.settings.conf import CONF, no_option
from dlintro.settings.fence import check_overrides, separate
from dlintro.settings.keys import MAY_CHANGE_ON_RESUME, TABLE, Settings
from dlintro.settings.limits import brief
from dlintro.settings.words import key_of, quoted, value_of
from dlintro.text import shown_path, tell, typed

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of `scripts/train` with these arguments."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: show_help() if {"--help", "-h"} & set(words) else start(words))


def show_help() -> int:
    from dlintro.settings.help import print_help

    try:
        print_help()
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def start(argv: Sequence[str]) -> int:
    flags, overrides = separate(argv)
    check_overrides(overrides)
    compose_and_run(*replay(overrides, flags))
    return 0


def compose_and_run(flags: list[str], overrides: list[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to stderr with a traceback
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.register_new_resolver(
        "random_hex", lambda digits: secrets.token_hex(digits)[:digits], use_cache=True, replace=True
    )
    given = {key_of(override): value_of(override) for override in overrides}
    check_new_folders(given)
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
        version.setbase("1.3")
        with unchecked_help():
            parser = get_args_parser()
        _run_hydra(parser.parse_args(), parser, task, config_path=str(CONF), config_name="train")
    except OverrideParseException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{error.override}: Hydra can't read it ({reason}); quote lists: 'KEY=[1,2]'") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(in_our_words(str(error))) from error
    finally:
        if sweep is not None:
            remove_unstarted_sweep(sweep)
    if errors:
        raise errors[0]


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
    if match := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'", said):
        word = match[1]
        key = TABLE.get(key_of(word))
        if key and key.kind == "float" and re.fullmatch(r"\d+,\d+", value_of(word)):
            word = f"{word}: 0.5 has a point"
        return f"{word}: several values are a sweep: scripts/train -m ...; a list: 'KEY=[1,2]'"
    if match := re.match(r"In '.*': Could not find '(\w+)/(.+?)'", said):
        return no_option(match[1], match[2])
    if (match := re.match(r"Could not override '(.+?)'", said)) and (key := TABLE.get(match[1])) and key.only:
        return f"{key.name}: it belongs to {key.group}={'|'.join(key.only)}"
    return said.split("Config search path:")[0]


def check_new_folders(given: Mapping[str, str]) -> None:
    """Before Hydra writes into them: what is there stays as it is."""
    keys = [] if given.get("resume", "null") not in ("null", "") else ["hydra.run.dir"]
    keys += ["hydra.sweep.dir"] if given.get("hydra/launcher", "process") != "process" else []
    for key in keys:
        folder = Path(given.get(key, ""))
        if "${" in given.get(key, ""):
            raise UsageError(f"{key}={folder}: type the folder's name; what Hydra would fill in isn't known before")
        if key in given and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{key}={folder}: not empty; name a new one (resume=RUN goes on with a run)")


def sweep_folder(flags: list[str], overrides: list[str], given: Mapping[str, str]) -> Path | None:
    """A sweep's folder, named by what the sweep is, so that the same command finds it again; None for a single run."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    named = given.get("sweep", "null") not in ("null", "")
    many = ("hydra.mode" in given and given["hydra.mode"] == "MULTIRUN") or {"-m", "--multirun"} & set(flags) or named
    if given.get("hydra.mode") == "RUN" or not many or {"hydra.sweep.dir", "--cfg", "-c"} & {*given, *flags}:
        return None
    if given.get("hydra/launcher", "process") != "process":
        return None
    from dlintro.sweep.plan import sweep_name

    parsed = OverridesParser.create().parse_overrides(overrides)
    swept = [override.get_key_element() for override in parsed if override.is_sweep_override()]
    first = given["sweep"] if named else min(swept, default="jobs")
    name = given.get("sweep.name", "null")
    if not TABLE["sweep.name"].accepts(name):
        raise UsageError(f"sweep.name={name}: a folder's name; legal: letters, digits, '_', '.' and '-'")
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
    try:
        settings = read(config, hydra_config.runtime.choices)
        if (settings.resume or settings.rerun) and settings.code and not typed_path:
            raise UsageError(
                "model.path: a file of code is never taken from a record; name it again, model.path=FILE.py"
            )
        if settings.resume:
            check_same_run(settings, folder)
        with heavy_imports():
            from dlintro.run.train import train

        train(settings, folder, command)
    except UsageError:
        remove_traces(folder, str(hydra_config.output_subdir))
        raise
    except BaseException as error:
        log.error("%s", error, exc_info=error)
        error.logged = True  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.filename is None and disk_trouble(error):
            error.filename = str(folder)
        # Where nothing is wrong with the run itself, it can go on.
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)) or disk_trouble(error)
        if stopped and (folder / "checkpoints" / "last.ckpt").is_file():
            path = f" model.path={config.model.path}" if "path" in config.model else ""
            tell(f"go on: {typed('train')} resume={shown_path(folder)}{path}")
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        record.release()
        if (folder / "record.json").is_file():
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
    except (TypeError, ValueError, RecursionError, OmegaConfBaseException) as error:
        raise RunError(f"{file}: damaged, no settings of a run") from error
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
