"""The command `scripts/train`: what may stand on the command line, Hydra around it, and the exit status.

0 all well; 1 something failed while running; 2 the command was wrong; 130 after Ctrl-C; 143 after SIGTERM.
torch is not imported before the keys and values are checked: a slip is answered in a fraction of a second.
"""

import logging
import os
import secrets
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dlintro import limits
from dlintro.accelerators import wrong_name
from dlintro.command import exit_status, shown_path, value_of
from dlintro.errors import RunError, UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

REFUSED_FLAGS = ("--experimental-rerun", "--config-path", "-cp", "--config-name", "-cn")
# Hydra builds what hydra.* names before our code runs, so only these may be given.
HYDRA_KEYS = ("hydra.mode", "hydra.verbose", "hydra.run.dir", "hydra.sweep.dir", "hydra/launcher")
MAY_CHANGE_ON_RESUME = ("trainer.max_epochs", "checkpoint.every_steps", "checkpoint.every_minutes")


def train() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """The exit status of `scripts/train` with these arguments."""
    if "--help" in argv or "-h" in argv:
        try:
            limits.print_help()
            sys.stdout.flush()
        except BrokenPipeError:  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return exit_status(lambda: start(argv))


def start(argv: list[str]) -> int:
    flags, overrides = separate(argv)
    check_overrides(overrides)
    compose_and_run(flags, replay(overrides))
    return 0


def separate(argv: list[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags (with the folder of --config-dir), and the overrides."""
    flags, overrides = [], []
    rest = iter(argv)
    for word in rest:
        if word.split("=")[0] in REFUSED_FLAGS:
            raise UsageError(f"{word}: not taken here; --config-dir DIR adds a folder of your own config files")
        if word in ("--config-dir", "-cd", "--cfg", "-c", "--package", "-p", "--info", "-i"):
            flags += [word, next(rest, "")]
        elif word.startswith("-"):
            flags.append(word)
        else:
            overrides.append(word)
    return flags, overrides


def check_overrides(overrides: list[str]) -> None:
    """UsageError for words on the command line that can't be right, before anything is composed."""
    for override in overrides:
        key, equals, value = override.lstrip("+~").partition("=")
        key = key.split("@")[0].strip()
        if not equals and not override.startswith("~"):
            raise UsageError(f"{override}: arguments have the form KEY=VALUE; scripts/train --help lists the keys")
        if "_target_" in key or "_target_" in value:
            raise UsageError(f"{override}: a _target_ is not taken from the command line; your own network: model=file")
        if key.startswith("hydra"):
            if key not in HYDRA_KEYS:
                raise UsageError(f"{override}: of Hydra's own settings only {', '.join(HYDRA_KEYS)} are taken")
        elif key == "accelerator":
            for name in value.split(","):
                if (message := wrong_name(name.strip())) is not None:
                    raise UsageError(message)
        elif key not in limits.GROUPS and key not in limits.TABLE:
            raise UsageError(limits.unknown(key))


def replay(overrides: list[str]) -> list[str]:
    """`resume=RUN` and `rerun=RUN` become the overrides of that run, with those given now in place of the old ones."""
    given = {key_of(override): override for override in overrides}
    old = given.get("resume") or given.get("rerun")
    if old is None or value_of(old) in ("null", ""):
        return overrides
    if "resume" in given and "rerun" in given:
        raise UsageError("resume=RUN goes on with a run, rerun=RUN repeats it: give one of them")
    import yaml

    from dlintro.record import read_record

    folder = Path(value_of(old)).expanduser().resolve()
    record = read_record(folder)
    if "resume" in given and record.get("status") == "ok":
        raise UsageError(f"resume={folder.name}: that run has finished; rerun=RUN repeats it in a new folder")
    try:
        stored = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
        stored = [str(override) for override in stored]
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise RunError(f"{folder}/.hydra/overrides.yaml: missing or damaged") from error
    check_overrides(stored)  # a run folder may come from somebody else
    dropped = {*given, "resume", "rerun", "model.path"}  # a path to code is never taken from a record
    overrides = [override for override in stored if key_of(override) not in dropped] + overrides
    if "threads" not in given and record.get("threads"):
        overrides.append(f"threads={int(record['threads'])}")  # other thread counts round differently
    if "resume" in given:
        number = 1 + sum(1 for _ in folder.glob(".hydra-resume-*"))
        overrides = [override for override in overrides if key_of(override) != "hydra.run.dir"]
        overrides += [f"hydra.run.dir={quoted(str(folder))}", f"hydra.output_subdir=.hydra-resume-{number}"]
    return overrides


def key_of(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split("@")[0]


def quoted(text: str) -> str:
    """As one quoted value of Hydra's override grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def compose_and_run(flags: list[str], overrides: list[str]) -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us, not to stderr with a traceback
    import hydra
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    OmegaConf.register_new_resolver(
        "random_hex", lambda digits: secrets.token_hex(digits)[:digits], use_cache=True, replace=True
    )
    given = {key_of(override): value_of(override) for override in overrides}
    folder = Path(given.get("hydra.run.dir", ""))
    if "hydra.run.dir" in given and "resume" not in given and (folder / "record.json").exists():
        raise UsageError(f"hydra.run.dir={folder}: there is a run in this folder; resume=RUN goes on with it")
    command = shlex.join(["scripts/train", *sys.argv[1:]])

    errors: list[Exception] = []

    @hydra.main(config_path=str(limits.CONF), config_name="train", version_base="1.3")
    def task(config: "DictConfig") -> None:
        try:
            run_composed(config, command)
        except Exception as error:  # kept from Hydra, which would print it in its own way
            errors.append(error)

    sys.argv[1:] = [*flags, *overrides]
    try:
        task()
    except OverrideParseException as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{error.override}: Hydra can't read it ({reason}); quote lists: 'KEY=[1,2]'") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(str(error).split("Config search path:")[0]) from error
    if errors:
        raise errors[0]


def run_composed(config: "DictConfig", command: str) -> None:
    """One composed configuration: checked, then trained. A folder in which nothing ran is removed."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra_config = HydraConfig.get()
    folder, choices = Path(hydra_config.runtime.output_dir).resolve(), dict(hydra_config.runtime.choices)
    handler = log_to(folder / "train.log")
    try:
        settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
        limits.check(settings, choices)
        if settings["resume"]:
            check_same_run(settings, folder)
        from dlintro.train import train

        train(settings, choices, folder, command)
    except UsageError:
        remove_traces(folder)
        raise
    except BaseException as error:
        log.error("%s", error, exc_info=error)
        error.logged = True  # type: ignore[attr-defined]
        if (folder / "checkpoints" / "last.ckpt").is_file():
            print(f"go on: scripts/train resume={shown_path(folder)}", flush=True)
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
        if (folder / "record.json").is_file():
            print(f"run: {shown_path(folder)}", flush=True)


def check_same_run(settings: dict[str, Any], folder: Path) -> None:
    """UsageError with the differences where a resumed run would not be the run that was interrupted."""
    from omegaconf import OmegaConf

    from dlintro.record import hashed_leaves

    stored: Any = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"), resolve=True)
    old, new = hashed_leaves(stored), hashed_leaves(settings)
    allowed = set(MAY_CHANGE_ON_RESUME)
    if settings["optim"]["schedule"] in ("cosine", "onecycle"):
        allowed.remove("trainer.max_epochs")  # the schedule's length is in the checkpoint
    changed = [key for key in old.keys() | new.keys() if old.get(key) != new.get(key) and key not in allowed]
    if changed:
        diff = "; ".join(
            f"{key}: {limits.shown(old.get(key))} -> {limits.shown(new.get(key))}" for key in sorted(changed)
        )
        raise UsageError(f"resume={folder.name}: not the same run ({diff}); start it without resume")


def remove_traces(folder: Path) -> None:
    """What Hydra and we put into the folder of a run that never started; a run that is resumed keeps its own."""
    if (folder / "record.json").is_file():
        return
    shutil.rmtree(folder / ".hydra", ignore_errors=True)
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
    train()
