"""Starts sweeps as a user does, in their own processes, and reads their files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMALL

TINY = (*SMALL, "model=flatnet", "trainer.max_epochs=1")
# Jobs that take as long as they are told to, in steps that a signal can end.
SLOW_NET = """
import time
from torch import nn

class Slow(nn.Module):
    def forward(self, x):
        if self.training:
            time.sleep({seconds})
        return x

def make_model(shape, k):
    channels, height, width = shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, k), Slow())
"""


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start `scripts/train` with these words; its output goes to pipes."""

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dlintro.commands.train", *words],
            cwd=tmp_path,
            env=os.environ | {"DLINTRO_OUTPUTS": str(tmp_path / "outputs")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def sweep_folder(tmp_path: Path) -> Path:
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    return folder


def records(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Return each job's record by the job's name."""
    return {
        path.parent.name: json.loads(path.read_text()) for path in sorted(sweep_folder(tmp_path).glob("*/record.json"))
    }


def log_of(tmp_path: Path, name: str) -> str:
    return (sweep_folder(tmp_path) / name / "train.log").read_text()
