"""A batch may hold one image: all three models train with it, and with a last batch of one."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

NAMES = ("FlatNet", "MnistCNN", "VGG16")

CLAIM = Claim(
    number=28,
    title="A batch of one",
    slide="Stochastic Gradient Descent",
    says="The batch size can be 1, as is usual for Pix2Pix.",
    kind="identity",
    seconds=12,
    statements=(
        Exact("all three models train in batches of one image: their weights move", "trains, batch size 1"),
        Exact("and with a last batch of one, after larger ones", "trains, last batch of one"),
        Exact("an image tested alone has the logits that it has in a batch", "alone minus in a batch", tolerance=1e-4),
    ),
    student=Student(
        predict="Batch norm takes mean and variance over the batch. Of one image, what does it average?",
        change="SIDE in src/dlintro/claims/slides/batch_of_one.py, to 16 (and VGG16's padded_side to 16)",
        expected="VGG16's last maps then have one pixel: of one value there is no variance, and PyTorch refuses.",
    ),
    notes=(
        "VGG16 has batch norm: of one image it averages over the map's pixels, at 32 × 32 in the last layers over 2 × 2 "
        "(its own last pooling comes after). Statistics of so few numbers are poor; instance normalisation, which "
        "Pix2Pix uses, is batch norm of one image.",
    ),
)

SIDE = 32


def measure(bench: "Bench") -> None:
    run(bench, lambda model: model)


def falsify(bench: "Bench") -> None:
    """With a batch norm over the outputs, of which one image has no several, and which ignores evaluation mode."""
    run(bench, with_norm_over_outputs)


def with_norm_over_outputs(model: "Classifier") -> "Classifier":
    from torch import nn

    class OverTheBatch(nn.Module):
        def forward(self, outputs_BK):  # type: ignore[no-untyped-def]
            return nn.functional.batch_norm(outputs_BK, None, None, training=True)

    model.network = nn.Sequential(model.network, OverTheBatch())
    return model


def run(bench: "Bench", changed: "Callable[[Classifier], Classifier]") -> None:
    import torch

    from dlintro.models import VGG16, FlatNet, MnistCNN

    kinds: dict[str, Callable[[], Classifier]] = {"FlatNet": FlatNet, "MnistCNN": MnistCNN, "VGG16": VGG16}
    shape = (3, SIDE, SIDE)
    for name in NAMES:
        for quantity, batch_size, train_size in (("batch size 1", 1, 8), ("last batch of one", 4, 9)):
            torch.manual_seed(0)
            model = changed(kinds[name](shape))  # type: ignore[call-arg]
            moved = trains(bench, model, batch_size, train_size)
            bench.record(f"trains, {quantity}", moved, arm=name, expected=1)
        try:
            difference = alone_minus_in_a_batch(bench, model)
        except ValueError:
            difference = float("nan")
        bench.record("alone minus in a batch", difference, arm=name, expected=0)


def trains(bench: "Bench", model: "Classifier", batch_size: int, train_size: int) -> bool:
    """Whether an epoch ends with other weights, all of them numbers."""
    before = weights(model)
    data = bench.data("cifar10", batch_size=batch_size, train_size=train_size)
    try:
        bench.train(model, data)
    except ValueError:  # PyTorch: more than one value wanted
        return False
    after = weights(model)
    return bool(after.isfinite().all() and (after != before).any())


def weights(model: "Classifier") -> "torch.Tensor":
    import torch

    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def alone_minus_in_a_batch(bench: "Bench", model: "Classifier") -> float:
    import torch

    images_NCHW = bench.data("cifar10").test.images_NCHW[:8]
    together = bench.logits(model, images_NCHW)
    alone = torch.cat([bench.logits(model, image_CHW[None]) for image_CHW in images_NCHW])
    return float((together - alone).abs().max())
