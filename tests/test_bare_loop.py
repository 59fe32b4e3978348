import csv
from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest

from dlintro.bare_loop import train
from dlintro.data import ImageDataModule
from dlintro.models import Classifier, FlatNet, MnistCNN
from tests.conftest import SMALL


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    ("model", "overrides"), [(FlatNet, ("model=flatnet",)), (MnistCNN, ("model=mnist_cnn", "model.widths=[4,8,16]"))]
)
def test_the_bare_loop_has_the_trainers_loss_curve(
    run: Callable[..., Path], model: type[Classifier], overrides: tuple[str, ...], precision: str
) -> None:
    overrides = (*overrides, "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "optim.lr=0.003")
    folder = run(*SMALL, *overrides, f"trainer.precision={precision}")
    with (folder / "metrics.csv").open() as file:
        trainers = [float(row["train/loss_step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
    L.seed_everything(0, verbose=False)
    data = ImageDataModule("synthetic", batch_size=32, shape=[1, 8, 8], train_size=200)
    arguments = {"widths": [4, 8, 16]} if model is MnistCNN else {}
    network = model(data.image_shape, data.num_classes, optim={"lr": 0.003, "schedule": "onecycle"}, **arguments)
    losses = list(train(network, data, epochs=2, device="cpu", precision=precision))
    assert losses == pytest.approx(trainers, abs=1e-6)
    assert len(trainers) == 14
