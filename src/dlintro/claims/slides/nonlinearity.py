"""Linear layers make straight lines, however many there are, and an activation between them bends the lines."""

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from dlintro.claims.claim import FIRST_SEED, Claim, Student
from dlintro.claims.statements import Count, Effect, Equal, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

POINTS = ((0, 0), (0, 1), (1, 0), (1, 1))
XOR, AND = (0, 1, 1, 0), (0, 0, 0, 1)
WIDTH = 128
ONE = "1 linear layer"
DEPTHS: dict[str, list[int]] = {ONE: []} | {f"{depth} linear layers": [WIDTH] * (depth - 1) for depth in (2, 4, 8)}
RELU = "2 layers, ReLU"
RATES = {1: 7e-3, 2: 2e-3, 4: 1.5e-3, 8: 1e-3}  # number of layers -> rate, chosen on validation

CLAIM = Claim(
    title="Why non-linearity?",
    slide="Why Non-Linearity?",
    says="Linear layers can only make straight lines; without activations it doesn't matter how many layers there are. "
    "XOR shows it.",
    kind="identity, measured",
    seconds=110,
    seeds=8,
    core=Effect("Two layers with a ReLU between them classify MNIST better than one", "test accuracy", RELU, ONE),
    stated=(
        Count("8 hidden ReLU units solve XOR", "XOR solved, relu", beyond=1, at_least=17 / 20),
        Count("8 hidden sigmoid units solve XOR", "XOR solved, sigmoid", beyond=1, at_least=17 / 20),
        *(Equal(f"{name} classify MNIST as well as one", "test accuracy", name, ONE) for name in list(DEPTHS)[1:]),
    ),
    checks=(
        Exact("A straight line separates 14 of the 16 labelings of four points", "labelings that a line separates"),
        Exact("The two others are XOR and its opposite", "XOR is one of the others"),
        Count("Logistic regression on XOR answers 0.5 everywhere", "XOR, linear: farthest from 0.5", below=1e-3),
        Exact("8 linear layers fold into one matrix", "stack minus folded matrix", tolerance=1e-10),
    ),
    student=Student(
        predict="How much better do eight linear layers, 128 wide, classify MNIST than one?",
        change="Set WIDTH in src/dlintro/claims/slides/nonlinearity.py to 4.",
        expected="They classify worse than one layer: only four numbers are left in the middle, so the folded matrix has "
        "rank 4.",
    ),
    notes=(
        "Deep linear networks can represent no more than one layer, but gradient descent takes another way there. Each "
        "depth has the learning rate that is best on the validation images. With one rate for all, one layer would be a "
        "point behind after these few steps.",
    ),
)


def measure(bench: "Bench") -> None:
    enumerate_labelings(bench, POINTS)
    learn_xor(bench, regress_on=XOR, hidden=[8])
    fold(bench, "identity")
    learn_mnist(bench, DEPTHS | {RELU: [WIDTH]})


def falsify(bench: "Bench") -> None:
    """Four points lie on one line, AND (which a line separates) replaces XOR, and there are no hidden units. A ReLU stands
    between the folded layers, the deep networks have bottlenecks, and the arm called ReLU has no activation."""
    enumerate_labelings(bench, ((0, 0), (1, 1), (2, 2), (3, 3)))
    learn_xor(bench, regress_on=AND, hidden=[])
    fold(bench, "relu")
    narrow = {name: [2] * len(hidden) for name, hidden in DEPTHS.items()}
    learn_mnist(bench, narrow | {RELU: [2]}, activation="identity")


def enumerate_labelings(bench: "Bench", points: Sequence[tuple[int, int]]) -> None:
    """Find the labelings with all ones on one side of a line; a linear programme answers exactly for each."""
    import numpy as np
    from scipy.optimize import linprog

    separated = []
    for labels in product((0, 1), repeat=len(points)):
        signs = 2 * np.array(labels) - 1
        rows = -signs[:, None] * np.column_stack([points, np.ones(len(points))])  # signs · (w x + b) is 1 or more
        separated.append(linprog(np.zeros(3), A_ub=rows, b_ub=-np.ones(len(points)), bounds=(None, None)).success)
    bench.record("labelings that a line separates", sum(separated), expected=14)
    others = [labels for labels, found in zip(product((0, 1), repeat=4), separated, strict=True) if not found]
    bench.record("XOR is one of the others", others == [XOR, tuple(1 - label for label in XOR)], expected=1)


def learn_xor(bench: "Bench", regress_on: Sequence[int], hidden: list[int]) -> None:
    """Train FlatNet from twenty starts on the four points, each an image of two pixels; each step sees all four."""
    import torch

    from dlintro.models import FlatNet

    points_N112 = torch.tensor(POINTS, dtype=torch.float32).view(4, 1, 1, 2)
    labels_N = torch.tensor(XOR)
    for seed in range(FIRST_SEED, FIRST_SEED + 20):
        torch.manual_seed(seed)
        # Plain gradient descent rests in the only minimum; Adam's steps grow again where gradients vanish.
        regression = FlatNet((1, 1, 2), 2, optim={"name": "sgd", "lr": 0.5, "momentum": 0.0})
        apart_N = descend(regression, points_N112, torch.tensor(regress_on), steps=2_000) - 0.5
        bench.record("XOR, linear: farthest from 0.5", float(apart_N.abs().max()), seed=seed)
        for activation in ("relu", "sigmoid"):
            torch.manual_seed(seed)
            model = FlatNet((1, 1, 2), 2, hidden=hidden, activation=activation, optim={"lr": 0.05})
            said_N = descend(model, points_N112, labels_N, steps=600) > 0.5
            bench.record(f"XOR solved, {activation}", bool((said_N == (labels_N == 1)).all()), seed=seed)
            if seed == FIRST_SEED and activation == "relu":
                draw_xor(bench, model)


def descend(model: "Classifier", inputs: "torch.Tensor", targets: "torch.Tensor", steps: int) -> "torch.Tensor":
    """Train the model on all inputs at once, and return the probabilities of class 1: (N,)."""
    from dlintro.models.optim import make_optimizer

    optimizer = make_optimizer(model.optim, model.parameters(), model.optim.lr, fused=True)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model.network(inputs), targets).backward()
        optimizer.step()
    probabilities_N: torch.Tensor = model.network(inputs).detach().softmax(1)[:, 1]
    return probabilities_N


def fold(bench: "Bench", activation: str) -> None:
    """Multiply eight layers' weights into one matrix, in float64, and compare its results with the layers'."""
    import torch

    from dlintro.models import FlatNet

    torch.manual_seed(0)
    network = FlatNet(hidden=[WIDTH] * 7, activation=activation).double().network
    weights = torch.eye(784, dtype=torch.float64)
    bias = torch.zeros(784, dtype=torch.float64)
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            weights, bias = layer.weight @ weights, layer.weight @ bias + layer.bias
    inputs = torch.randn(100, 784, dtype=torch.float64)
    difference = network(inputs.view(100, 1, 28, 28)) - torch.nn.functional.linear(inputs, weights, bias)
    bench.record("stack minus folded matrix", float(difference.detach().abs().max()), expected=0)


def learn_mnist(bench: "Bench", arms: dict[str, list[int]], activation: str = "relu") -> None:
    from dlintro.claims.figures import dots
    from dlintro.models import FlatNet

    for cell in bench.cells(arms):
        data = bench.data("mnist", batch_size=128, train_size=bench.pick(20_000, 3_000), seed=cell.seed)
        rate = RATES[len(arms[cell.arm]) + 1]
        kind = activation if cell.arm == RELU else "identity"
        model = FlatNet(hidden=arms[cell.arm], activation=kind, optim={"lr": rate, "schedule": "onecycle"})
        bench.train(model, data, epochs=bench.pick(4, 2))
        cell.record("test accuracy", outcomes=bench.correct(model, data.test))
    title = "One to eight linear layers, and two layers with a ReLU between them"
    bench.show(
        "depth",
        "Each dot is one seed, and the line is their mean.",
        dots(bench.measurements, "test accuracy", title, "test accuracy (%)", 100),
    )


def draw_xor(bench: "Bench", model: "Classifier") -> None:
    """Draw what a network with 8 hidden units answers at every point of the plane."""
    import numpy as np
    import torch

    from dlintro.claims.figures import panel

    side = np.linspace(-0.5, 1.5, 101)
    plane = torch.tensor(np.stack(np.meshgrid(side, side), axis=-1), dtype=torch.float32)
    with torch.no_grad():
        probability = model.network(plane.view(-1, 1, 1, 2)).softmax(1)[:, 1].view(101, 101)
    figure, axes = panel("XOR: 8 hidden ReLU units bend the line", "first input", "second input", size=(4.8, 4.2))
    shown = axes.contourf(side, side, probability, levels=20, cmap="RdBu_r", vmin=0, vmax=1)
    figure.colorbar(shown, label="probability of 1")
    for point, label in zip(POINTS, XOR, strict=True):
        axes.text(*point, str(label), ha="center", va="center", fontsize=14, bbox={"boxstyle": "circle", "fc": "white"})
    bench.show(
        "xor",
        "The probability of a 1 after training, from blue (0) to red (1), and the four points with their labels.",
        figure,
    )
