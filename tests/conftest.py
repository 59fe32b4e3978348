"""What several tests need: a composed configuration, a run in this process, and the command as a user types it."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from dlintro import limits
from dlintro.train import train

# Random images with a trace of their label: learnt in a few steps, made in milliseconds.
SMALL = (
    "data=synthetic",
    "data.shape=[1,8,8]",
    "data.train_size=200",
    "data.batch_size=32",
    "accelerator=cpu",
    "threads=1",
)

Settings = tuple[dict[str, Any], dict[str, str]]


def composed(*overrides: str) -> Settings:
    """The configuration and the chosen options, as `scripts/train` composes them from these overrides."""
    OmegaConf.register_new_resolver("random_hex", lambda digits: "0" * digits, replace=True)
    with initialize_config_dir(str(limits.CONF), version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    HydraConfig.instance().cfg = None
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return OmegaConf.to_container(config, resolve=True), choices


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Trains in this process what the overrides say; returns the run folder."""
    count = iter(range(1000))

    def run(*overrides: str, folder: Path | None = None) -> Path:
        settings, choices = composed(*overrides)
        limits.check(settings, choices)
        folder = folder or tmp_path / f"run{next(count)}"
        folder.mkdir(exist_ok=True)
        train(settings, choices, folder, "in a test")
        return folder

    return run


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`scripts/train` in a process of its own, in an empty folder."""

    def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dlintro.entry", *words],
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
    """Runs without the last pictures, which take longer than a small run."""
    monkeypatch.setattr("dlintro.train.draw", lambda *arguments: None)
