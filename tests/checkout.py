"""Copies the checkout for a test to change, and runs the commands with that code."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
Command = Callable[..., subprocess.CompletedProcess[str]]


def copied(to: Path) -> Path:
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, to / part, ignore=shutil.ignore_patterns("__pycache__"))
    return to


def command_of(project: Path, folder: Path) -> Command:
    """Run a command's module with these words in `folder`, in its own process."""

    def command(module: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", f"import sys; from dlintro.{module} import main; sys.exit(main())", *words],
            cwd=folder,
            env=os.environ | {"DLINTRO_OUTPUTS": str(folder), "PYTHONPATH": str(project / "src")},
            capture_output=True,
            text=True,
            timeout=280,
        )

    return command
