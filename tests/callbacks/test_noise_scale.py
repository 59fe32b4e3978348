"""Both parts of the noise scale are unbiased at the 32 small batches that a reading takes."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dlintro.callbacks.noise_scale import NoiseScale, noise_and_gradient
from dlintro.models import FlatNet
from tests.run_folder import checkpoint, record, synthetic

Run = Callable[..., Path]
SMALL_BATCH, PARTS = 64, 32


def test_both_parts_are_the_unbiased_estimates_of_the_small_batches_gradients() -> None:
    """The squared mean of n gradients is too large by their variance / n, with n - 1 degrees of freedom."""
    gradients_PD = np.random.default_rng(0).normal(0.1, 1, (PARTS, 20))
    split = [[torch.tensor(row[:15]).reshape(3, 5), torch.tensor(row[15:])] for row in gradients_PD]
    trace, grad_squared = noise_and_gradient(split, SMALL_BATCH)
    variance = gradients_PD.var(axis=0, ddof=1).sum()  # of a small batch's gradient: that of one image / 64
    assert trace == pytest.approx(SMALL_BATCH * variance)
    assert grad_squared == pytest.approx(np.square(gradients_PD.mean(0)).sum() - variance / PARTS)


def test_known_noise_and_a_known_gradient_come_out_on_average() -> None:
    """Gradients of single images ~ N(0.05, 2²) in 1,000 dimensions: the trace is 4,000 and |G|² 2.5, and the squared
    length of the mean of 2,048 images' gradients is 2.5 + 4,000 / 2,048 = 4.45."""
    generator = torch.Generator().manual_seed(0)
    readings = [
        noise_and_gradient(
            ([0.05 + 2 / SMALL_BATCH**0.5 * part] for part in torch.randn(PARTS, 1000, generator=generator)),
            SMALL_BATCH,
        )
        for _ in range(200)
    ]
    trace, grad_squared = np.mean(readings, axis=0)
    assert trace == pytest.approx(4000, rel=0.005)
    assert grad_squared == pytest.approx(2.5, abs=0.06)


@pytest.mark.usefixtures("no_pictures")
def test_a_runs_readings_are_those_of_all_its_images(run: Run) -> None:
    """The learning rate is so small that no weight changes, so that each reading measures the same gradient. It is
    FlatNet's on all training images: for each, (p - y) xᵀ for W and p - y for b."""
    words = ("data=synthetic", "data.shape=[1,8,8]", "data.val_size=1000", "data.batch_size=500", "accelerator=cpu",
             "threads=1", "model=flatnet", "optim.name=sgd", "optim.momentum=0", "optim.lr=1e-30",
             "trainer.max_epochs=2", "trainer.eval_images=500")  # fmt: skip
    folder = run(*words)
    found, saved = record(folder), checkpoint(folder)["state_dict"]
    data = synthetic(1, 8, 8, val_size=1000)
    images_NCHW, labels_N = data.train.__getitems__(list(range(9000)))
    pixels_NP = ((images_NCHW / 255 - saved["pixels.mean_C11"]) / saved["pixels.std_C11"]).flatten(1).double()
    weight_KP, bias_K = (value.double() for name, value in saved.items() if name.startswith("network"))
    error_NK = (pixels_NP @ weight_KP.T + bias_K).softmax(1) - torch.eye(10)[labels_N]
    gradients_ND = torch.cat([(error_NK[:, :, None] * pixels_NP[:, None]).flatten(1), error_NK], 1)
    trace = float(gradients_ND.var(0).sum())
    # The images are drawn from 9,000 without replacement, so the mean's own noise is trace / 9,000.
    squared = float(gradients_ND.mean(0).square().sum()) - trace / 9000

    readings = 2 + 6  # at epoch ends, and after evaluations 1, 2, 4, 8, 16 and 32 of 36; each adds to the sums
    assert found["noise_scale/trace"] == pytest.approx(readings * trace, rel=0.02)
    assert found["noise_scale/grad_squared"] == pytest.approx(readings * squared, rel=0.02)
    assert found["noise_scale"] == pytest.approx(trace / squared, rel=0.04)
    assert trace / 2048 > 0.05 * squared, "what would be left of the noise is more than that"


@pytest.mark.parametrize("batch_size", [10, 48, 64, 500])
def test_a_reading_is_the_same_in_pieces_of_any_size(batch_size: int) -> None:
    """The last piece of 64 images is smaller, and no activation is dropped although the model trains."""
    model, data = FlatNet((1, 8, 8), hidden=[16], dropout=0.5), synthetic(1, 8, 8)
    model.train()
    trainer: Any = SimpleNamespace(global_step=3, loggers=[])
    noise, whole = (NoiseScale(data.train_draw, 200, size) for size in (batch_size, 200))
    for reading in (noise, whole):
        reading.read(trainer, model)
    assert (noise.trace, noise.grad_squared) == pytest.approx((whole.trace, whole.grad_squared), rel=1e-4)
    images, labels = data.train_draw(50, 0)
    with model.evaluating():
        gradient = torch.autograd.grad(model.loss(model(images), labels), list(model.parameters()))
        for found, wanted in zip(noise.gradient(model, images, labels), gradient, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert model.training


def test_each_reading_is_of_other_images() -> None:
    model, data, seen = FlatNet((1, 8, 8)), synthetic(1, 8, 8), []

    def draw(num: int, number: int) -> Any:
        images, labels = data.train_draw(num, number)
        seen.append({image.numpy().tobytes() for image in images})
        return images, labels

    noise = NoiseScale(draw, 200, 64)
    for step in (3, 4, 7):
        noise.read(SimpleNamespace(global_step=step, loggers=[]), model)  # type: ignore[arg-type]
    assert [len(images) for images in seen] == [192] * 3, "each image once"
    assert all(len(one & other) < 30 for one, other in itertools.pairwise(seen))
