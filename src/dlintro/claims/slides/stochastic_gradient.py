"""The gradient of a batch is that of all the data plus noise, which shrinks with the batch size."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact, Within

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.data.loader import Images
    from dlintro.models import Classifier

MOMENTS = (0, 50, 300)  # training steps after which the gradients are taken
SIZES = tuple(2**power for power in range(11))  # 1 to 1,024
DRAWS = 400

CLAIM = Claim(
    title="Stochastic gradient descent",
    slide="Stochastic Gradient Descent",
    says="Instead of the gradient over all the data, the gradient over a batch is taken: this is stochastic.",
    kind="identity, measured",
    seconds=5,
    seeds=5,
    core=Exact(
        "The batches' gradients, averaged with their sizes as weights, are the full gradient",
        "weighted mean", tolerance=1e-12,
    ),
    more=(
        Within("The noise of one image's gradient is larger than the gradient itself", "noise scale after 50 steps", low=1, geometric=True),
    ),
    checks=(
        Exact("Their plain average is not, if the last batch is smaller", "the plain mean differs"),
        *(
            # A theorem: chance moves the slope of a correct computation by about 0.001, so none leaves this band.
            Count(
                f"After {moment} training steps, the gradient's variance falls as one over the batch size (log slope -1)",
                f"slope after {moment} steps", beyond=-1.05, below=-0.95,
            )
            for moment in MOMENTS
        ),
    ),
    student=Student(
        predict="By how much does the noise of the gradient (its standard deviation) shrink from batch 16 to batch 64?",
        change="Set DRAWS in src/dlintro/claims/slides/stochastic_gradient.py to 20.",
        expected="The noise shrinks by half, because the variance shrinks to a quarter. With 20 draws the "
        "variances are less exact, and the slopes scatter more around -1.",
    ),
    notes=(
        "Batches are drawn with replacement here. Without replacement, as in training, the variance is (N - B) / (N - 1) "
        "of that: an epoch's batches together have no noise.",
        "The noise scale (McCandlish et al. 2018, arXiv 1812.06162) is the noise's trace divided by the squared gradient. "
        "Beyond about this batch size, larger batches mostly average away noise that is already small.",
    ),
)  # fmt: skip

TRAIN_IMAGES = 1_000
LAST = 40  # images in the last, smaller batch


def measure(bench: "Bench") -> None:
    average(bench, weights_of=lambda sizes: [size / sum(sizes) for size in sizes])
    scatter(bench, sizes_drawn=SIZES)


def falsify(bench: "Bench") -> None:
    """Average without weights, also on batches of equal size. Draw 16 images whatever the batch size, and take the noise
    from one batch that is drawn again and again."""
    average(bench, weights_of=lambda sizes: [1 / len(sizes)] * len(sizes))
    average(bench, weights_of=lambda sizes: [1 / len(sizes)] * len(sizes), num_images=960)
    scatter(bench, sizes_drawn=(16,) * len(SIZES), always_the_same=True)


def average(bench: "Bench", weights_of: Callable[[Sequence[int]], list[float]], num_images: int = 960 + LAST) -> None:
    """Compare the gradients of an epoch's batches of 96 with that of all its images, in float64."""
    import torch

    from dlintro.models import FlatNet

    torch.manual_seed(0)
    data = bench.data("mnist", train_size=num_images, batch_size=96)
    model = FlatNet().double()
    whole = gradient(model, *data.train.__getitems__(list(range(num_images))))
    batches = [gradient(model, *batch) for batch in data.train_dataloader()]
    sizes = [len(labels_B) for _, labels_B in data.train_dataloader()]
    weighted = sum(weight * batch for weight, batch in zip(weights_of(sizes), batches, strict=True))
    plain = sum(batches) / len(batches)
    scale = float(whole.abs().max())
    bench.record("weighted mean", float((weighted - whole).abs().max()) / scale, expected=0)
    bench.record("the plain mean differs", float((plain - whole).abs().max()) / scale > 1e-6, expected=1)


def gradient(model: "Classifier", images_BCHW: "torch.Tensor", labels_B: "torch.Tensor") -> "torch.Tensor":
    """Return the gradient of the batch's mean loss, all parameters in one row, in the model's precision."""
    import torch

    pixels_BCHW = model.pixels(images_BCHW).to(next(model.parameters()).dtype)
    loss = model.loss(model.network(pixels_BCHW), labels_B)
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def scatter(bench: "Bench", sizes_drawn: Sequence[int], always_the_same: bool = False) -> None:
    """Measure how far the gradients of random batches are from the full one, at three moments of a training."""
    from dlintro.models import FlatNet

    for cell in bench.cells(["FlatNet"]):
        data = bench.data("mnist", train_size=TRAIN_IMAGES, batch_size=64, seed=cell.seed)
        model = FlatNet(optim={"name": "sgd", "lr": 0.02, "momentum": 0.0, "schedule": "none"})
        steps_done = 0
        for moment in MOMENTS:
            if moment > steps_done:
                bench.train(model, data, steps=moment - steps_done)
                steps_done = moment
            variances = spread(model, data.train, sizes_drawn, DRAWS)
            for size, variance in zip(SIZES, variances, strict=True):
                cell.record(f"variance after {moment} steps, batch {size}", variance)
            cell.record(f"slope after {moment} steps", slope(variances))
            cell.record(f"noise scale after {moment} steps", noise_scale(model, data.train, always_the_same))
    draw(bench)


def spread(model: "Classifier", train: "Images", sizes: Sequence[int], draws: int) -> list[float]:
    """Return, for each batch size, the mean squared distance of a random batch's gradient from the full one. It follows
    from the inner products of the images' gradients, which are (p - y) xᵀ for FlatNet."""
    import torch

    images_NCHW, labels_N = train.__getitems__(list(range(len(train))))
    with torch.no_grad():
        pixels_ND = model.pixels(images_NCHW).flatten(1).double()
        probabilities_NK = model.network(pixels_ND.float()).double().softmax(1)
    errors_NK = probabilities_NK - torch.nn.functional.one_hot(labels_N, model.num_classes)
    products_NN = (errors_NK @ errors_NK.T) * (pixels_ND @ pixels_ND.T + 1)  # + 1 for the bias, whose input is one
    variances = []
    for size in sizes:
        rows_DB = torch.randint(len(train), (draws, size))
        shares_DN = torch.zeros(draws, len(train), dtype=torch.float64)
        shares_DN.scatter_add_(1, rows_DB, torch.full(rows_DB.shape, 1 / size, dtype=torch.float64))
        apart_DN = shares_DN - 1 / len(train)
        variances.append(float(((apart_DN @ products_NN) * apart_DN).sum(1).mean()))
    return variances


def noise_scale(model: "Classifier", train: "Images", always_the_same: bool) -> float:
    """Return the noise scale by the project's formula, from 32 batches of 64 images drawn with replacement."""
    import torch

    from dlintro.callbacks.noise_scale import MOST_PARTS, SMALL, noise_and_gradient

    rows_PB = torch.randint(len(train), (MOST_PARTS, SMALL))
    if always_the_same:
        rows_PB = rows_PB[:1].expand(MOST_PARTS, SMALL)
    gradients = ([gradient(model, *train.__getitems__(rows_B.tolist()))] for rows_B in rows_PB)
    trace, gradient_squared = noise_and_gradient(gradients, SMALL)
    return trace / gradient_squared


def slope(variances: Sequence[float]) -> float:
    import numpy as np
    from scipy.stats import linregress

    return float(linregress(np.log(SIZES), np.log(variances)).slope)


def draw(bench: "Bench") -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("Twice the batch, half the variance", "batch size", "variance of the gradient")
    for moment, colour in zip(MOMENTS, COLOURS, strict=False):
        means = [bench.measurements.values(f"variance after {moment} steps, batch {size}").mean() for size in SIZES]
        axes.loglog(SIZES, means, "o-", color=colour, label=f"after {moment} steps")
        axes.loglog(SIZES, [means[0] / size for size in SIZES], ":", color=colour)
    axes.legend(frameon=False)
    bench.show("variance", "Mean over the seeds. The dotted lines fall exactly as one over the batch size.", figure)

    title = "The better the model fits, the more of its gradient is noise"
    figure, axes = panel(title, "training steps", "noise scale (images)")
    for position, moment in enumerate(MOMENTS):
        scales = bench.measurements.values(f"noise scale after {moment} steps")
        axes.plot([position] * len(scales), scales, "o", color=COLOURS[position], alpha=0.6)
        axes.plot([position - 0.2, position + 0.2], [scales.mean()] * 2, color="black")
    axes.set_xticks(range(len(MOMENTS)), [str(moment) for moment in MOMENTS])
    axes.set(yscale="log", xlim=(-0.5, len(MOMENTS) - 0.5))
    bench.show("noise_scale", "Each dot is one seed, and the line is their mean.", figure)
