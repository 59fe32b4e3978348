"""Compares autograd's gradients with the slopes found by changing each number a little."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

    Loss = Callable[[], torch.Tensor]
    Place = tuple[int, ...]

CLAIM = Claim(
    title="Autograd",
    slide="PyTorch",
    says="PyTorch has autograd: it differentiates what a model computes.",
    kind="identity",
    seconds=3,
    core=Exact(
        "Autograd agrees with finite differences in all three models (error relative to the largest slope)",
        "gradient minus difference", tolerance=1e-6,
    ),
    checks=(
        Exact(
            "FlatNet's gradient is (p - y) xᵀ, as one works it out on paper",
            "gradient minus (p - y) xᵀ", tolerance=1e-12,
        ),
    ),
    student=Student(
        predict="How many times must FlatNet be evaluated to find its 7,850 slopes by finite differences?",
        change="Set STEP in src/dlintro/claims/slides/autograd.py to 1e-1, and then to 1e-13.",
        expected="Each slope takes two evaluations, so 15,700 are needed. Both steps fail: the large one misses the slope "
        "at the point, and the small one drowns in rounding errors.",
    ),
    notes=(
        "The check computes in float64. In float32 a step of 1e-7 leaves no digit right, and the best step leaves four "
        "or five.",
        "y is 1 for the true class and 0 for the others, p is the softmax of the results, and x holds the pixels. The "
        "gradient of a batch is the mean over its images.",
    ),
)  # fmt: skip

STEP = 1e-7
SLOPES = 24  # checked in each model, drawn at random; the largest slope is checked too
NUM_IMAGES = 2


def measure(bench: "Bench") -> None:
    compare(bench, scale=1.0)


def falsify(bench: "Bench") -> None:
    """The gradients are one percent too large."""
    compare(bench, scale=1.01)


def compare(bench: "Bench", scale: float) -> None:
    import torch

    from dlintro.models import VGG16, FlatNet, MnistCNN

    torch.manual_seed(0)
    images_BCHW, labels_B = bench.data("mnist").train.__getitems__(list(range(NUM_IMAGES)))
    for model in (FlatNet(), MnistCNN(), VGG16((1, 28, 28))):
        # Evaluation mode: in training mode batch norm's statistics of two images would change with each step.
        model = model.double().eval()
        inputs_BCHW = model.pixels(images_BCHW).double()
        check_slopes(bench, model, inputs_BCHW, labels_B, scale)
        if isinstance(model, FlatNet):
            by_hand(bench, model, inputs_BCHW, labels_B, scale)
            draw(bench, model, inputs_BCHW, labels_B)


def check_slopes(
    bench: "Bench", model: "Classifier", inputs_BCHW: "torch.Tensor", labels_B: "torch.Tensor", scale: float
) -> None:
    import torch

    def loss() -> "torch.Tensor":
        return model.loss(model.network(inputs_BCHW), labels_B)

    parameters = list(model.network.parameters())
    gradients = [scale * gradient for gradient in torch.autograd.grad(loss(), parameters)]
    which, place = largest_slope(gradients)
    largest = abs(gradients[which][place].item())
    places = [(which, place)]
    random = torch.Generator().manual_seed(0)
    for _ in range(SLOPES):
        which = int(torch.randint(len(parameters), (), generator=random))
        shape = parameters[which].shape
        places.append((which, tuple(int(torch.randint(size, (), generator=random)) for size in shape)))
    for number, (which, place) in enumerate(places):
        slope = finite_difference(loss, parameters[which], place, STEP)
        apart = (gradients[which][place].item() - slope) / largest
        bench.record("gradient minus difference", apart, arm=f"{type(model).__name__}, slope {number}", expected=0)


def largest_slope(gradients: "list[torch.Tensor]") -> "tuple[int, Place]":
    """Return the index of the parameter with the largest slope, and the place in it."""
    import torch

    sizes = [float(gradient.abs().max()) for gradient in gradients]
    which = sizes.index(max(sizes))
    flat = gradients[which].abs().argmax()
    return which, tuple(int(index) for index in torch.unravel_index(flat, gradients[which].shape))


def finite_difference(loss: "Loss", weights: "torch.Tensor", place: "Place", step: float) -> float:
    """Return the loss one step ahead minus the loss one step back, divided by the two steps."""
    import torch

    with torch.no_grad():
        before = weights[place].item()
        weights[place] = before + step
        further = loss()
        weights[place] = before - step
        back = loss()
        weights[place] = before
    return (further - back).item() / (2 * step)


def by_hand(
    bench: "Bench", model: "Classifier", inputs_BCHW: "torch.Tensor", labels_B: "torch.Tensor", scale: float
) -> None:
    import torch

    logits_BK = model.network(inputs_BCHW)
    (gradient_KD, *_) = torch.autograd.grad(model.loss(logits_BK, labels_B), list(model.network.parameters()))
    errors_BK = logits_BK.softmax(1) - torch.nn.functional.one_hot(labels_B, model.num_classes)
    on_paper_KD = errors_BK.T @ inputs_BCHW.flatten(1) / len(labels_B)
    apart = float((scale * gradient_KD - on_paper_KD).detach().abs().max())
    bench.record("gradient minus (p - y) xᵀ", apart, expected=0)


def draw(bench: "Bench", model: "Classifier", inputs_BCHW: "torch.Tensor", labels_B: "torch.Tensor") -> None:
    """Draw FlatNet's largest slope for ever smaller steps in two precisions. This changes the model, so call it last."""
    import torch

    from dlintro.claims.figures import COLOURS, panel

    title = "Finite differences need a step that is neither large nor tiny"
    figure, axes = panel(title, "step", "error, relative to autograd's slope")
    steps = [10.0**-power for power in range(14)]
    for kind, colour in ((torch.float64, COLOURS[0]), (torch.float32, COLOURS[1])):
        network, inputs = model.network.to(kind), inputs_BCHW.to(kind)
        parameters = list(network.parameters())

        def loss() -> "torch.Tensor":
            return model.loss(network(inputs), labels_B)  # noqa: B023  # called in this round of the loop only

        gradients = list(torch.autograd.grad(loss(), parameters))
        which, place = largest_slope(gradients)
        slope = gradients[which][place].item()
        errors = [abs(finite_difference(loss, parameters[which], place, step) / slope - 1) for step in steps]
        axes.plot(steps, errors, "o-", color=colour, label=str(kind).removeprefix("torch."))
    axes.set(xscale="log", yscale="log")
    axes.axvline(STEP, color="black", linestyle="--", linewidth=1, label="the step used here")
    axes.legend(frameon=False)
    bench.show(
        "steps",
        "The error of FlatNet's largest slope, found by finite differences, for ever smaller steps in two precisions.",
        figure,
    )
