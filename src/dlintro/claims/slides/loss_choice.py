"""Compares losses: cross entropy and squared error for classes, squared and absolute error for numbers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.data import ImageDataModule
    from dlintro.models import Classifier

    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

CROSS_ENTROPY, MSE = "cross entropy", "MSE on one-hot labels"
LOSSES = {CROSS_ENTROPY: "cross_entropy", MSE: "mse"}  # its name in the report -> optim.loss
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # Adam's learning rates, the same for both losses
EPOCHS = (1, 5)
CHOOSING_SEEDS = (100, 101)  # not among the measured seeds
NETWORK, CONSTANT = "network, trained with MSE", "always the mean angle"


def arm(loss: str, epochs: int) -> str:
    return f"{loss}, {epochs} epoch{'s' if epochs > 1 else ''}"


def classifies_better(epochs: int) -> Effect:
    words = f"After {epochs} epoch{'s' if epochs > 1 else ''}, cross entropy classifies MNIST better than MSE"
    return Effect(words, "test accuracy", arm(CROSS_ENTROPY, epochs), arm(MSE, epochs), falsified="holds")


CLAIM = Claim(
    title="Cross entropy or squared error?",
    slide="Training Classifiers",
    says="Regression has continuous values and uses MSE; classification has fixed classes and uses the cross entropy.",
    kind="identity, measured",
    seconds=115,
    seeds=8,
    core=classifies_better(epochs=5),
    stated=(
        Effect(
            "A network trained with MSE reads a digit's rotation with less squared error than the best constant answer",
            "squared error of the angle", more=CONSTANT, less=NETWORK, relative=True, unit="square degrees",
        ),
    ),
    more=(classifies_better(epochs=1),),
    checks=(
        Exact("The mean has the smallest squared error of all constant answers", "best constant, MSE", tolerance=1e-4),
        Exact("The median has the smallest absolute error of all of them", "best constant, L1", tolerance=1e-4),
    ),
    student=Student(
        predict="A network is trained on one-hot labels with MSE, as if classes were numbers. How far behind is it?",
        change="Set RATES in src/dlintro/claims/slides/loss_choice.py to (1e-3,).",
        expected="MSE is ahead, because cross entropy learns more slowly at this rate. Tune both losses before you compare "
        "them.",
    ),
    notes=(
        "Each loss has the learning rate that is best on the validation images after as many epochs. The test set is only "
        "reported.",
        "With n = 8, cross entropy was ahead by less than a point here. MSE does learn to classify. Hui & Belkin (2020, "
        "arXiv 2006.07322) tuned both equally and found MSE as good or better in language and speech, and cross entropy "
        "slightly ahead in vision.",
        "The angles, 0 to 60 degrees, are skewed on purpose: their mean is 20 and their median is 15. With evenly spread "
        "angles, MSE and L1 would have the same best constant. The slides name only MSE; L1 stands beside it to show what "
        "a loss asks for.",
    ),
)  # fmt: skip

LARGEST_ANGLE = 60.0  # degrees
ANGLE_SEED = 20_240_229
DRAWS, ANGLES_IN_A_DRAW = 20, 1_001  # an odd number of angles has one median
ANGLE_RATE = 1e-2
TEST_ANGLES = 2_000


def measure(bench: "Bench") -> None:
    import torch.nn.functional as F

    classify(bench, {CROSS_ENTROPY: RATES, MSE: RATES})
    best_constants(bench, {"MSE": F.mse_loss, "L1": F.l1_loss})
    read_angles(bench, ANGLE_RATE)


def falsify(bench: "Bench") -> None:
    """MSE trains at rate 0, so its differences, which are small in truth, must be found here. The two losses of
    numbers are exchanged, and the network doesn't learn angles."""
    import torch.nn.functional as F

    classify(bench, {CROSS_ENTROPY: RATES, MSE: (0.0,) * len(RATES)})
    best_constants(bench, {"MSE": F.l1_loss, "L1": F.mse_loss})
    read_angles(bench, 0.0)


def classify(bench: "Bench", rates: dict[str, tuple[float, ...]]) -> None:
    """Train an MLP on MNIST with the rate that validation prefers for this loss and this many epochs."""
    arms = {arm(name, epochs): (name, epochs) for epochs in EPOCHS for name in LOSSES}
    chosen = {each: choose_rate(bench, name, epochs, rates[name]) for each, (name, epochs) in arms.items()}
    for cell in bench.cells(arms):
        name, epochs = arms[cell.arm]
        model, data = train(bench, LOSSES[name], chosen[cell.arm], epochs, cell.seed)
        cell.record("test accuracy", outcomes=bench.correct(model, data.test))
    draw_rates(bench)


def choose_rate(bench: "Bench", name: str, epochs: int, rates: tuple[float, ...]) -> float:
    """Return the rate with the best mean validation accuracy of a few runs."""
    accuracies = []
    seeds = bench.pick(CHOOSING_SEEDS, CHOOSING_SEEDS[:1])
    for said, rate in zip(RATES, rates, strict=True):
        bench.progress(f"{name}, rate {rate:g}")
        runs = [train(bench, LOSSES[name], rate, epochs, seed) for seed in seeds]
        accuracies.append(sum(float(bench.correct(model, data.val).mean()) for model, data in runs) / len(runs))
        bench.record("validation accuracy", accuracies[-1], arm=f"{arm(name, epochs)}, rate {said:g}")
    best = rates[accuracies.index(max(accuracies))]
    bench.record("rate chosen", best, arm=f"{arm(name, epochs)}, all rates")
    return best


def train(bench: "Bench", loss: str, rate: float, epochs: int, seed: int) -> "tuple[Classifier, ImageDataModule]":
    import lightning as L

    from dlintro.models import FlatNet

    L.seed_everything(seed, verbose=False)
    data = bench.data("mnist", batch_size=128, train_size=bench.pick(20_000, 3_000), seed=seed)
    model = FlatNet(hidden=[128], optim={"lr": rate, "schedule": "onecycle", "loss": loss})
    bench.train(model, data, epochs=epochs)
    return model, data


def skewed_angles(num: int, seed: int = ANGLE_SEED) -> "torch.Tensor":
    """Return angles in degrees, float64 (num,): 60 u² for uniform u in [0, 1], so that small angles are more common."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return LARGEST_ANGLE * torch.rand(num, generator=generator, dtype=torch.float64).square()


def best_constants(bench: "Bench", losses: "dict[str, Loss]") -> None:
    """Search all constant answers, without knowing about means and medians."""
    from scipy.optimize import minimize_scalar

    for draw in range(DRAWS):
        angles_N = skewed_angles(ANGLES_IN_A_DRAW, draw)
        expected = {"MSE": float(angles_N.mean()), "L1": float(angles_N.median())}
        for name, loss in losses.items():

            def of_constant(constant: float, loss: "Loss" = loss, angles_N: "torch.Tensor" = angles_N) -> float:
                return float(loss(angles_N.new_full(angles_N.shape, constant), angles_N))

            found = minimize_scalar(of_constant, bounds=(0, LARGEST_ANGLE), method="bounded", options={"xatol": 1e-9})
            bench.record(f"best constant, {name}", found.x, arm=f"draw {draw}", expected=expected[name])
    draw_constants(bench)


def turned(images_NCHW: "torch.Tensor") -> "torch.Tensor":
    """Turn image k counterclockwise by the k-th angle, bilinear, with black outside."""
    import torch
    import torch.nn.functional as F

    parts = []
    for part_NCHW, degrees_N in zip(
        images_NCHW.split(5_000), skewed_angles(len(images_NCHW)).float().split(5_000), strict=True
    ):
        cos_N, sin_N, zero_N = degrees_N.deg2rad().cos(), degrees_N.deg2rad().sin(), torch.zeros(len(degrees_N))
        rows = [torch.stack([cos_N, -sin_N, zero_N], 1), torch.stack([sin_N, cos_N, zero_N], 1)]
        grid = F.affine_grid(torch.stack(rows, 1), list(part_NCHW.shape), align_corners=False)
        parts.append(F.grid_sample(part_NCHW.float(), grid, align_corners=False).round().to(torch.uint8))
    return torch.cat(parts)


def angle_data(bench: "Bench", seed: int) -> "ImageDataModule":
    """Return MNIST's images, turned; each image's label is its angle in degrees."""
    data = bench.data("mnist", change=turned, batch_size=64, train_size=bench.pick(10_000, 2_000), seed=seed)
    for part in (data.train, data.val, data.test):
        part.labels_N = skewed_angles(len(part.labels_N)).float()
    return data


def read_angles(bench: "Bench", rate: float) -> None:
    """Measure the squared error of each test image, for a network with one output and for the mean training angle."""
    import torch.nn.functional as F

    from dlintro.models import FlatNet

    for cell in bench.cells([NETWORK, CONSTANT]):
        data = angle_data(bench, cell.seed)
        angles_N = data.test.labels[:TEST_ANGLES]
        if cell.arm == CONSTANT:
            cell.record("squared error of the angle", outcomes=(data.train.labels.mean() - angles_N).square())
            continue
        model = FlatNet(num_classes=1, hidden=[256], optim={"lr": rate, "schedule": "onecycle", "loss": "mse"})
        # For binary cross entropy, the models turn one output into two logits; the second logit is the output.
        model.loss = lambda outputs_B2, angles_B: F.mse_loss(outputs_B2[:, 1], angles_B)
        bench.train(model, data, epochs=bench.pick(4, 3))
        said_N = bench.logits(model, data.test.images_NCHW[:TEST_ANGLES])[:, 1]
        cell.record("squared error of the angle", outcomes=(said_N - angles_N).square())
        if cell.first:
            draw_angles(bench, data.test.images_NCHW, angles_N, said_N)


def draw_rates(bench: "Bench") -> None:
    from dlintro.claims.figures import COLOURS, panels

    figure, (plots,) = panels(1, len(EPOCHS), "Each loss has its own best learning rate", size=(9, 3.8), share=True)
    for plot, epochs in zip(plots, EPOCHS, strict=True):
        for name, colour in zip(LOSSES, COLOURS, strict=False):
            arms = [f"{arm(name, epochs)}, rate {rate:g}" for rate in RATES]
            values = [100 * float(bench.measurements.values("validation accuracy", each).mean()) for each in arms]
            plot.semilogx(RATES, values, "o-", color=colour, label=name)
            plot.plot(RATES[values.index(max(values))], max(values), "o", color=colour, markersize=12, fillstyle="none")
        plot.set(title=f"{epochs} epoch{'s' if epochs > 1 else ''}", xlabel="learning rate")
        plot.grid(alpha=0.25)
    plots[0].set_ylabel("validation accuracy (%)")
    plots[0].legend(frameon=False)
    bench.show(
        "rates", "Mean validation accuracy of the runs that choose the rate. A ring marks the chosen rate.", figure
    )


def draw_constants(bench: "Bench") -> None:
    """Draw both losses of every constant, each relative to its smallest value so that they share an axis."""
    import torch

    from dlintro.claims.figures import COLOURS, panel

    angles_N = skewed_angles(ANGLES_IN_A_DRAW, 0)
    constants_K = torch.linspace(5, 35, 301, dtype=torch.float64)
    errors_KN = constants_K[:, None] - angles_N
    figure, axes = panel(
        "MSE asks for the mean, L1 for the median", "constant answer (degrees)", "loss / smallest loss"
    )
    for name, losses_K, colour in (
        ("squared error", errors_KN.square().mean(1), COLOURS[0]),
        ("absolute error", errors_KN.abs().mean(1), COLOURS[1]),
    ):
        axes.plot(constants_K, losses_K / losses_K.min(), color=colour, label=name)
    for name, value, colour, side in (
        ("mean", float(angles_N.mean()), COLOURS[0], "left"),
        ("median", float(angles_N.median()), COLOURS[1], "right"),
    ):
        axes.axvline(value, color=colour, linestyle="--")
        axes.text(value, 1.4, f" {name} {value:.1f}° ", color=colour, ha=side)
    axes.legend(frameon=False, loc="upper center")
    bench.show(
        "constants",
        "For 1,001 skewed angles, the squared error is smallest at their mean and the absolute error at their median.",
        figure,
    )


def draw_angles(bench: "Bench", images_NCHW: "torch.Tensor", angles_N: "torch.Tensor", said_N: "torch.Tensor") -> None:
    from itertools import chain

    from dlintro.claims.figures import image, panels

    figure, grid = panels(
        2, 5, "The network answers with a number: by how many degrees was the digit turned?", size=(8, 4.4)
    )
    cells = zip(chain(*grid), images_NCHW, angles_N, said_N, strict=False)
    for axes, pixels_CHW, angle, said in cells:
        image(axes, pixels_CHW[0], f"turned {angle:.0f}°\nnetwork says {said:.0f}°")
    bench.show("angles", "The first test images with their angles and the network's answers.", figure)
