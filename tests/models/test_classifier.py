"""Loss, metrics and what a stage reports."""

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from dlintro.data import ImageDataModule
from dlintro.errors import UsageError
from dlintro.models import FlatNet, MnistCNN
from dlintro.models.optim import Optim, binary_cross_entropy, mse_on_one_hot
from dlintro.models.pixels import Pixels
from dlintro.models.tally import Tally


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**31))
def test_epoch_metrics_are_weighted_by_images_for_any_split_into_batches(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, labels = (
        torch.randn(sum(sizes), 4, generator=generator),
        torch.randint(0, 4, (sum(sizes),), generator=generator),
    )
    tally = Tally()
    for part_logits, part_labels in zip(logits.split(sizes), labels.split(sizes), strict=True):
        tally.add(F.cross_entropy(part_logits, part_labels), part_logits, part_labels)
    loss_sum, num_correct, num_images = tally.end_epoch()
    assert num_images == sum(sizes)
    assert num_correct == (logits.argmax(1) == labels).sum()
    assert loss_sum / num_images == pytest.approx(float(F.cross_entropy(logits.double(), labels)), rel=1e-5)


def test_the_first_loss_that_is_not_finite_is_found() -> None:
    tally = Tally()
    for loss in (1.0, 2.0, float("nan"), float("inf"), 1.0):
        tally.add(torch.tensor(loss), torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    assert tally.read() == 2  # batches back from the last


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_validation_and_test_see_every_image_once_whatever_the_batch_size(batch_size: int) -> None:
    data = ImageDataModule("synthetic", batch_size=batch_size, shape=(1, 8, 8), train_size=100)
    data.prepare_data()
    data.setup()
    model = FlatNet(data.image_shape)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.test(model, data, verbose=False)
    images, labels = data.test.images_NCHW, data.test.labels_N
    with torch.no_grad():
        logits = model(images)
    assert model.values["test/acc"] == float((logits.argmax(1) == labels).sum()) / len(labels)
    assert model.values["test/loss"] == pytest.approx(float(F.cross_entropy(logits, labels)), rel=1e-5)


def test_pixels_are_scaled_and_normalised_as_published_and_padded_with_black() -> None:
    pixels = Pixels((1, 28, 28), min_side=32)
    pixels.set_statistics((0.1307,), (0.3081,))
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8)
    out = pixels(images)
    assert out.shape == (3, 1, 32, 32) and out.dtype == torch.float32
    torch.testing.assert_close(out[:, :, 2:30, 2:30], (images.float() / 255 - 0.1307) / 0.3081)
    torch.testing.assert_close(out[:, :, 0], torch.full((3, 1, 32), -0.1307 / 0.3081))


def test_the_training_pixels_come_out_with_mean_0_and_deviation_1() -> None:
    data = ImageDataModule("mnist")
    data.prepare_data()
    data.setup()
    pixels = Pixels((1, 28, 28))
    assert data.mean is not None and data.std is not None
    pixels.set_statistics(data.mean, data.std)
    out = pixels(data.train.images_NCHW)
    assert float(out.mean()) == pytest.approx(0, abs=1e-3)
    assert float(out.std()) == pytest.approx(1, abs=1e-3)


def test_one_logit_with_bce_is_the_sigmoid_of_two_way_softmax() -> None:
    model = FlatNet((1, 4, 4), 2, optim={"loss": "bce"})
    assert model.network[-1].out_features == 1
    images, labels = torch.randint(0, 256, (5, 1, 4, 4), dtype=torch.uint8), torch.tensor([0, 1, 1, 0, 1])
    logits = model(images)
    logit = model.network(model.pixels(images))[:, 0]
    torch.testing.assert_close(logits.softmax(1)[:, 1], logit.sigmoid())
    torch.testing.assert_close(
        binary_cross_entropy(logits, labels), F.binary_cross_entropy_with_logits(logit, labels.float())
    )
    with pytest.raises(UsageError, match="two classes"):
        FlatNet(optim={"loss": "bce"})


def test_mse_compares_with_one_hot_labels() -> None:
    logits, labels = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([0, 1])
    assert float(mse_on_one_hot(logits, labels)) == pytest.approx(0.125)


@pytest.mark.parametrize(("rule", "factor"), [("none", 1), ("linear", 4), ("sqrt", 2)])
def test_the_learning_rate_rules_agree_at_the_reference_batch(rule: str, factor: float) -> None:
    optim = Optim(lr=0.1, lr_rule=rule, lr_reference_batch=64)
    assert optim.scaled_lr(64) == pytest.approx(0.1)
    assert optim.scaled_lr(256) == pytest.approx(0.1 * factor)


@pytest.mark.parametrize("schedule", ["none", "step", "cosine", "onecycle"])
@pytest.mark.parametrize("warmup", [0.0, 0.15, 0.25, 0.9])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 40])
def test_a_schedule_never_exceeds_its_peak_and_warms_up(schedule: str, warmup: float, num_steps: int) -> None:
    optim = Optim(lr=0.5, schedule=schedule, warmup=warmup)
    optimizer = optim.optimizer([torch.nn.Parameter(torch.zeros(1))], 0.5, fused=False)
    scheduler = optim.scheduler(optimizer, num_steps)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    assert max(rates) <= 0.5 + 1e-9
    if num_steps == 40:
        assert max(rates) == pytest.approx(0.5, rel=0.01)
        if warmup == 0.25:
            assert rates[0] < rates[5] < rates[9] <= max(rates)
        if schedule != "none":
            assert rates[-1] < 0.1 or (schedule == "step" and warmup == 0.9)


def test_the_loss_is_not_averaged_over_accumulated_batches_twice() -> None:
    """Accumulating two batches of 16 is one step of a batch of 32, for the mean loss."""
    weights = []
    for batch_size, accumulate in ((32, 1), (16, 2)):
        L.seed_everything(0, verbose=False)
        data = ImageDataModule("synthetic", batch_size=batch_size, shape=(1, 8, 8), train_size=128)
        model = MnistCNN(data.image_shape, widths=[4, 8], optim={"name": "sgd", "lr": 0.1})
        trainer = L.Trainer(
            max_epochs=1, accumulate_grad_batches=accumulate, accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, data)
        assert trainer.global_step == 4
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)
