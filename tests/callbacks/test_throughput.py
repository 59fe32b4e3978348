"""Training time includes training steps only."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run_folder import curve, record

Run = Callable[..., Path]
TRAINING, VALIDATION, READING = 0.02, 1.0, 0.12  # seconds that a batch takes
# Validation has one batch of 37 images; the noise scale is read on three batches of 64.
SLEEPY = f"""
import time
from torch import nn

class Sleepy(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.linear = nn.Linear(64, k)

    def forward(self, x):
        time.sleep({TRAINING} if self.training else {{37: {VALIDATION}, 64: {READING}}}.get(len(x), 0))
        return self.linear(x.flatten(1))

def make_model(shape, k):
    return Sleepy(k)
"""


@pytest.mark.usefixtures("no_pictures")
def test_the_clock_of_the_training_stands_still_during_evaluations(run: Run, tmp_path: Path) -> None:
    """Train two epochs of two steps, with an evaluation after each and the noise scale."""
    (tmp_path / "sleepy.py").write_text(SLEEPY)
    folder = run(
        "data=synthetic", "data.shape=[1,8,8]", "data.train_size=200", "data.val_size=37", "data.batch_size=100",
        "accelerator=cpu", "threads=1", "model=file", f"model.path={tmp_path}/sleepy.py", "optim.name=sgd",
        "trainer.eval_images=100",
    )  # fmt: skip
    found, rates = record(folder), curve(folder, "train/images_per_second")
    seconds, train_seconds = curve(folder, "seconds"), curve(folder, "train_seconds")
    assert len(curve(folder, "val/acc")) == len(rates) == 4
    assert found["noise_scale/trace"] is not None
    assert seconds[-1] - seconds[0] > 3 * VALIDATION
    assert train_seconds == sorted(train_seconds) and train_seconds[-1] >= 4 * TRAINING
    taken = [100 / rate for rate in rates]  # the first step may include work that a process does once
    assert min(taken) >= TRAINING and max(taken[1:]) < VALIDATION and sum(taken[1:]) < VALIDATION
    assert found["train/images_per_second"] == pytest.approx(400 / train_seconds[-1], rel=0.01)
    assert sum(taken) == pytest.approx(train_seconds[-1], abs=0.002)
