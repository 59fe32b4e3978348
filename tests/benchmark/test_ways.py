"""Tests that the compared ways train the same, and that their clocks are right."""

import time
from typing import Any

import pytest
import torch

from dlintro.accelerators import resolve
from dlintro.benchmark import ways
from dlintro.benchmark.usual import PerImage
from dlintro.benchmark.ways import WAYS, Case, prepared, training_speed
from dlintro.data import ImageDataModule
from dlintro.models import Classifier
from dlintro.settings.compose import compose

TINY = Case("mnist_cnn", "mnist", 32, "32-true", steps=8, warmup=2, test_images=100)


@pytest.mark.parametrize("way", WAYS)
def test_each_way_trains_the_steps_of_the_case_and_gives_finite_speeds(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Classifier] = []

    def remembered(*arguments: Any) -> Any:
        found = prepared(*arguments)
        seen.append(found.model)
        return found

    monkeypatch.setattr(ways, "prepared", remembered)
    before = time.perf_counter()
    speed = WAYS[way](TINY, resolve("cpu", "auto"))
    whole = time.perf_counter() - before
    counted = (TINY.steps - TINY.warmup if way != "usual" else 3) * TINY.batch_size
    assert counted / whole < speed.training < 1e7
    assert 100 / whole < speed.inference < 1e7
    (model,) = seen
    assert not torch.equal(
        next(model.network.parameters()), next(prepared(TINY, resolve("cpu", "auto")).model.network.parameters())
    )


def test_the_case_is_what_a_user_would_type() -> None:
    settings = compose(TINY.words)
    assert (settings.choices.model, settings.choices.data) == ("mnist_cnn", "mnist")
    assert settings.data["batch_size"] == 32 and settings.data["train_size"] == 256
    assert settings.trainer.precision == "32-true"


def test_the_speed_leaves_the_warmup_out() -> None:
    times = [10.0, 20.0, 20.5, 21.0, 21.5, 22.0, 22.5, 23.0]  # two slow steps, then half a second each
    assert training_speed(TINY, times) == 64.0


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_usual_way_sees_the_pixels_that_the_model_sees(name: str) -> None:
    data = ImageDataModule(name, batch_size=4, train_size=40)
    data.prepare_data()
    data.setup()
    assert data.mean is not None and data.std is not None
    model = prepared(Case("flatnet", name, 4, "32-true", 10, 2, 10), resolve("cpu", "auto")).model
    model.pixels.set_statistics(data.mean, data.std)
    usual = PerImage(data.train, data.mean, data.std)
    images_NCHW, labels_N = data.train.__getitems__([0, 7, 39])
    for index, image_CHW, label in zip((0, 7, 39), model.pixels(images_NCHW), labels_N.tolist(), strict=True):
        torch.testing.assert_close(usual[index][0], image_CHW)
        assert usual[index][1] == label
