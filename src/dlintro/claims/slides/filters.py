"""What the filters of a first layer become when a network learns: detectors of edges and of changes of colour."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

    Detector = Callable[[torch.Tensor], torch.Tensor]

INITIAL, TRAINED = "initial", "trained"

CLAIM = Claim(
    number=9,
    title="Filters find edges and changes of colour",
    slide="Convolution Operation",
    says="Filters move over the image and extract features such as edges and changes of colour.",
    kind="identity, measured",
    seconds=60,
    seeds=5,
    statements=(
        Exact(
            "a Sobel filter peaks at the edge, to one pixel, in 36 images of edges", "distance to the edge", tolerance=1
        ),
        Effect(
            "learnt filters hold more of a first derivative than untrained ones",
            "share of first derivatives",
            TRAINED,
            INITIAL,
            worth=0.05,
            relative=True,
            unit="%",
        ),
        Effect(
            "learnt filters hold more of a difference of colours",
            "share of colour differences",
            TRAINED,
            INITIAL,
            worth=0.05,
            relative=True,
            unit="%",
        ),
    ),
    student=Student(
        predict="Which filters of the trained network find upright edges? Point at them in the picture.",
        change="EPOCHS in src/dlintro/claims/slides/filters.py, to 1",
        expected="The filters hardly leave their random start, and the shares hardly grow.",
    ),
    notes=(
        "The share is that of a filter's energy (squared weights, mean taken out for the derivatives) in the plane of a bump's first derivatives, or in weights whose three colours add up to zero.",
    ),
)

EPOCHS = 8
KERNEL = 5


def measure(bench: "Bench") -> None:
    find_edges(bench, sobel)
    learn(bench, learning_rate=3e-3)


def falsify(bench: "Bench") -> None:
    """A blur in the Sobel filter's place, and a network that doesn't learn."""
    find_edges(bench, blur)
    learn(bench, learning_rate=0.0)


def sobel(images_NHW: "torch.Tensor") -> "torch.Tensor":
    """The strength of the edge at each pixel."""
    import torch

    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    filters = torch.stack([across, across.T])[:, None]
    padded = torch.nn.functional.pad(images_NHW[:, None], [1] * 4, mode="replicate")
    strength_NHW: torch.Tensor = torch.nn.functional.conv2d(padded, filters).norm(dim=1)
    return strength_NHW


def blur(images_NHW: "torch.Tensor") -> "torch.Tensor":
    import torch

    padded = torch.nn.functional.pad(images_NHW[:, None], [1] * 4, mode="replicate")
    return torch.nn.functional.conv2d(padded, torch.full((1, 1, 3, 3), 1 / 9))[:, 0]


def find_edges(bench: "Bench", detector: "Detector") -> None:
    """Half-planes at 36 angles; the edge goes through the middle."""
    import math

    import torch

    rows, columns = torch.meshgrid(torch.arange(33) - 16.0, torch.arange(33) - 16.0, indexing="ij")
    for degrees in range(0, 360, 10):
        angle = math.radians(degrees)
        distance_HW = columns * math.cos(angle) + rows * math.sin(angle)
        strength_HW = detector((distance_HW > 0).float()[None])[0]
        peak = int(strength_HW[4:-4, 4:-4].argmax())
        row, column = 4 + peak // 25, 4 + peak % 25
        bench.record("distance to the edge", float(distance_HW[row, column].abs()), arm=f"{degrees}°", expected=0)


def learn(bench: "Bench", learning_rate: float) -> None:
    from dlintro.models import MnistCNN

    for cell in bench.cells([TRAINED, INITIAL], twice=[INITIAL]):
        data = bench.data("cifar10", batch_size=64, train_size=bench.pick(5_000, 1_000), seed=cell.seed)
        model = MnistCNN(data.image_shape, optim={"lr": learning_rate, "schedule": "onecycle"})
        before_OCHW = first_filters(model)
        if cell.arm == TRAINED:
            bench.train(model, data, epochs=bench.pick(EPOCHS, 2))
        filters_OCHW = first_filters(model)
        cell.record("share of first derivatives", outcomes=share_of_derivatives(filters_OCHW))
        cell.record("share of colour differences", outcomes=share_of_colours(filters_OCHW))
        if cell.arm == TRAINED and cell.seed == 0:
            draw(bench, before_OCHW, filters_OCHW)


def first_filters(model: "torch.nn.Module") -> "torch.Tensor":
    import torch

    first = next(layer for layer in model.modules() if isinstance(layer, torch.nn.Conv2d))
    return first.weight.detach().cpu().clone()


def share_of_derivatives(filters_OCHW: "torch.Tensor") -> "torch.Tensor":
    """Of each filter's energy without its mean, that along the two first derivatives of a bump: (O,)."""
    import torch

    side = torch.arange(KERNEL) - (KERNEL - 1) / 2
    bump = torch.exp(-(side[:, None] ** 2 + side[None] ** 2) / 4)
    across, down = bump * side[None], bump * side[:, None]
    basis_2P = torch.stack([across / across.norm(), down / down.norm()]).flatten(1)
    planes_OCP = filters_OCHW.flatten(2)
    planes_OCP = planes_OCP - planes_OCP.mean(2, keepdim=True)
    return (planes_OCP @ basis_2P.T).square().sum((1, 2)) / planes_OCP.square().sum((1, 2))


def share_of_colours(filters_OCHW: "torch.Tensor") -> "torch.Tensor":
    """Of each filter's energy, that of the differences from the mean of its colours: (O,)."""
    apart = filters_OCHW - filters_OCHW.mean(1, keepdim=True)
    return apart.square().sum((1, 2, 3)) / filters_OCHW.square().sum((1, 2, 3))


def draw(bench: "Bench", before_OCHW: "torch.Tensor", after_OCHW: "torch.Tensor") -> None:
    from itertools import chain

    from dlintro.claims.figures import image, panels

    figure, grid = panels(4, 8, "The 16 filters of the first layer, before (above) and after training", size=(8, 4.6))
    for number, axes in enumerate(chain(*grid)):
        pixels_CHW = (before_OCHW if number < 16 else after_OCHW)[number % 16]
        scaled = (pixels_CHW - pixels_CHW.min()) / (pixels_CHW.max() - pixels_CHW.min())
        image(axes, scaled.permute(1, 2, 0), str(number % 16))
    bench.show("filters", "Weights as colours, each filter on its own scale.", figure)
