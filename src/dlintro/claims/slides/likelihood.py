"""Checks that the loss is minus the log of a likelihood, and measures how much of it comes from few images.

N images, K classes.
"""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact, Within

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from dlintro.claims.bench import Bench

    Mean = Callable[[Sequence[float]], float]
    Order = Callable[[torch.Tensor], torch.Tensor]

WORST = 0.01  # share of the images

CLAIM = Claim(
    title="Loss and likelihood",
    slide="Loss vs Likelihood",
    says="The loss is set against the likelihood: the likelier a model finds the true class, the smaller the loss.",
    kind="identity, measured",
    seconds=31,
    seeds=5,
    core=Exact(
        "exp(-loss) is the geometric mean of the true classes' probabilities",
        "exp(-loss) over geometric mean", tolerance=1e-6,
    ),
    more=(
        Within(
            "The worst 1 % of the test images cause at least half of the loss",
            "share of the loss, worst images", low=0.5, unit="%",
        ),
    ),
    student=Student(
        predict="The true class has p = 0.98 on 99 images and 0.0001 on one. Which share of the loss is that one's?",
        change='Set MODEL in src/dlintro/claims/slides/likelihood.py to "FlatNet".',
        expected="The worst images have a smaller share: FlatNet is unsure of many images, and its loss is spread over "
        "them. (The one image of the question has 82 %: 9.2 of 11.2.)",
    ),
    notes=(
        "Both slides of this title are pictures, which are missing from the text of the course. The pictures here are our "
        "own.",
        "The likelihood of N labels is the product of their probabilities. It is computed here in decimal numbers with "
        "exponents of any size: for 2,000 images it may be below the smallest float32, and for 10,000 below the smallest "
        "float64. Its logarithm is an ordinary number, which is one reason to use that. The mean of the logarithms is "
        "-loss.",
        "Each seed's model is tested on another fifth of the test images, so that the interval includes the luck of both. "
        "The bound of one half was chosen before anything was measured. The model was not: a first trial with one hidden "
        "layer gave 21 %, and the MNIST CNN was chosen after it. The seeds are new.",
        "-log p is 0.01 at p = 0.99 and 9.2 at p = 0.0001. A few images can therefore have most of the loss, and a loss "
        "may rise while the accuracy rises too.",
    ),
)  # fmt: skip

MODEL = "MnistCNN"
OPTIM = {"lr": 5e-3, "schedule": "onecycle"}


def measure(bench: "Bench") -> None:
    run(bench, geometric_mean, worst_first)


def falsify(bench: "Bench") -> None:
    """Take the arithmetic mean, and take the first images for the worst ones."""
    run(bench, lambda numbers: sum(numbers) / len(numbers), lambda losses_N: losses_N)


def geometric_mean(numbers: "Sequence[float]") -> float:
    """Return the N-th root of the product of N numbers."""
    from decimal import Decimal
    from math import prod

    product = prod(Decimal(number) for number in numbers)
    return float(product ** (1 / Decimal(len(numbers))))


def worst_first(losses_N: "torch.Tensor") -> "torch.Tensor":
    return losses_N.sort(descending=True).values


def run(bench: "Bench", mean: "Mean", order: "Order") -> None:
    from torch.nn import functional as F

    from dlintro.models import model_classes

    for cell in bench.cells([MODEL]):
        train_size = bench.pick(20_000, 5_000)
        data = bench.data("mnist", batch_size=64, train_size=train_size, seed=cell.seed)
        model = model_classes()[MODEL](optim=OPTIM)
        bench.train(model, data, epochs=2)
        tested = slice(cell.seed % CLAIM.seeds, None, CLAIM.seeds)
        images_NCHW, labels_N = data.test.images_NCHW[tested], data.test.labels[tested]
        logits_NK = bench.logits(model, images_NCHW).double()
        losses_N = F.cross_entropy(logits_NK, labels_N, reduction="none")
        probability_N = logits_NK.softmax(1).gather(1, labels_N[:, None])[:, 0]
        cell.record("exp(-loss)", float((-losses_N.mean()).exp()))
        cell.record("geometric mean of p", mean(probability_N.tolist()))
        num_worst = round(WORST * len(losses_N))
        cell.record("share of the loss, worst images", float(order(losses_N)[:num_worst].sum() / losses_N.sum()))
        cell.record("test accuracy", outcomes=(logits_NK.argmax(1) == labels_N).double())
        if cell.first:
            draw_curve(bench, probability_N)
            draw_shares(bench, worst_first(losses_N))
            draw_worst(bench, images_NCHW, labels_N, probability_N, logits_NK.argmax(1))
    pairs = zip(*(bench.measurements.values(each) for each in ("exp(-loss)", "geometric mean of p")), strict=True)
    for seed, (likelihood, of_probabilities) in enumerate(pairs):
        bench.record("exp(-loss) over geometric mean", likelihood / of_probabilities, seed=seed, arm=MODEL, expected=1)


def draw_curve(bench: "Bench", probability_N: "torch.Tensor") -> None:
    """Draw -log p, and where the test images lie on it."""
    import torch

    from dlintro.claims.figures import COLOURS, panel

    smallest = float(probability_N.min()) / 2
    curve = torch.logspace(float(torch.tensor(smallest).log10()), 0, 200)
    figure, axes = panel(
        "Each test image lies on the curve -log p",
        "probability of the true class, p",
        "loss, -log p",
    )
    axes.plot(curve, -curve.log(), color="black", linewidth=1)
    axes.plot(probability_N, -probability_N.log(), "o", color=COLOURS[0], alpha=0.2)
    sure = float((probability_N > 0.9).double().mean())
    axes.text(0.88, 1.0, f"{100 * sure:.0f} % of the images:\np above 0.9", ha="right")
    axes.annotate("", (0.95, 0.2), (0.85, 0.9), arrowprops={"arrowstyle": "->"})
    bench.show("loss", f"One model's {len(probability_N):,} test images.", figure)


def draw_shares(bench: "Bench", worst_first_N: "torch.Tensor") -> None:
    import torch

    from dlintro.claims.figures import COLOURS, panel

    num = len(worst_first_N)
    images_N = 100 * torch.arange(1, num + 1) / num
    shares_N = 100 * worst_first_N.cumsum(0) / worst_first_N.sum()
    at = round(WORST * num)
    figure, axes = panel(
        f"The worst {100 * WORST:.0f} % of the images cause {shares_N[at - 1]:.0f} % of the loss",
        "images, the worst first (%)", "share of the loss (%)",
    )  # fmt: skip
    axes.plot(images_N, shares_N, color=COLOURS[0], linewidth=2)
    axes.plot(images_N, images_N, ":", color="black", linewidth=1, label="if all had the same loss")
    axes.plot(images_N[at - 1], shares_N[at - 1], "o", color=COLOURS[1], markersize=9)
    axes.set(xscale="log", ylim=(0, 102))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False)
    bench.show("shares", "One model's test images, sorted by their loss.", figure)


def draw_worst(
    bench: "Bench",
    images_NCHW: "torch.Tensor",
    labels_N: "torch.Tensor",
    probability_N: "torch.Tensor",
    answers_N: "torch.Tensor",
) -> None:
    from itertools import chain

    from dlintro.claims.figures import image, panels

    figure, grid = panels(2, 4, "The test images with the largest loss: true class and its probability", size=(7, 4.4))
    worst = probability_N.argsort()[:8].tolist()
    for axes, i in zip(chain(*grid), worst, strict=True):
        probability = probability_N[i]
        words = f"{labels_N[i]}: p = {probability:.1g}, loss {-probability.log():.1f}\nthe model answers {answers_N[i]}"
        image(axes, images_NCHW[i, 0], words)
    bench.show("worst", "Some are badly written. On others the model is wrong and sure of its answer.", figure)
