"""Makes a small trained run, as scripts/train leaves it, for commands that use one."""

from pathlib import Path

import yaml

from dlintro.run.train import train
from tests.conftest import composed

SYNTHETIC = ("data=synthetic", "data.shape=[1,8,8]", "data.train_size=200")
MNIST = ("data=mnist", "data.train_size=2000")


def train_run(folder: Path, *overrides: str) -> Path:
    """Train FlatNet for two epochs on the CPU in `folder`, unless `overrides` change that."""
    settings = composed("model=flatnet", "trainer.max_epochs=2", "accelerator=cpu", "threads=1", *overrides)
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(settings.plain()))
    (folder / ".hydra" / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"cwd": str(folder.parent)}}}))
    train(settings, folder, "in a test")
    return folder
