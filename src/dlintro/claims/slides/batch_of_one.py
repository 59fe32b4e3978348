"""All three models train in batches of one image, and with a last batch of one.

Shapes: B images in a batch, C channels, H height, W width, K classes.
"""

import math
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

    Change = Callable[[Classifier], Classifier]

CLAIM = Claim(
    title="A batch of one",
    slide="Stochastic Gradient Descent",
    says="The batch size can be 1, as is usual for Pix2Pix.",
    kind="identity",
    seconds=12,
    core=Exact(
        "All three models learn in batches of one image: their loss falls below that of guessing",
        "learns, batches of one",
    ),
    more=(
        Exact("They also learn when only the last batch holds one image", "learns, last batch of one"),
    ),
    checks=(
        Exact(
            "An image tested alone has the same logits as in a batch", "alone minus in a batch", tolerance=1e-4
        ),
        Exact(
            "With one image, VGG16's batch norms average over the pixels of a map: from 32 × 32 down to 2 × 2",
            "numbers that batch norm averages",
        ),
        Exact("Batch norm of one image is instance normalisation", "batch norm minus instance norm", tolerance=1e-5),
    ),
    student=Student(
        predict="Batch norm takes mean and variance over the batch. What does it average when the batch is one image?",
        change="Set LAST_SIDE in src/dlintro/claims/slides/batch_of_one.py to 1.",
        expected="A map of one pixel leaves a single number. It has no variance, so PyTorch raises an error.",
    ),
    notes=(
        "In training, VGG16's batch norms (the paper's network had none) use the mean and variance of the batch. With "
        "one image, the last three average only 4 numbers per channel, which is a poor statistic. It still trains, "
        "because the last pooling comes after them. A batch norm after flattening would see a single number, and "
        "PyTorch would raise an error.",
        "In evaluation, batch norm uses the means and variances it kept while training. An image's result does not "
        "depend on the other images of its batch.",
        "Pix2Pix (Isola et al. 2016, 1611.07004) uses batches of one so that its batch norms become instance "
        "normalisation, as measured here. That it maps one image to another is not the reason.",
        "VGG16 has a tenth of the other models' learning rate here. At their rate, 3e-4, its loss after eight epochs is "
        "that of guessing (2.31) in batches of one, and 0.07 in batches of ten. That is the cost of the poor statistic.",
        "The models learn only ten images. This shows that they train, not that they are any good on other images.",
    ),
)  # fmt: skip

SIDE = 32  # pixels, of CIFAR-10's images
LAST_SIDE = 2  # pixels, of VGG16's last maps before the last pooling
RATES = {"FlatNet": 3e-4, "MnistCNN": 3e-4, "VGG16": 3e-5}
GUESSING = math.log(10)  # the loss of one tenth for each class
VGG_SIDES = (32, 32, 16, 16, 8, 8, 8, 4, 4, 4, 2, 2, 2)  # pixels of the maps that each batch norm sees


def measure(bench: "Bench") -> None:
    run(bench, lambda model: model, together=1)


def falsify(bench: "Bench") -> None:
    """A batch norm over the outputs sees one number per channel, and batches of one hold two images."""
    run(bench, with_norm_over_outputs, together=2)


def with_norm_over_outputs(model: "Classifier") -> "Classifier":
    from torch import nn

    class NormOverBatch(nn.Module):
        def forward(self, outputs_BK: "torch.Tensor") -> "torch.Tensor":
            return nn.functional.batch_norm(outputs_BK, None, None, training=True)

    model.network = nn.Sequential(model.network, NormOverBatch())
    return model


def run(bench: "Bench", changed: "Change", together: int) -> None:
    import torch

    from dlintro.models import VGG16, FlatNet, MnistCNN

    losses = {}
    for kind in (FlatNet, MnistCNN, VGG16):
        name = kind.__name__
        for words, batch_size, train_size in (("batches of one", 1, 10), ("last batch of one", 4, 9)):
            torch.manual_seed(0)
            model = changed(kind((3, SIDE, SIDE), optim={"lr": RATES[name], "schedule": "none"}))
            losses[name, words] = train(bench, model, batch_size, train_size)
            bench.record(f"learns, {words}", learns(losses[name, words]), arm=name, expected=1)
        bench.record("alone minus in a batch", alone_minus_in_a_batch(bench, model), arm=name, expected=0)
    for number, (num_averaged, side) in enumerate(zip(numbers_averaged(together), VGG_SIDES, strict=True), start=1):
        arm = f"batch norm {number}"
        bench.record("numbers that batch norm averages", num_averaged, arm=arm, expected=side * side)
    bench.record("batch norm minus instance norm", batch_minus_instance_norm(together), expected=0)
    if together == 1:
        draw_losses(bench, {name: kept for (name, words), kept in losses.items() if words == "batches of one"})
        draw_numbers(bench)


def train(bench: "Bench", model: "Classifier", batch_size: int, train_size: int) -> list[float]:
    """Return the mean loss of each epoch, or no loss at all if PyTorch raises an error."""
    from lightning.pytorch.callbacks import Callback

    epochs: list[float] = []

    class KeepLosses(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            epochs.append(0.0)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            _, labels_B = batch
            epochs[-1] += float(outputs["loss"]) * len(labels_B) / train_size

    data = bench.data("cifar10", batch_size=batch_size, train_size=train_size)
    try:
        bench.train(model, data, epochs=bench.pick(8, 4), callbacks=[KeepLosses()])
    except ValueError:  # "Expected more than 1 value per channel when training"
        return []
    return epochs


def learns(losses: list[float]) -> bool:
    return bool(losses) and losses[-1] < min(losses[0], GUESSING)  # false for NaN


def alone_minus_in_a_batch(bench: "Bench", model: "Classifier") -> float:
    import torch

    images_BCHW = bench.data("cifar10").test.images_NCHW[:8]
    together_BK = bench.logits(model, images_BCHW)
    try:
        alone_BK = torch.cat([bench.logits(model, image_CHW[None]) for image_CHW in images_BCHW])
    except ValueError:
        return float("nan")
    return float((together_BK - alone_BK).abs().max())


def numbers_averaged(num_images: int) -> list[int]:
    """Return how many numbers each batch norm of VGG16 averages per channel."""
    import torch
    from torch import nn

    from dlintro.models import VGG16

    seen: list[int] = []

    def count(_: "nn.Module", inputs: "tuple[torch.Tensor]") -> None:
        (features_BCHW,) = inputs
        seen.append(features_BCHW.numel() // features_BCHW.shape[1])

    model = VGG16((3, SIDE, SIDE)).train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_pre_hook(count)
    with torch.no_grad():
        model(torch.zeros(num_images, 3, SIDE, SIDE, dtype=torch.uint8))
    return seen


def batch_minus_instance_norm(num_images: int) -> float:
    import torch
    from torch.nn import functional as F

    features_BCHW = torch.randn(num_images, 512, LAST_SIDE, LAST_SIDE, generator=torch.Generator().manual_seed(0))
    over_the_batch = F.batch_norm(features_BCHW, None, None, training=True)
    return float((over_the_batch - F.instance_norm(features_BCHW)).abs().max())


def draw_losses(bench: "Bench", losses: dict[str, list[float]]) -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("In batches of one image, all three models learn", "epoch", "training loss")
    for (name, kept), colour in zip(losses.items(), COLOURS, strict=False):
        axes.plot(range(1, len(kept) + 1), kept, "o-", color=colour, label=name)
    axes.axhline(GUESSING, color="black", linestyle=":", linewidth=1, label="guessing")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    bench.show(
        "losses",
        "Mean loss of an epoch's ten steps on ten images. VGG16 has a tenth of the other models' learning rate.",
        figure,
    )


def draw_numbers(bench: "Bench") -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel(
        "With one image, VGG16's last batch norms average 4 numbers", "batch norm", "numbers averaged, per channel"
    )
    for num_images, colour in ((32, COLOURS[0]), (1, COLOURS[1])):
        numbers = [num_images * side * side for side in VGG_SIDES]
        label = "one image" if num_images == 1 else f"a batch of {num_images}"
        axes.plot(range(1, len(numbers) + 1), numbers, "o-", color=colour, label=label)
    axes.axhline(1, color="black", linestyle=":", linewidth=1)
    axes.text(1, 1.2, "one number has no variance: PyTorch raises an error", fontsize=9)
    axes.set(yscale="log", xticks=range(1, 14))
    axes.legend(frameon=False)
    bench.show("numbers", "The images have 32 × 32 pixels, and each pooling keeps a quarter of the pixels.", figure)
