"""Reads a run folder's record, curves and checkpoints, and makes a network whose accuracy is known."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dlintro.data import ImageDataModule


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "record.json").read_text())


def curve(folder: Path, metric: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row[metric]) for row in csv.DictReader(file) if row[metric]]


def checkpoint(folder: Path, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)


def synthetic(*shape: int, **settings: Any) -> ImageDataModule:
    """Return the images of a run with data=synthetic."""
    data = ImageDataModule("synthetic", shape=shape, **settings)
    data.prepare_data()
    data.setup()
    return data


# Synthetic images of 400 pixels, of which the 40 of a class's own stretch are bright: the class is that of the
# brightest stretch, for all but a few images. After epoch e the network says it for the classes below LEVELS[e], and
# the next class for the others. So its accuracy grows with the level, whatever is trained.
SCRIPTED = """
import torch
from torch import nn

LEVELS = {levels}
STEPS = 7  # in an epoch

class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.trained = nn.Linear(400, 10)

    def forward(self, x):
        if self.training:
            self.steps += 1
        level = LEVELS[max(0, int(self.steps) - 1) // STEPS]
        brightest = x.reshape(-1, 10, 40).mean(2).argmax(1)
        said = torch.where(brightest < level, brightest, (brightest + 1) % 10)
        return 100.0 * nn.functional.one_hot(said, 10) + self.trained(x.flatten(1))

def make_model(shape, k):
    return Scripted()
"""
SCRIPTED_WORDS = ("data=synthetic", "data.shape=[1,20,20]", "data.train_size=200", "data.batch_size=32",
                  "accelerator=cpu", "threads=1", "model=file", "optim.lr=0.001")  # fmt: skip


def scripted(folder: Path, levels: Sequence[int]) -> tuple[str, ...]:
    """Return what to type for a run whose accuracy after epoch e is that of levels[e]."""
    (folder / "scripted.py").write_text(SCRIPTED.format(levels=list(levels)))
    return (*SCRIPTED_WORDS, f"model.path={folder}/scripted.py", f"trainer.max_epochs={len(levels)}")


def scripted_accuracy(images_NCHW: torch.Tensor, labels_N: torch.Tensor, level: int) -> float:
    """Return the share of images that the scripted network classifies right at this level."""
    brightest_N = images_NCHW.double().reshape(-1, 10, 40).mean(2).argmax(1)
    said_N = torch.where(brightest_N < level, brightest_N, (brightest_N + 1) % 10)
    return int((said_N == labels_N).sum()) / len(labels_N)
