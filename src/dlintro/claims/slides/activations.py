"""Checks ReLU, the sigmoid and their gradients, and finds the depth at which the sigmoid's gradients vanish."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.measurements import Measurements
from dlintro.claims.statements import FAILS, HOLDS, NOT_MEASURED, Exact, Finding
from dlintro.claims.statistics import share_interval

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

    Function = Callable[[torch.Tensor], torch.Tensor]

DEPTHS = (1, 2, 4, 6, 8, 10, 12)  # hidden layers
ALWAYS_ONE = 0.1135  # the share of ones among MNIST's test images: what a network scores that always answers 1
GOOD = 0.9


@dataclass(frozen=True)
class Stuck:
    """There is a depth at which at least `at_least` of the sigmoid's runs are stuck (their 99 % interval covers the
    share of ones), while every ReLU run of that depth is above `GOOD`."""

    says: str
    at_least: float = 4 / 5
    falsified: str = ""

    def judge(self, measurements: Measurements) -> Finding:
        depths = [depth for depth in DEPTHS if measurements.of("test accuracy", f"sigmoid, {depth}")]
        if not depths:
            return Finding(self.says, NOT_MEASURED, "")
        seeds = len(measurements.of("test accuracy", f"sigmoid, {depths[0]}"))
        for depth in depths:
            stuck = sum(is_stuck(row.outcomes) for row in measurements.of("test accuracy", f"sigmoid, {depth}"))
            relu = measurements.values("test accuracy", f"ReLU, {depth}")
            if stuck >= self.at_least * seeds - 1e-9 and len(relu) and relu.min() > GOOD:
                words = f"With {depth} hidden layers, {stuck} of {seeds} sigmoid runs score {100 * ALWAYS_ONE:.2f} %, the share "
                words += f"of ones, and ReLU scores {100 * relu.mean():.2f} % (at least {100 * relu.min():.2f} %)."
                return Finding(self.says, HOLDS, words, seeds, float(depth))
        return Finding(self.says, FAILS, f"No such depth was found up to {depths[-1]} hidden layers.", seeds)


def is_stuck(outcomes: tuple[float, ...]) -> bool:
    low, high = share_interval(round(sum(outcomes)), len(outcomes))
    return low <= ALWAYS_ONE <= high


CLAIM = Claim(
    title="ReLU and sigmoid",
    slide="Rectified Linear Unit (ReLU); Sigmoid",
    says="ReLU is a simple and popular activation; the sigmoid squashes values into the range from 0 to 1.",
    kind="identity, measured",
    seconds=230,
    seeds=5,
    core=Stuck("At some depth, sigmoid networks learn nothing while ReLU networks still learn"),
    checks=(
        Exact("ReLU returns no negative number for any of the 65,536 bf16 inputs", "ReLU below zero"),
        Exact("The sigmoid returns nothing outside [0, 1] for any of these inputs", "sigmoid outside [0, 1]"),
        Exact("In float32 the sigmoid is rounded to exactly 1 from an input of about 16.7 on", "first 1", 0.1),
        Exact("Autograd's gradient of ReLU is 1 above zero and 0 elsewhere", "ReLU: worst gradient"),
        Exact("Autograd's gradient of the sigmoid s is s · (1 - s)", "sigmoid: worst gradient", 1e-7),
    ),
    student=Student(
        predict="With how many hidden layers does a sigmoid network stop learning in two epochs?",
        change="Set WIDTH in src/dlintro/claims/slides/activations.py to 16.",
        expected="The sigmoid stops learning at nearly the same depth, because each layer takes at least three quarters "
        "of the gradient, however wide it is. Networks this narrow are harder for ReLU too: some of its deep networks "
        "end below 90 %.",
    ),
    notes=(
        "The curves on these slides are pictures, which are missing from the text of the course. The curves here are "
        "our own.",
        "In mathematics the sigmoid never reaches 0 or 1. Rounded to a floating-point number, it does.",
        "ReLU has no gradient at zero; PyTorch takes 0. Of the 65,536 bit patterns, 254 stand for no number (NaN) and "
        "are left out.",
    ),
)

WIDTH = 64
EPOCHS = 2
OPTIM = {"lr": 2e-3, "schedule": "onecycle"}


def measure(bench: "Bench") -> None:
    import torch

    check(bench, torch.relu, torch.sigmoid)
    train(bench, {"ReLU": "relu", "sigmoid": "sigmoid"})
    draw(bench, torch.relu, torch.sigmoid)


def falsify(bench: "Bench") -> None:
    """ReLU becomes a leaky ReLU, the sigmoid becomes a tanh, and both arms train with ReLU."""
    import torch

    check(bench, torch.nn.functional.leaky_relu, torch.tanh)
    train(bench, {"ReLU": "relu", "sigmoid": "relu"})


def check(bench: "Bench", relu: "Function", sigmoid: "Function") -> None:
    """Tries all bf16 numbers by their 65,536 bit patterns, infinities included and NaN left out."""
    import torch

    numbers = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    numbers = numbers[~numbers.isnan()]
    bench.record("ReLU below zero", int((relu(numbers) < 0).sum()), expected=0)
    squashed = sigmoid(numbers)
    bench.record("sigmoid outside [0, 1]", int(((squashed < 0) | (squashed > 1)).sum()), expected=0)
    steps = torch.arange(0, 20, 0.01)
    bench.record("first 1", float(steps[int((sigmoid(steps) == 1).float().argmax())]), expected=16.7)

    inputs = numbers.double()
    s = 1 / (1 + torch.exp(-inputs))
    for name, function, formula in (("ReLU", relu, (inputs > 0).double()), ("sigmoid", sigmoid, s * (1 - s))):
        apart = (slopes(function, inputs) - formula).abs()
        bench.record(f"{name}: worst gradient", float(apart.max()), expected=0)


def slopes(function: "Function", inputs: "torch.Tensor") -> "torch.Tensor":
    """Return autograd's gradient at each input."""
    import torch

    inputs = inputs.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(function(inputs).sum(), inputs)
    return gradients


def train(bench: "Bench", activations: dict[str, str]) -> None:
    from dlintro.models import FlatNet

    depths = bench.pick(DEPTHS, (1, 10))
    for cell in bench.cells(f"{name}, {depth}" for depth in depths for name in activations):
        name, depth = cell.arm.split(", ")
        data = bench.data("mnist", batch_size=128, seed=cell.seed)
        model = FlatNet(hidden=[WIDTH] * int(depth), activation=activations[name], optim=OPTIM)
        bench.train(model, data, epochs=EPOCHS)
        cell.record("test accuracy", outcomes=bench.correct(model, data.test))


def draw(bench: "Bench", relu: "Function", sigmoid: "Function") -> None:
    import torch

    from dlintro.claims.figures import COLOURS, panel, panels

    figure, (axes,) = panels(1, 2, "ReLU and sigmoid, with their gradients (dashed)", size=(8, 3.6))
    inputs = torch.linspace(-6, 6, 241)
    for plot, name, function in zip(axes, ("ReLU", "sigmoid"), (relu, sigmoid), strict=True):
        plot.plot(inputs, function(inputs), color=COLOURS[0])
        plot.plot(inputs, slopes(function, inputs), "--", color=COLOURS[1])
        plot.set(title=name, xlabel="input", ylabel="output")
        plot.grid(alpha=0.25)
    bench.show(
        "curves", "The two functions and their gradients. The sigmoid's gradient is never above a quarter.", figure
    )

    figure, plot = panel("Deep sigmoid networks stop learning", "hidden layers", "test accuracy (%)")
    for name, colour in (("ReLU", COLOURS[0]), ("sigmoid", COLOURS[1])):
        for depth in DEPTHS:
            values = 100 * bench.measurements.values("test accuracy", f"{name}, {depth}")
            plot.plot([depth] * len(values), values, "o", color=colour, alpha=0.6, label=name if depth == 1 else None)
    plot.axhline(100 * ALWAYS_ONE, color="black", linewidth=0.8, linestyle=":")
    plot.legend(frameon=False)
    bench.show(
        "depth",
        "Each dot is one seed. The dotted line is the score of a network that answers 1 to every image.",
        figure,
    )
