"""The commands of the READMEs, each up to the point where its work begins: `python -m tests.readme_commands`.

Reads a JSON list of commands on standard input, runs them in this folder, and prints {command: complaint}; an empty
complaint means that the command is right. A command checks its words before it imports what is heavy, so the work
begins with the first heavy import. A sweep begins with its launch: its first and last combination are composed, not all,
which would take a minute for all the sweeps that are shown.
"""

import contextlib
import importlib
import io
import json
import shlex
import sys
import tomllib
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lightning", "matplotlib", "tensorboard")


class WorkBegins(BaseException):
    pass


class Guard(MetaPathFinder):
    """Refuses the heavy imports."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in HEAVY:
            raise WorkBegins


def launch(loader: Any, config: Any, job_overrides: Sequence[list[str]]) -> None:
    """Composes two combinations of a sweep as `dlintro.sweep.launch.launch` composes all."""
    from dlintro.sweep.launch import compose
    from dlintro.sweep.plan import make_jobs

    make_jobs([compose(loader, config, words) for words in (job_overrides[0], job_overrides[-1])])
    raise WorkBegins


def complaint(command: str) -> str:
    name, *words = shlex.split(command)
    script = ROOT / name
    if not script.is_file():
        return f"there is no {name}"
    if script.name == "test":
        return complaint_about_test(words)
    target = console_scripts().get(f"dlintro-{script.name}")
    if target is None:  # a shell script alone: its first word may be a run
        return "" if not words or words[0].startswith("-") or Path(words[0]).is_dir() else f"no folder {words[0]}"
    module, _, function = target.partition(":")
    sys.argv = [name, *words]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = getattr(importlib.import_module(module), function)()
    except WorkBegins:
        return ""
    except SystemExit as end:
        status = end.code
    return "" if status == 0 else said.getvalue() or f"exit status {status}"


def complaint_about_test(words: Sequence[str]) -> str:
    """scripts/test takes --slow, pytest's -k and paths."""
    values = [word for before, word in zip(words, words[1:], strict=False) if before == "-k"]
    wrong = [w for w in words if w not in ("--slow", "-k", *values) and not (ROOT / w).exists()]
    return f"not known to scripts/test: {' '.join(wrong)}" if wrong else ""


def console_scripts() -> dict[str, str]:
    found: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    return found


def main() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    import dlintro.sweep.launch

    dlintro.sweep.launch.launch = launch  # type: ignore[assignment]
    BasicSweeper.validate_batch_is_composable = lambda self, batch: None  # type: ignore[method-assign]
    sys.meta_path.insert(0, Guard())
    print(json.dumps({command: complaint(command) for command in json.load(sys.stdin)}))


if __name__ == "__main__":
    main()
