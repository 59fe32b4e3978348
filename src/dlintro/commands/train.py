"""The command `scripts/train`: starts a run or a sweep from its arguments.

The exit status is 0 for success, 1 if something failed while running, 2 for a wrong command, 130 after Ctrl-C and 143
after SIGTERM. torch is imported only after keys and values are checked, so a mistake is reported within a second.
"""

import contextlib
import logging
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.command import exit_status, heavy_imports
from dlintro.commands.folders import check_new_folders, is_multirun, remove_traces, remove_unstarted_sweep, sweep_folder
from dlintro.commands.hydra_call import call_hydra, hydra_errors_as_usage_errors
from dlintro.commands.replay import refuse_finished, replay
from dlintro.errors import Interrupted, RunError, UsageError, disk_trouble
from dlintro.run.named import with_paths
from dlintro.settings.compose import read, with_typed_length
from dlintro.settings.fence import check_overrides, separate
from dlintro.settings.keys import MAY_CHANGE_ON_RESUME, Settings
from dlintro.settings.limits import brief
from dlintro.settings.words import key_of, quoted, value_of
from dlintro.text import shown_path, tell, typed
from dlintro.version import VERSION

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

MOST_REFERENCES = 10  # ${...} in a received configuration: a few dozen can make a text that exceeds the memory
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `scripts/train` with these arguments and return the exit status."""
    words = sys.argv[1:] if argv is None else argv
    return exit_status(lambda: start(words))


def start(argv: Sequence[str]) -> int:
    if {"--help", "-h"} & set(argv):
        from dlintro.settings.help import print_help

        print_help()
        return 0
    if "--version" in argv:
        tell(f"dlintro {VERSION}")
        return 0
    if not os.environ.get("DLINTRO_OUTPUTS"):  # conf/ would take an empty one for the root of the disk
        os.environ.pop("DLINTRO_OUTPUTS", None)
    flags, overrides = separate(argv)
    check_overrides(overrides, flags)
    overrides = with_paths(overrides)
    command = shlex.join(["scripts/train", *flags, *overrides])
    flags, combined = replay(overrides, flags)
    compose_and_run(flags, with_typed_length(combined, overrides), command)
    return 0


def compose_and_run(flags: list[str], overrides: list[str], command: str) -> None:
    given = {key_of(override): value_of(override) for override in overrides}
    one_run = not is_multirun(flags, given)
    check_new_folders(given, one_run)
    errors: list[Exception] = []

    def task(config: "DictConfig") -> None:
        try:
            run_composed(config, command, typed_path="model.path" in given)
        except Exception as error:  # hidden from Hydra, which would print it in its own way
            errors.append(error)

    with hydra_errors_as_usage_errors():
        sweep = sweep_folder(flags, overrides, given)
    try:
        with held_signals() if one_run else contextlib.nullcontext():
            call_hydra([*flags, *overrides, *([f"hydra.sweep.dir={quoted(str(sweep))}"] if sweep else [])], task)
    finally:
        if sweep is not None:
            remove_unstarted_sweep(sweep)
    if errors:
        raise errors[0]


@contextlib.contextmanager
def held_signals() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM for a fraction of a second, until Hydra has made the run's folder. `run_composed` then
    lets them through and knows what to remove. Inside Hydra, their exceptions would be lost or replaced by others."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def run_composed(config: "DictConfig", command: str, typed_path: bool) -> None:
    """Check one composed configuration and train it. Remove the folder if nothing ran in it."""
    from hydra.core.hydra_config import HydraConfig

    from dlintro.run.record import Record

    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir).resolve()
    record = Record(folder)
    if not record.claim():  # before the folder is read, as another process may be changing it
        if hydra_config.output_subdir != ".hydra":
            shutil.rmtree(folder / str(hydra_config.output_subdir), ignore_errors=True)
        raise UsageError(f"{folder}: another process is working on this run; wait for it to end")
    handler = log_to(folder / "train.log")
    begun = folder / "record.json"
    before = identity(begun)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        settings = read(config, hydra_config.runtime.choices)
        if (settings.resume or settings.rerun) and settings.code and not typed_path:
            raise UsageError(
                "model.path: a file of code is never taken from a record; type it again, model.path=FILE.py"
            )
        if settings.resume:
            check_same_run(settings, folder, hydra_config.output_subdir)
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
        if before is not None and before == identity(begun):  # it could not resume and is unchanged
            remove_traces(folder, str(hydra_config.output_subdir))
        error.logged = True  # type: ignore[attr-defined]
        if isinstance(error, OSError) and error.filename is None and disk_trouble(error):
            error.filename = str(folder)
        # A run that was stopped, or whose disk failed, can be resumed.
        if (stopped or disk_trouble(error)) and (folder / "checkpoints" / "last.ckpt").is_file():
            path = f" model.path={config.model.path}" if "path" in config.model else ""
            tell(f"continue: {typed('train')} resume={shown_path(folder)}{path}")
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        record.release()
        if begun.is_file():
            tell(f"run: {shown_path(folder)}")


def identity(path: Path) -> tuple[int, int] | None:
    """Identify the file that is there now. An inode number may be used again, but not with the same time."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def check_same_run(settings: Settings, folder: Path, subdir: str | None = None) -> None:
    """Raise UsageError, with the differences, if the resumed run would not be the one that began in `folder`. Hydra has
    written the new settings into the subfolder `subdir` already."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from dlintro.reader import read_yaml
    from dlintro.run.record import read_record, settings_file
    from dlintro.settings.identity import changes

    record = read_record(folder)
    file = settings_file(folder, but=subdir)
    try:
        content = dict(read_yaml(file))
        if str(content).count("${") > MOST_REFERENCES:
            raise ValueError("it refers to itself too often")
        stored: Any = OmegaConf.to_container(OmegaConf.create(content), resolve=True)
    except (RunError, TypeError, ValueError, RecursionError, OmegaConfBaseException) as error:
        raise UsageError(
            f"resume={folder.name}: {file} is missing or damaged, so the run's settings aren't known; "
            f"rerun={folder.name} starts it again in a new folder"
        ) from error
    changed = changes(stored, settings.plain())
    longer = {key: changed.pop(key) for key in MAY_CHANGE_ON_RESUME if key in changed}
    if longer and settings.optim.has_length:
        [(key, (planned, asked))] = longer.items()
        schedule = settings.optim.schedule
        raise UsageError(
            f"resume={folder.name}: {key}: {brief(planned)} -> {brief(asked)} can't be, as "
            f"{'optim.warmup' if schedule == 'none' else f'optim.schedule={schedule}'} was planned for the old length; "
            f"model.weights={folder.name} without resume starts another run from its weights"
        )
    if record.get("status") == "ok":  # it may have finished since the command was read
        refuse_finished(folder, record, bool(longer), settings.trainer.max_epochs)
    if changed:
        diff = "; ".join(f"{key}: {brief(old)} -> {brief(new)}" for key, (old, new) in changed.items())
        raise UsageError(
            f"resume={folder.name}: the settings differ from the run's ({diff}); leave them out to resume it, or leave "
            f"resume out to start another run"
        )


def log_to(path: Path) -> logging.Handler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    return handler


if __name__ == "__main__":
    sys.exit(main())
