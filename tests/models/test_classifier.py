"""The loss, the metrics, and the values that a stage reports."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger

from dlintro.data import ImageDataModule
from dlintro.errors import UsageError
from dlintro.models import FlatNet, MnistCNN
from dlintro.models.classifier import Diverged
from dlintro.models.optim import binary_cross_entropy, make_optimizer, make_scheduler, mse_on_one_hot
from dlintro.models.pixels import Pixels
from dlintro.models.tally import Tally
from dlintro.settings.keys import Optim
from tests.run_folder import checkpoint, record, synthetic


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
    assert tally.read() == 2  # counted back from the last batch


@pytest.mark.parametrize("batch_size", [7, 64, 1000])
def test_validation_and_test_see_every_image_once_whatever_the_batch_size(batch_size: int) -> None:
    data = ImageDataModule("synthetic", batch_size=batch_size, shape=(1, 64, 64))
    assert data.eval_batch_size == max(64, batch_size)
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


@pytest.mark.usefixtures("no_pictures")
def test_a_step_learns_from_the_smoothed_labels(run: Callable[..., Path]) -> None:
    """The test computes one step with all 200 images by hand: label y becomes (1 - s) y + s / K, the loss is
    -Σ y log p, and its gradient is (p - y) xᵀ."""
    data = synthetic(1, 8, 8, train_size=200)
    images_NCHW, labels_N = data.train.__getitems__(list(range(200)))
    words = ("data=synthetic", "data.shape=[1,8,8]", "data.train_size=200", "data.batch_size=200", "model=flatnet")
    words += ("optim.name=sgd", "optim.schedule=none", "trainer.max_epochs=1", "accelerator=cpu", "threads=1")

    def after(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
        saved = checkpoint(folder)["state_dict"]
        weight_KP, bias_K = (value.double() for name, value in saved.items() if name.startswith("network."))
        return weight_KP, bias_K

    still = run(*words, "optim.lr=1e-30")
    weight_KP, bias_K = after(still)
    saved = checkpoint(still)["state_dict"]
    pixels_NP = ((images_NCHW / 255 - saved["pixels.mean_C11"]) / saved["pixels.std_C11"]).flatten(1).double()
    log_p_NK = (pixels_NP @ weight_KP.T + bias_K).log_softmax(1)
    for smoothing in (0.0, 0.3):
        labels_NK = (1 - smoothing) * torch.eye(10).double()[labels_N] + smoothing / 10
        folder = run(*words, "optim.lr=0.5", f"optim.label_smoothing={smoothing}")
        assert record(folder)["train/loss"] == pytest.approx(float(-(labels_NK * log_p_NK).sum(1).mean()), rel=1e-5)
        error_NK = (log_p_NK.exp() - labels_NK) / 200
        stepped = (weight_KP - 0.5 * error_NK.T @ pixels_NP, bias_K - 0.5 * error_NK.sum(0))
        for found, expected in zip(after(folder), stepped, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("optim", "objective"),
    [
        ({"label_smoothing": 0.3}, lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=0.3)),
        ({"loss": "mse"}, mse_on_one_hot),
    ],
    ids=["label_smoothing", "mse"],
)
def test_evaluated_losses_are_the_plain_cross_entropy_whatever_is_trained_on(
    optim: dict[str, Any], objective: Callable[..., torch.Tensor]
) -> None:
    data = synthetic(1, 8, 8, train_size=200)
    model = FlatNet(data.image_shape, optim={"lr": 1e-30, "schedule": "none"} | optim)  # no weight changes
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False)
    trainer = L.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    found = {}
    for stage, images in (
        ("train", data.train),
        ("val", data.val),
        ("train_eval", data.train_eval),
        ("test", data.test),
    ):
        images_NCHW, labels_N = images.__getitems__(list(range(len(images))))
        with torch.no_grad():
            logits_NK = model(images_NCHW)
        loss = objective if stage == "train" else F.cross_entropy
        found[f"{stage}/loss"] = pytest.approx(float(loss(logits_NK, labels_N)), rel=1e-5)
    assert {name: value for name, value in model.values.items() if name.endswith("/loss")} == found


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
    optimizer = make_optimizer(optim, [torch.nn.Parameter(torch.zeros(1))], 0.5, fused=False)
    scheduler = make_scheduler(optim, optimizer, num_steps)
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


def trained(data: ImageDataModule, **trainer: Any) -> tuple[MnistCNN, L.Trainer]:
    L.seed_everything(0, verbose=False)
    optim = {"name": "sgd", "lr": 0.1, "schedule": "none", "lr_rule": "linear"}
    model = MnistCNN(data.image_shape, widths=[4, 8], optim=optim)
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    found = L.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **settings | trainer)
    found.fit(model, data)
    return model, found


@pytest.mark.parametrize("train_size", [128, 144])  # with 144, the last step of the epoch has only 16 images
def test_accumulated_batches_are_one_larger_batch(train_size: int) -> None:
    weights = []
    for batch_size, accumulate in ((64, 1), (16, 4)):
        data = ImageDataModule("synthetic", batch_size=batch_size, shape=(1, 8, 8), train_size=train_size)
        model, trainer = trained(data, accumulate_grad_batches=accumulate)
        assert trainer.global_step == -(-train_size // 64)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4096, 1), (256, 1), (64, 100)])
def test_the_rate_is_of_the_images_that_a_step_can_have(batch_size: int, accumulate: int) -> None:
    data = ImageDataModule("synthetic", batch_size=batch_size, shape=(1, 8, 8), train_size=256)
    _, trainer = trained(data, accumulate_grad_batches=accumulate)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 256 / 128)


def test_a_trainer_of_ones_own_logs_nothing_of_its_sanity_check(tmp_path: Path) -> None:
    data = ImageDataModule("synthetic", batch_size=64, shape=(1, 8, 8), train_size=128)
    trained(data, logger=CSVLogger(tmp_path, name="", version=""), num_sanity_val_steps=2)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        steps = {row["step"] for row in csv.DictReader(file) if row.get("val/loss")}
    assert steps == {"2"}


@pytest.mark.parametrize(("stage", "hint"), [("train", True), ("val", True), ("test", False)])
def test_a_loss_that_is_not_finite_is_named(stage: str, hint: bool) -> None:
    said = str(Diverged(3, stage))
    assert said.startswith(f"{stage}/loss is not finite at step 3") and ("optim.lr" in said) == hint


def test_parts_that_do_not_train_stay_so() -> None:
    model = MnistCNN((1, 8, 8), widths=[4, 8])
    model.train()
    model.network[0].eval()
    with model.evaluating():
        assert not any(module.training for module in model.modules())
    assert not model.network[0].training and model.network.training
