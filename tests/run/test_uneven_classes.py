"""A folder in which one class outweighs the other: weights in the loss, what chooses the best epoch, the warnings."""

import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_precision, multiclass_recall

from dlintro.data import ImageDataModule
from dlintro.errors import UsageError
from dlintro.models import FlatNet
from dlintro.models.optim import binary_cross_entropy, mse_on_one_hot
from dlintro.run.advice import few_images, longer_words
from dlintro.run.pictures import class_table
from dlintro.run.results import Results
from tests.run_folder import checkpoint, record

Run = Callable[..., Path]
WORDS = ("data=image_folder", "data.batch_size=8", "model=flatnet", "accelerator=cpu", "threads=1")
COUNTS = {
    "easy": 12,
    "hard": 8,
    "rare": 4,
}  # images of each kind in each split; easy and hard are of class a, rare of b

# After epoch e the network says b for the images that RULES[e] names, with SCALES[e] between its two logits.
SCRIPTED = """
import torch
from torch import nn

RULES, SCALES = ("hard and rare", "none", "hard and rare"), (3.0, 10.0, 0.1)

class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.trained = nn.Linear(64, 2)

    def forward(self, x):
        if self.training:
            self.steps += 1
        epoch = max(0, int(self.steps) - 1) // 3
        brighter = (x[..., :4] - x[..., 4:]).mean((1, 2, 3))  # the left half
        said = (brighter < 0.01).long() if RULES[epoch] != "none" else torch.zeros(len(x), dtype=torch.long)
        return SCALES[epoch] * nn.functional.one_hot(said, 2) + 0.0 * self.trained(x.flatten(1))

def make_model(shape, k):
    return Scripted()
"""


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Each split has 20 images of a and 4 of b. The easy ones are bright on the left, the rare ones on the right."""
    for split in ("train", "val", "test"):
        for kind, num in COUNTS.items():
            folder = tmp_path / "uneven" / split / ("b" if kind == "rare" else "a")
            folder.mkdir(parents=True, exist_ok=True)
            for place in range(num):
                pixels = np.full((8, 8), 40 + place, np.uint8)
                pixels[:, :4] += 100 * (kind == "easy")
                pixels[:, 4:] += 100 * (kind == "rare")
                Image.fromarray(pixels).save(folder / f"{kind}{place}.png")
    return tmp_path / "uneven"


@pytest.mark.parametrize(
    ("best", "epoch", "stopped_after"), [("val/acc", 1, 3), ("val/balanced_acc", 0, 2), ("val/loss", 2, 2)]
)
@pytest.mark.usefixtures("no_pictures")
def test_what_trainer_best_names_chooses_the_epoch_and_stops_early(
    run: Run, uneven: Path, capsys: pytest.CaptureFixture[str], best: str, epoch: int, stopped_after: int
) -> None:
    (uneven.parent / "scripted.py").write_text(SCRIPTED)
    words = [word for word in WORDS if word != "model=flatnet"]
    words += [f"data.path={uneven}", "model=file", f"model.path={uneven.parent}/scripted.py", "optim.lr=1e-30"]
    words += ["optim.schedule=none", "trainer.max_epochs=3", f"trainer.best={best}"]
    folder = run(*words)
    said = capsys.readouterr().out
    found, right, wrong = record(folder), math.log1p(math.exp(-0.1)), math.log1p(math.exp(0.1))
    metrics = {
        0: (16 / 24, 0.8, (16 * math.log1p(math.exp(-3)) + 8 * math.log1p(math.exp(3))) / 24),
        1: (20 / 24, 0.5, (20 * math.log1p(math.exp(-10)) + 4 * math.log1p(math.exp(10))) / 24),
        2: (16 / 24, 0.8, (16 * right + 8 * wrong) / 24),
    }
    assert found["best/epoch"] == checkpoint(folder, "best.ckpt")["epoch"] == epoch
    acc, balanced, loss = metrics[epoch]
    for name, value in (("acc", acc), ("balanced_acc", balanced), ("loss", loss)):
        assert found[f"best/val/{name}"] == pytest.approx(value, rel=1e-5)
        assert found[f"best/test/{name}"] == pytest.approx(value, rel=1e-5)  # the same images
    assert ("val/balanced_acc 80.00%" in said) == (best == "val/balanced_acc")
    assert f"(epoch {epoch + 1} of 3{'' if best == 'val/acc' else ', by ' + best}" in said
    assert record(run(*words, "trainer.early_stopping=1"))["epochs"] == stopped_after


@pytest.mark.parametrize("optim", [{}, {"label_smoothing": 0.2}, {"loss": "bce"}, {"loss": "mse"}], ids=str)
def test_balanced_classes_weigh_equally_in_the_training_loss_and_nowhere_else(
    uneven: Path, optim: dict[str, Any]
) -> None:
    data = ImageDataModule("image_folder", 5, path=uneven, balance="classes")
    model = FlatNet((1, 8, 8), 2, hidden=[], optim={"lr": 1e-30, "schedule": "none"} | optim)  # no weight changes
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False)
    L.Trainer(accelerator="cpu", max_epochs=1, enable_model_summary=False, **quiet).fit(model, data)
    assert data.class_weights == pytest.approx((24 / 40, 24 / 8))
    images_NCHW, labels_N = data.train.__getitems__(list(range(24)))
    weights_N = torch.tensor([0.6, 3.0])[labels_N]
    assert float(weights_N.mean()) == pytest.approx(1)
    with torch.no_grad():
        logits_NK = model(images_NCHW)
    loss_N = {
        "bce": lambda: binary_cross_entropy(logits_NK, labels_N, reduction="none"),
        "mse": lambda: mse_on_one_hot(logits_NK, labels_N, reduction="none"),
    }.get(model.optim.loss, lambda: F.cross_entropy(logits_NK, labels_N, reduction="none", **optim))()
    assert model.values["train/loss"] == pytest.approx(float((weights_N * loss_N).mean()), rel=1e-5)
    assert model.values["val/loss"] == pytest.approx(float(F.cross_entropy(logits_NK, labels_N)), rel=1e-5)
    if not optim:
        total = F.cross_entropy(logits_NK, labels_N, weight=torch.tensor([0.6, 3.0]), reduction="sum")
        assert model.values["train/loss"] == pytest.approx(float(total) / 24, rel=1e-5)
    assert not any("class_weights" in name for name in model.state_dict())  # older checkpoints have none


@pytest.mark.usefixtures("no_pictures")
def test_an_uneven_folder_is_said_until_what_helps_is_typed(
    run: Run, uneven: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in range(80):
        (uneven / "train" / "a" / f"more{place}.png").write_bytes((uneven / "train" / "a" / "easy0.png").read_bytes())
    words = (*WORDS, f"data.path={uneven}", "trainer.max_epochs=1")

    def said(*more: str) -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            run(*words, *more)
        return caplog.text

    assert "100 of 104 training images are a, so" in (text := said())
    assert "try data.balance=classes trainer.best=val/balanced_acc" in text
    assert "few test images (b has 4): with fewer than 10" in text and "few validation" not in text
    assert "and try trainer.best=val/balanced_acc" in said("data.balance=classes")
    text = said("data.balance=classes", "trainer.best=val/balanced_acc")
    assert "training images are a" not in text and "few validation images (b has 4)" in text


@pytest.mark.usefixtures("no_pictures")
def test_a_class_without_validation_images_is_said_and_not_chosen_by(
    run: Run, uneven: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in range(80):
        (uneven / "train" / "a" / f"more{place}.png").write_bytes((uneven / "train" / "a" / "easy0.png").read_bytes())
    shutil.rmtree(uneven / "val")
    words = (*WORDS, f"data.path={uneven}", "trainer.max_epochs=1")
    with caplog.at_level(logging.WARNING):
        run(*words)
    assert "no validation image is of the class b, so the epoch is chosen as if it didn't exist" in caplog.text
    assert "try data.balance=classes\n" in caplog.text, "without b, val/balanced_acc would favour a"
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        run(*words, "data.val_size=30")
    assert "no validation image" not in caplog.text and "trainer.best=val/balanced_acc\n" in caplog.text


def test_few_images_names_three_classes_and_counts_the_others() -> None:
    labels_N = torch.arange(5).repeat_interleave(torch.tensor([1, 9, 10, 2, 3]))
    said = few_images("test", labels_N, list("abcde"))
    assert said.startswith("few test images (a has 1, b has 9, d has 2 and 1 other class has few): with fewer than 10")
    assert few_images("test", torch.zeros(10, dtype=torch.long), ["a"]) == ""


@pytest.mark.parametrize(
    ("num_train", "batch_size", "words"),
    [
        (486, 128, ["data.batch_size=16", "trainer.max_epochs=20"]),
        (481, 128, ["data.batch_size=14", "trainer.max_epochs=18"]),  # 16 and 15 would leave a last batch of one
        (3000, 128, ["data.batch_size=16", "trainer.max_epochs=4"]),
        (20, 20, ["data.batch_size=16", "trainer.max_epochs=100"]),
        (400, 8, ["data.batch_size=8", "trainer.max_epochs=12"]),
    ],
)
def test_the_hint_gives_a_small_set_enough_steps(num_train: int, batch_size: int, words: list[str]) -> None:
    assert longer_words(num_train, batch_size) == words


@pytest.mark.usefixtures("no_pictures")
def test_the_metrics_of_twelve_classes_are_torchmetrics(run: Run, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for k in range(12):
            (tmp_path / "many" / split / f"{k:02}").mkdir(parents=True)
            for place in range(3 + k):
                pixels = generator.integers(0, 256, (8, 8), np.uint8)
                pixels[k % 8, : 4 + k // 2] = 255
                Image.fromarray(pixels).save(tmp_path / "many" / split / f"{k:02}" / f"{place}.png")
    folder = run(*WORDS, f"data.path={tmp_path / 'many'}", "trainer.max_epochs=4")
    found, model = record(folder), FlatNet.load_from_checkpoint(folder / "checkpoints" / "best.ckpt").eval()
    data = ImageDataModule("image_folder", path=tmp_path / "many")
    data.setup()
    for field, images in (("best/test", data.test), ("best/val", data.val)):
        images_NCHW, labels_N = images.__getitems__(list(range(len(images))))
        logits_NK = model(images_NCHW).detach()
        balanced = multiclass_accuracy(logits_NK, labels_N, 12, average="macro")
        assert found[f"{field}/balanced_acc"] == pytest.approx(float(balanced), rel=1e-6)
        assert abs(found[f"{field}/balanced_acc"] - found[f"{field}/acc"]) > 1e-3
        if field == "best/test":
            top5 = multiclass_accuracy(logits_NK, labels_N, 12, top_k=5, average="micro")
            assert found["best/test/top5_acc"] == pytest.approx(float(top5), rel=1e-6) and top5 > found["best/test/acc"]
            recall_K = multiclass_recall(logits_NK, labels_N, 12, average=None)
            precision_K = multiclass_precision(logits_NK, labels_N, 12, average=None)
            rows = found["best/test/classes"]
            assert [row["name"] for row in rows] == [f"{k:02}" for k in range(12)]
            assert [row["images"] for row in rows] == list(range(3, 15))
            torch.testing.assert_close(torch.tensor([row["recall"] for row in rows]), recall_K)
            torch.testing.assert_close(torch.tensor([row["precision"] or 0.0 for row in rows]), precision_K)


def test_the_dashboards_table_has_the_lowest_recall_first_and_no_broken_cell() -> None:
    results = Results(torch.eye(3)[[0, 0, 1, 1]], torch.tensor([0, 0, 1, 2]), ["a|b", "c", "d"])
    assert class_table(results.class_rows()).splitlines()[2:] == [
        "| d | 1 | 0.00% | – | c (1) |",
        "| a&#124;b | 2 | 100.00% | 100.00% | – |",
        "| c | 1 | 100.00% | 50.00% | – |",
    ]


def test_another_balance_is_refused(uneven: Path) -> None:
    with pytest.raises(UsageError, match=r"data\.balance=images: use classes or null"):
        ImageDataModule("image_folder", path=uneven, balance="images")  # type: ignore[arg-type]
