"""What a user of Lightning may do with our models and data, with a Trainer of their own."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback, GradientAccumulationScheduler, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.tuner import Tuner
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.data import DataLoader, TensorDataset

from dlintro.data import ImageDataModule
from dlintro.errors import UsageError
from dlintro.models import Classifier, FlatNet, MnistCNN

ENDLESS = {"schedule": "none"}


def data_module(**arguments: Any) -> ImageDataModule:
    return ImageDataModule("synthetic", **{"batch_size": 16, "shape": (1, 8, 8), "train_size": 200} | arguments)


def flatnet(seed: int = 0, **arguments: Any) -> FlatNet:
    L.seed_everything(seed, verbose=False)
    return FlatNet((1, 8, 8), **arguments)


def weights(model: Classifier) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """Makes a Trainer as a user would, quiet and on the CPU."""

    def make(**arguments: Any) -> L.Trainer:
        settings: dict[str, Any] = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path}
        settings |= {"enable_progress_bar": False, "enable_model_summary": False}
        return L.Trainer(**settings | arguments)

    return make


class Rates(Callback):
    """The learning rate that each optimizer step is taken with."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


class Seen(Callback):
    """The labels of each training batch."""

    def __init__(self) -> None:
        self.labels: list[list[int]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.labels.append(batch[1].tolist())


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("stage", ["test", "val"])
def test_an_evaluation_returns_its_metrics_prints_them_and_logs_each_once(
    own: Any, tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = data_module(), flatnet()
    trainer = own(logger=CSVLogger(tmp_path, name="", version=""))
    found = (trainer.test if stage == "test" else trainer.validate)(model, data)[0]
    images = getattr(data, stage)
    images_NCHW, labels_N = images.__getitems__(list(range(len(images))))
    with torch.no_grad():
        logits_NK = model(images_NCHW)
    assert found[f"{stage}/acc"] == float((logits_NK.argmax(1) == labels_N).double().mean())
    assert found[f"{stage}/loss"] == pytest.approx(float(F.cross_entropy(logits_NK, labels_N)), rel=1e-5)
    assert f"{stage}/acc" in capsys.readouterr().out
    logged = [row[f"{stage}/acc"] for row in rows(tmp_path) if row[f"{stage}/acc"]]
    assert list(map(float, logged)) == [found[f"{stage}/acc"]]


@pytest.mark.parametrize("source", ["module", "images and labels", "images"])
def test_predict_gives_the_logits_of_each_image_in_order(own: Any, source: str) -> None:
    data, model = data_module(), flatnet()
    data.prepare_data()
    data.setup()
    images_NCHW, labels_N = data.test.__getitems__(list(range(len(data.test))))
    loaders = {
        "module": data,
        "images and labels": DataLoader(TensorDataset(images_NCHW, labels_N), batch_size=7),
        "images": DataLoader(images_NCHW, batch_size=7),  # type: ignore[arg-type]  # a tensor is a data set too
    }
    parts = own().predict(model, loaders[source])
    with torch.no_grad():
        torch.testing.assert_close(torch.cat(parts), model.eval()(images_NCHW))


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({"limit_train_batches": 5}, 10),
        ({"limit_train_batches": 0.5}, 12),  # of 13 batches
        ({"overfit_batches": 3}, 6),
        ({"accumulate_grad_batches": 4}, 8),
        ({"limit_train_batches": 6, "accumulate_grad_batches": 4}, 4),
        pytest.param({"callbacks": [GradientAccumulationScheduler({0: 1, 1: 4})]}, 13 + 4, id="accumulation scheduled"),
        ({"max_steps": 17}, 17),
        ({"max_epochs": -1, "max_steps": 30}, 30),
        ({"max_epochs": None, "max_steps": 30, "max_time": "00:01:00:00"}, 30),
        ({"fast_dev_run": True}, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("through", ["module", "loaders"])
def test_the_schedule_ends_with_the_training(own: Any, arguments: dict[str, Any], steps: int, through: str) -> None:
    data, rates = data_module(), Rates()
    model = flatnet(optim={"name": "sgd", "lr": 0.1, "schedule": "onecycle"})
    trainer = own(**{"max_epochs": 2} | arguments | {"callbacks": [rates, *arguments.get("callbacks", [])]})
    if through == "module":
        trainer.fit(model, data)
    else:
        data.prepare_data()
        data.setup()
        trainer.fit(model, data.train_dataloader(), data.val_dataloader())
    assert trainer.global_step == len(rates.rates) == steps
    if steps > 1:
        assert trainer.lr_scheduler_configs[0].scheduler.total_steps == steps
        assert rates.rates[-1] < 0.1 / 1000 < 0.05 < max(rates.rates)


class Gradients(Callback):
    """The gradient of each optimizer step, as one vector."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Any) -> None:
        self.steps.append(torch.cat([p.grad.flatten().clone() for p in pl_module.parameters() if p.grad is not None]))


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
@pytest.mark.parametrize(
    ("batch_size", "arguments"),
    [
        (32, {"accumulate_grad_batches": 7}),  # 6 batches of 32 and one of 8
        (32, {"accumulate_grad_batches": 100}),  # more than an epoch has
        (24, {"accumulate_grad_batches": 9}),
        pytest.param(32, {"callbacks": [GradientAccumulationScheduler({0: 7})]}, id="scheduled"),
    ],
    ids=str,
)
def test_accumulated_gradients_are_those_of_the_large_batch(
    own: Any, batch_size: int, arguments: dict[str, Any], precision: str
) -> None:
    def fit(batch_size: int, callbacks: list[Callback] | None = None, **arguments: Any) -> list[torch.Tensor]:
        model, gradients = flatnet(optim=ENDLESS | {"name": "sgd", "lr": 0.1}), Gradients()
        trainer = own(max_epochs=2, precision=precision, callbacks=[gradients, *(callbacks or [])], **arguments)
        trainer.fit(model, data_module(batch_size=batch_size))
        return [*gradients.steps, weights(model)]

    large, accumulated = fit(200), fit(batch_size, **arguments)
    assert len(large) == len(accumulated) == 3
    for one, other in zip(accumulated, large, strict=True):
        assert float((one - other).norm() / other.norm()) < (1e-6 if precision == "32-true" else 1e-14)


def test_every_image_of_an_accumulated_step_counts_alike_whatever_the_loader_hands_out(own: Any) -> None:
    """Also where the epoch's length isn't known, and where Lightning's limits end it in the middle of a step."""
    images, labels = torch.randint(0, 256, (60, 1, 8, 8), dtype=torch.uint8), torch.arange(60) % 10
    parts = [3, 20, 1, 9, 7, 20]

    class Uneven(torch.utils.data.IterableDataset[Any]):
        def __init__(self, sizes: list[int]) -> None:
            self.sizes = sizes

        def __iter__(self) -> Iterator[Any]:
            yield from zip(images.split(self.sizes), labels.split(self.sizes), strict=True)

    def fit(sizes: list[int], **arguments: Any) -> list[torch.Tensor]:
        model, gradients = flatnet(optim=ENDLESS | {"name": "sgd", "lr": 0.1}), Gradients()
        trainer = own(max_epochs=1, callbacks=[gradients], precision="64-true", **arguments)
        trainer.fit(model, DataLoader(Uneven(sizes), batch_size=None))
        return gradients.steps

    limited = fit(parts, accumulate_grad_batches=4, limit_train_batches=5)
    for one, other in zip(fit(parts, accumulate_grad_batches=4), fit([33, 27]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
    for one, other in zip(limited, fit([33, 7, 20], limit_train_batches=2), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def endless(batch: tuple[torch.Tensor, torch.Tensor]) -> Any:
    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            while True:
                yield batch

    return DataLoader(Stream(), batch_size=None)


@pytest.mark.parametrize(
    "arguments", [{"max_epochs": -1, "max_time": "00:00:10:00"}, {"max_time": "00:00:10:00"}, {"max_epochs": -1}]
)
def test_a_schedule_without_an_end_is_refused_in_one_line(own: Any, arguments: dict[str, Any]) -> None:
    for optim, key in (
        ({"schedule": "onecycle"}, "optim.schedule=onecycle"),
        (ENDLESS | {"warmup": 0.1}, "optim.warmup"),
    ):
        with pytest.raises(UsageError, match=rf"^{key} needs to know where .*max_epochs or max_steps[^\n]*$"):
            own(**arguments).fit(flatnet(optim=optim), data_module())


def test_a_training_without_a_schedule_needs_no_end(own: Any) -> None:
    class Enough(Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch == 2

    trainer = own(max_epochs=-1, max_time="00:00:10:00", callbacks=[Enough()])
    trainer.fit(flatnet(optim=ENDLESS), data_module())
    assert trainer.global_step == 3 * 13
    trainer = own(max_time="00:00:00:01")
    trainer.fit(flatnet(optim=ENDLESS), data_module())
    assert trainer.current_epoch > 0


def test_a_loader_that_knows_no_length_trains_for_max_steps(own: Any) -> None:
    batch = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8), torch.arange(4)
    trainer = own(max_steps=5)
    trainer.fit(flatnet(), endless(batch))
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 5
    with pytest.raises(UsageError, match="max_epochs or max_steps"):
        own(max_epochs=1).fit(flatnet(), endless(batch))


@pytest.mark.parametrize("schedule", ["none", "step", "cosine", "onecycle"])
def test_more_epochs_go_on_where_the_schedule_allows_it(own: Any, tmp_path: Path, schedule: str) -> None:
    first, path = own(max_epochs=1), tmp_path / "first.ckpt"
    first.fit(flatnet(optim={"schedule": schedule}), data_module())
    first.save_checkpoint(path)
    model, longer = flatnet(1, optim={"schedule": schedule}), own(max_epochs=3)
    if schedule != "none":
        with pytest.raises(UsageError, match=rf"^optim.schedule={schedule} was planned for 13 steps [^\n]* 39 now"):
            longer.fit(model, data_module(), ckpt_path=path, weights_only=True)
        loaded = FlatNet.load_from_checkpoint(path)  # its weights may be trained on under another schedule
        own(max_epochs=2).fit(loaded, data_module())
        return
    longer.fit(model, data_module(), ckpt_path=path, weights_only=True)
    straight = flatnet(optim=ENDLESS)
    own(max_epochs=3).fit(straight, data_module())
    assert torch.equal(weights(model), weights(straight)) and model.images_seen == 600


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"limit_train_batches": 5},
        {"limit_train_batches": 5, "max_steps": 1000},
        {"limit_train_batches": 4, "val_check_interval": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("through", ["module", "loaders"])
def test_a_training_resumed_at_an_epochs_end_sees_the_batches_of_one_never_stopped(
    own: Any, tmp_path: Path, num_workers: int, arguments: dict[str, Any], through: str
) -> None:
    def fit(trainer: L.Trainer, ckpt_path: Path | None) -> Classifier:
        data, model = data_module(num_workers=num_workers, train_size=100), flatnet()
        if through == "module":
            trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
        else:
            data.prepare_data()
            data.setup()
            trainer.fit(model, data.train_dataloader(), ckpt_path=ckpt_path, weights_only=True)
        return model

    whole, resumed = Seen(), Seen()
    keep = ModelCheckpoint(tmp_path, save_top_k=-1, filename="{epoch}")
    straight = fit(own(max_epochs=3, callbacks=[whole, keep], **arguments), None)
    again = fit(own(max_epochs=3, callbacks=[resumed], **arguments), tmp_path / "epoch=0.ckpt")
    assert resumed.labels == whole.labels[len(whole.labels) // 3 :]
    assert torch.equal(weights(straight), weights(again))


class Theirs(L.LightningModule):
    """A module that knows nothing of dlintro."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self.network(images.float() / 255), labels)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


def test_a_second_fit_is_as_long_as_its_own_loader(own: Any) -> None:
    data, other = data_module(), data_module(train_size=50)
    trainer = own(max_epochs=1)
    trainer.fit(flatnet(), data)
    other.prepare_data()
    other.setup()
    trainer.fit_loop.max_epochs = 2
    trainer.fit(flatnet(), other.train_dataloader())
    assert trainer.lr_scheduler_configs[0].scheduler.total_steps == 2 * 4


def test_the_data_serve_a_module_of_the_users_own(own: Any, tmp_path: Path) -> None:
    keep, data = ModelCheckpoint(tmp_path, monitor="val_loss"), data_module()
    trainer = own(max_epochs=2, callbacks=[keep])
    trainer.fit(Theirs(), data)
    assert keep.best_model_score == trainer.callback_metrics["val_loss"] > 0
    trainer = own(max_epochs=1)
    trainer.fit(flatnet(), data)  # the same data serve one of ours next
    assert "train_eval/acc" in trainer.callback_metrics


def test_three_validation_loaders_are_refused_in_one_line(own: Any) -> None:
    data = data_module()
    data.prepare_data()
    data.setup()
    with pytest.raises(UsageError, match="two validation loaders at most"):
        own(max_epochs=1).fit(flatnet(), data.train_dataloader(), [data.test_dataloader()] * 3)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_plain_loop_has_another_order_in_each_epoch(num_workers: int) -> None:
    def order(loader: Any) -> list[int]:
        return [int(images.sum()) for images, _ in loader]

    data = data_module(num_workers=num_workers, batch_size=1)
    data.prepare_data()
    data.setup()
    loader, again = data.train_dataloader(), data.train_dataloader()
    orders = [order(loader) for _ in range(3)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(orders[2])
    assert orders[0] != orders[1] != orders[2] != orders[0]
    for epoch in (1, 2, 0):
        again.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        assert order(again) == orders[epoch]
    assert order(again) == orders[1]  # after epoch 0
    next(iter(loader))  # an epoch left early is one, too
    again.sampler.set_epoch(4)  # type: ignore[attr-defined]
    assert order(loader) == order(again)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_model_trains_and_its_checkpoint_is_an_ordinary_one(own: Any, tmp_path: Path, backend: str) -> None:
    plain, model = (MnistCNN((1, 8, 8), widths=[4, 8], optim={"lr": 0.01}) for _ in range(2))
    model.load_state_dict(plain.state_dict())
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(model, backend=counter)
    own(max_epochs=2).fit(plain, data_module())
    trainer = own(max_epochs=2)
    trainer.fit(compiled, data_module())
    assert 0 < counter.frame_count < 8, counter.frame_count  # the forward pass alone, for each mode and shape
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-3, atol=1e-4)
    trainer.save_checkpoint(tmp_path / "compiled.ckpt")
    assert torch.equal(weights(MnistCNN.load_from_checkpoint(tmp_path / "compiled.ckpt")), weights(model))
    assert trainer.test(compiled, data_module(), verbose=False) == own().test(model, data_module(), verbose=False)


def test_the_tuner_finds_and_sets_the_rate_and_the_batch_size(own: Any) -> None:
    data, model = data_module(), flatnet()
    found = Tuner(own(max_epochs=2)).lr_find(model, data, num_training=30)
    assert found is not None
    assert model.lr == model.optim.lr == model.hparams["optim"]["lr"] == found.suggestion() != 0.003
    rates = Rates()
    own(max_epochs=1, callbacks=[rates]).fit(model, data)
    assert max(rates.rates) == pytest.approx(found.suggestion(), rel=0.01)
    largest = Tuner(own(max_epochs=1)).scale_batch_size(model, datamodule=data, max_trials=3, init_val=8)
    assert largest == data.batch_size == 32


@pytest.mark.parametrize(
    ("precision", "kind", "close"), [("bf16-true", torch.bfloat16, 0.03), ("64-true", torch.float64, 1e-4)]
)
def test_true_precisions_learn_as_float32_does(own: Any, precision: str, kind: torch.dtype, close: float) -> None:
    losses = []
    for name in ("32-true", precision):
        model = flatnet(optim={"lr": 0.01})
        own(max_epochs=3, precision=name).fit(model, data_module())
        losses.append(model.values["train/loss"])
    assert {p.dtype for p in model.parameters()} == {kind} and losses[0] < 2
    assert losses[1] == pytest.approx(losses[0], rel=close)
    images = torch.arange(256).to(torch.uint8).view(4, 1, 8, 8)
    mean, std = (float(value) for value in (model.pixels.mean_C11, model.pixels.std_C11))
    expected = (images.double() / 255 - mean) / std
    few = 4 * torch.finfo(kind).eps
    torch.testing.assert_close(model.pixels(images).double(), expected, rtol=few, atol=few)


def test_images_of_another_type_are_refused_in_one_line_and_none_is_changed() -> None:
    model = flatnet()
    floats = torch.rand(4, 1, 8, 8)
    with pytest.raises(UsageError, match=r"^the images are float32: [^\n]*uint8"):
        model(floats)
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    before = images.clone()
    assert torch.equal(model(images), model(images)) and torch.equal(images, before)


def test_curves_and_hyperparameters_reach_every_logger(own: Any, tmp_path: Path) -> None:
    csv_logger = CSVLogger(tmp_path, name="", version="")
    board = TensorBoardLogger(tmp_path, name="", version="")
    trainer = own(max_epochs=1, logger=[board, csv_logger], log_every_n_steps=5)
    trainer.fit(flatnet(optim={"lr": 0.02}), data_module())
    trainer.test(datamodule=data_module(), ckpt_path=None, model=trainer.lightning_module, verbose=False)
    events = EventAccumulator(str(tmp_path)).Reload()
    for name in ("train/loss_step", "train/acc", "val/acc", "train_eval/loss", "test/acc"):
        points = {event.step: event.value for event in events.Scalars(name)}
        found = {int(row["step"]): float(row[name]) for row in rows(tmp_path) if row[name]}
        assert found.keys() == points.keys() and len(events.Scalars(name)) == len(points) > 0, name
        assert list(found.values()) == pytest.approx(list(points.values()))
    assert "lr: 0.02" in (tmp_path / "hparams.yaml").read_text()
    hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"optim/lr" in hparams


@pytest.mark.slow
def test_the_readmes_lines_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # Lightning's own logs
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(import lightning as L\n.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert torch.cat(names["logits"]).shape == (10_000, 10)
    assert names["model"].values["test/acc"] > 0.97
