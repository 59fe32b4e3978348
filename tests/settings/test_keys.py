"""Each key trains with up to three legal values. The illegal values are in test_limits."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dlintro.models.optim import make_optimizer, make_scheduler
from dlintro.run import train
from dlintro.settings.key import Key
from dlintro.settings.keys import TABLE, Optim
from tests.conftest import SMALL, have

ELSEWHERE = {  # keys that other tests train with, or that need files or hardware
    "resume": "test_resume",
    "rerun": "test_entry",
    "compile": "test_compile_trains",
    "model.weights": "test_models",
    "model.path": "test_entry",
    "optim.head_epochs": "models/test_backbone",
    "data.path": "data/test_folder",
    "data.labels": "commands/test_evaluate",
    "data.skip_broken": "data/test_folder",
    "data.name": "the next test",
    "accelerator.name": "test_accelerators",
    "accelerator.index": "test_accelerators",
    "trainer.devices": "1 in every test",
    "sweep.name": "sweep/test_resume_sweep",
    "sweep.retry": "sweep/test_failures",
    "sweep.n_jobs": "sweep/test_runner",
}
VALUES: dict[str, tuple[object, ...]] = {
    "seed": (0, 2**32 - 1),
    "threads": (1, 2, "null"),
    "model.hidden": ("[]", "[16]", "[16,8,4]"),
    "model.activation": ("relu", "sigmoid", "identity"),
    "model.dropout": (0, 0.5, 0.95),
    "model.widths": ("[4,8]", "[4,8,16]", "[1,1,1,0]"),
    "model.convs_per_block": (1, 2, 8),
    "model.init": ("he", "dirac"),
    "model.freeze": ("backbone", "null"),
    "model.batch_norm": ("true", "false"),
    "model.head": ("small",),
    "model.name": ("resnet18", "squeezenet1_1", "shufflenet_v2_x0_5"),
    "data.batch_size": (1, 33, 1_000_000),
    "data.val_size": (1, 500, "null"),
    "data.train_size": (1, 300, "null"),
    "data.num_workers": (0, 1, 2),
    "data.drop_last": ("true", "false"),
    "data.in_ram": ("true", "false", "auto"),
    "data.on_device": ("true", "false"),
    "data.balance": ("classes", "null"),
    "data.augment": ("[crop]", "[flip,rotate,cutout]", "[shift,affine,elastic,trivial,erase]", "[resized_crop]", "[]"),
    "data.shape": ("[1,8,8]", "[3,9,7]", "[4,8,8]"),
    "optim.name": ("sgd", "adam", "adamw"),
    "optim.lr": (1e-6, 0.01, 1),
    "optim.backbone_lr": (1e-6, 0.1, "null"),
    "optim.momentum": (0, 0.5, 0.9999),
    "optim.weight_decay": (0, 1e-4, 0.1),
    "optim.decay_biases": ("true", "false"),
    "optim.nesterov": ("true", "false"),
    "optim.betas": ("[0.5,0.9]", "[0,0]", "[0.9,0.999]"),
    "optim.schedule": ("none", "step", "cosine", "onecycle"),
    "optim.warmup": (0, 0.1, 0.9),
    "optim.lr_rule": ("none", "linear", "sqrt"),
    "optim.lr_reference_batch": (1, 128, 1_000_000),
    "optim.label_smoothing": (0, 0.1, 0.9),
    "optim.loss": ("cross_entropy", "mse"),
    "optim.ema": (0, 0.9, 0.999999),
    "trainer.max_epochs": (1, 2),
    "trainer.max_steps": (1, 1000, "null"),
    "trainer.max_time": ("00:00:00:10", "null"),
    "trainer.precision": ("32-true", "bf16-mixed", "auto"),
    "trainer.accumulate_grad_batches": (1, 3, 100_000),
    "trainer.gradient_clip_val": (1e-3, 1, "null"),
    "trainer.log_every_n_steps": (1, 3, 1_000_000),
    "trainer.deterministic": ("true", "false"),
    "trainer.early_stopping": (1, 100, "null"),
    "trainer.best": ("val/acc", "val/loss", "val/balanced_acc"),
    "trainer.eval_images": (1, 100, "null"),
    "checkpoint.every_steps": (1, 5, "null"),
    "checkpoint.every_minutes": (1e-6, 1, "null"),
    "target.metric": ("val/acc", "val/loss", "train_eval/acc", "train_eval/loss"),
    "target.value": (1e-6, 0.5, "null"),
    "sweep.budget": ("epochs", "steps", "null"),
}
COMPANIONS = {  # other words without which the key would have no effect
    "data.balance": ("data.train_size=205",),  # 200 would be equally many of each class
    "model.activation": ("model.hidden=[16]",),
    "model.dropout": ("model.hidden=[16]",),
    "model.freeze": ("model.hidden=[16]",),
    "optim.backbone_lr": ("model.hidden=[16]",),
    "optim.momentum": ("optim.name=sgd", "optim.schedule=none"),
    "optim.decay_biases": ("optim.weight_decay=0.1",),
    "optim.nesterov": ("optim.name=sgd",),
    "optim.lr_reference_batch": ("optim.lr_rule=linear", "optim.lr=0.0001"),
}
# Keys that must not change the weights, and keys that may. All others must change them.
HOW_ALONE = (
    "data.num_workers", "data.in_ram", "data.on_device", "trainer.max_time", "trainer.log_every_n_steps",
    "trainer.deterministic", "trainer.early_stopping", "trainer.eval_images", "trainer.best",
    "checkpoint.every_steps", "checkpoint.every_minutes", "target.metric", "target.value",
)  # fmt: skip
MAY_CHANGE = ("threads", "data.val_size", "model.head")


def test_every_key_is_trained_with_here_or_elsewhere() -> None:
    assert set(TABLE) == set(VALUES) | set(ELSEWHERE) | {"data.image_size"}


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in TABLE.values() if key.name in VALUES], ids=lambda key: key.name)
def test_legal_values_train_and_change_the_weights_or_not(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, key: Key
) -> None:
    monkeypatch.setattr(train, "draw", lambda *arguments: None)  # the pictures take longer than all the rest
    model = key.only[0] if key.only and key.name.startswith("model.") else "flatnet"
    shape = "[1,28,28]" if model == "vgg16" else "[3,32,32]" if model == "torchvision" else "[1,8,8]"
    words = [word for word in SMALL if not word.startswith(("data.shape", key.name))]
    if key.name != "data.shape":
        words.append(f"data.shape={shape}")
    words += COMPANIONS.get(key.name, ())
    words += [f"model={model}", "trainer.max_epochs=1", "data.val_size=50"]
    runs = [run(*words, f"{key.name}={value}") for value in VALUES[key.name]]
    assert all((folder / "checkpoints" / "best.ckpt").is_file() for folder in runs)
    if key.name not in MAY_CHANGE:
        assert (len({fingerprint(folder) for folder in runs}) == 1) == (key.name in HOW_ALONE)


def fingerprint(folder: Path) -> str:
    """Hash the last weights."""
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    text = b"".join(name.encode() + tensor.contiguous().numpy().tobytes() for name, tensor in sorted(weights.items()))
    return hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("schedule", ["none", "onecycle"])
def test_momentum_and_betas_reach_the_optimizer_under_every_schedule(schedule: str) -> None:
    for name, key, value in (("sgd", "momentum", 0.5), ("adam", "betas", (0.5, 0.9))):
        optim = Optim(name=name, schedule=schedule, **{key: value})  # type: ignore[arg-type]
        optimizer = make_optimizer(optim, [torch.nn.Parameter(torch.zeros(1))], 0.1, fused=False)
        scheduler = make_scheduler(optim, optimizer, 10)
        for _ in range(5):
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            assert optimizer.param_groups[0][key] == value


def test_two_classes_train_with_binary_cross_entropy(run: Callable[..., Path]) -> None:
    words = ("data=cats_dogs", "optim.loss=bce", "model=flatnet", "data.train_size=100", "trainer.max_epochs=1")
    run(*words, "accelerator=cpu")


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist", "cifar10", "cats_dogs"])
def test_each_data_set_trains(run: Callable[..., Path], data: str) -> None:
    if data == "fashion_mnist":
        have(data)
    run(
        f"data={data}",
        "model=flatnet",
        "data.train_size=200",
        "data.image_size=8",
        "trainer.max_epochs=1",
        "accelerator=cpu",
    )


@pytest.mark.parametrize(
    "overrides", [("trainer.max_steps=3",), ("trainer.max_time=00:00:00:01", "trainer.max_epochs=100000")]
)
def test_a_run_that_stops_within_an_epoch_is_validated_and_tested(
    run: Callable[..., Path], overrides: tuple[str, ...]
) -> None:
    import json

    record = json.loads((run(*SMALL, "model=flatnet", *overrides) / "record.json").read_text())
    assert record["status"] == "ok" and record["val/acc"] is not None and record["best/test/acc"] is not None
    assert record["steps"] == 3 or "max_time" in overrides[0]


def test_early_stopping_stops(run: Callable[..., Path]) -> None:
    import json

    settings = (*SMALL, "model=flatnet", "optim.lr=1e-9", "optim.schedule=none", "trainer.max_epochs=50")
    record = json.loads((run(*settings, "trainer.early_stopping=2") / "record.json").read_text())
    assert record["epochs"] < 50


@pytest.mark.slow
def test_compile_trains_and_its_checkpoint_has_the_usual_names(run: Callable[..., Path]) -> None:
    import shutil

    import torch

    from dlintro.models import FlatNet

    if shutil.which("c++") is None and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    folder = run(*SMALL, "model=flatnet", "compile=true", "trainer.max_epochs=1")
    checkpoint = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    assert list(checkpoint["state_dict"]) == list(FlatNet((1, 8, 8)).state_dict())
