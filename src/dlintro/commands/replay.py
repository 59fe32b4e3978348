"""Turns `resume=RUN` and `rerun=RUN` into the overrides of that run.

Its folder may come from a stranger, so all that it says is checked like words that are typed.
"""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dlintro.errors import RunError, UsageError
from dlintro.reader import read_yaml
from dlintro.run.record import read_record, settings_file
from dlintro.settings.fence import check_overrides
from dlintro.settings.keys import CODE, FILES, MAY_CHANGE_IN_SWEEP, MAY_CHANGE_ON_RESUME, TABLE
from dlintro.settings.words import key_of, quoted, value_of
from dlintro.sweep.plan import read_plan


def replay(overrides: list[str], flags: list[str]) -> tuple[list[str], list[str]]:
    """The flags and overrides of the run or sweep that `resume=RUN` or `rerun=RUN` names. Overrides that are given now
    replace its own. RUN is a path here; `named.with_paths` has looked it up."""
    given = {key_of(override): override for override in overrides}
    named = [key for key in ("resume", "rerun") if value_of(given.get(key, "")) not in ("null", "")]
    if not named:
        return flags, overrides
    given = {key: word for key, word in given.items() if key in named or key not in ("resume", "rerun")}
    overrides = [word for word in overrides if key_of(word) in given]
    old = given[named[0]]
    if len(named) > 1:
        raise UsageError("resume=RUN goes on with a run and rerun=RUN repeats it; type one of them")

    folder = Path(os.path.realpath(Path(value_of(old)).expanduser()))  # resolve() raises where links lead in a circle
    if not folder.is_dir():
        raise UsageError(f"{old}: there is no such folder")
    if "resume" in given:
        refuse_traps(folder)
    if os.path.lexists(folder / "sweep.json"):
        return replay_sweep(folder, given, [flag for flag in flags if flag != "--multirun"])
    if "--multirun" in flags:
        raise UsageError(f"{old}: this is one run; leave out -m")
    record = read_record(folder)
    if "resume" in given and record.get("status") == "ok":
        refuse_finished(folder, record, longer=any(key in given for key in MAY_CHANGE_ON_RESUME))
    stored = stored_overrides(folder)
    dropped = {*given, "resume", "rerun", *CODE}  # a path to code is never taken from a record
    overrides = [override for override in stored if key_of(override) not in dropped] + overrides
    if "threads" not in given and isinstance(record.get("threads"), int):
        overrides.append(f"threads={record['threads']}")  # other thread counts round differently
    if any(key_of(override) == "sweep" for override in overrides):
        overrides.append("hydra.mode=RUN")  # this job of the sweep, not the whole of it
    if "resume" in given:
        number = 1 + sum(1 for _ in folder.glob(".hydra-resume-*"))
        overrides = [override for override in overrides if key_of(override) != "hydra.run.dir"]
        overrides += [f"hydra.run.dir={quoted(str(folder))}", f"hydra.output_subdir=.hydra-resume-{number}"]
    return flags, overrides


def refuse_finished(folder: Path, record: Mapping[str, Any], longer: bool, max_epochs: int | None = None) -> None:
    """Raise UsageError unless the finished run is to train `longer` and can. `max_epochs` is its new length, if that is
    known yet."""
    whose, repeated = f"resume={folder.name}: that run has finished", "rerun=RUN repeats it in a new folder"
    done, limit = record.get("epochs"), record.get("ended_by")
    schedule = record.get("schedule")
    if not longer and schedule not in (None, "none"):
        raise UsageError(
            f"{whose}, and optim.schedule={schedule} was planned for its length; model.weights={folder.name} without "
            f"resume starts another run from its weights; {repeated}"
        )
    if not longer:
        raise UsageError(f"{whose}; trainer.max_epochs=N, added to resume=RUN, trains it longer; {repeated}")
    if limit not in (None, "max_epochs"):
        what = "a callback" if limit == "callback" else f"trainer.{limit}"
        raise UsageError(f"{whose} by {what}, which more epochs don't change; {repeated}")
    if max_epochs is not None and done is not None and max_epochs <= done:
        raise UsageError(f"{whose} its {done} epochs; use a trainer.max_epochs above {done}; {repeated}")


def replay_sweep(folder: Path, given: dict[str, str], flags: list[str]) -> tuple[list[str], list[str]]:
    """`resume=SWEEP`: its command again, in its folder."""
    if "rerun" in given:
        raise UsageError(f"{given['rerun']}: this is a sweep; type its command again with sweep.name=NEW")
    if changed := sorted(key for key in given if key not in ("resume", *MAY_CHANGE_IN_SWEEP)):
        allowed = ", ".join(sorted(MAY_CHANGE_IN_SWEEP))
        raise UsageError(f"{given[changed[0]]}: this key can't change when a sweep is resumed; only {allowed} can")
    plan = read_plan(folder)
    assert plan is not None
    if len(plan["commands"]) > 1:
        said = "; ".join(shlex.join(["scripts/train", "-m", *words]) for words in plan["commands"])
        raise UsageError(f"resume={folder.name}: several commands made this sweep; type the one to go on with: {said}")
    (words,) = plan["commands"]
    check_overrides(words)
    if hostile := [word for word in words if key_of(word).startswith("hydra")]:
        raise RunError(f"{folder}/sweep.json: holds {hostile[0]}, which no sweep of ours writes")
    if code := [key for key in map(key_of, words) if key in CODE and key not in given]:
        raise UsageError(f"{code[0]}: a file of code is never taken from a record; name it again, {code[0]}=FILE.py")
    dropped = {*given, "resume"}
    kept = [word for word in words if key_of(word) not in dropped]
    if plan["cwd"] != str(Path.cwd()):  # else they are what they were, and the jobs stay the same
        kept = [absolute(word, plan["cwd"]) for word in kept]
    new = [override for key, override in given.items() if key != "resume"]
    return [*flags, "--multirun"], [*kept, *new, f"hydra.sweep.dir={quoted(str(folder))}"]


def refuse_traps(folder: Path) -> None:
    """UsageError if the folder holds a link that leads out of it, or a pipe. A run would write through the link, and
    wait at the pipe without end."""
    for path in folder.rglob("*"):
        if leads_away(path, folder):
            raise UsageError(f"resume={folder.name}: {path} is a link that leads out of the folder, where a run writes")
        if not (path.is_file() or path.is_dir() or path.is_symlink()):
            raise UsageError(f"resume={folder.name}: {path} is no ordinary file; remove it")


def leads_away(path: Path, folder: Path) -> bool:
    """Return whether the path is a link by which a stranger's run could make us write elsewhere."""
    return path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(folder)


def stored_overrides(folder: Path) -> list[str]:
    """The overrides of the run in `folder`, checked like typed ones. File names are made absolute. If the run was
    resumed for more epochs, it has their number."""
    words: Any = read_yaml(folder / ".hydra" / "overrides.yaml")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise RunError(f"{folder}/.hydra/overrides.yaml: damaged, not a list of overrides")
    check_overrides(words)
    if hostile := [word for word in words if key_of(word).startswith("hydra")]:  # Hydra never writes these there
        raise RunError(f"{folder}/.hydra/overrides.yaml: holds {hostile[0]}, which no run of ours writes")
    settings = read_yaml(folder / ".hydra" / "hydra.yaml")
    try:
        started_in = str(settings["hydra"]["runtime"]["cwd"])
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder}/.hydra/hydra.yaml: damaged, it doesn't say where the run was started") from error
    file = settings_file(folder, "overrides.yaml")
    last = read_yaml(file) if file.parent.name != ".hydra" else []
    if not isinstance(last, list) or not all(isinstance(word, str) for word in last):
        raise RunError(f"{file}: damaged, not a list of overrides")
    longer = [word for word in last if key_of(word) in MAY_CHANGE_ON_RESUME]
    check_overrides(longer)
    kept = [word for word in words if key_of(word) not in map(key_of, longer)]
    return [absolute(word, started_in) for word in (*kept, *longer)]


def absolute(word: str, started_in: str) -> str:
    """The override with an absolute file name, if it names a file. A relative name starts at the folder in which the
    run was started."""
    if key_of(word) not in FILES or value_of(word) in ("null", *TABLE[key_of(word)].words):
        return word
    return f"{key_of(word)}={quoted(os.path.join(started_in, value_of(word)))}"  # noqa: PTH118  # plain text, as typed
