"""Autograd's gradients are the slopes that one finds by changing each number a little."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

CLAIM = Claim(
    number=23,
    title="Autograd",
    slide="PyTorch",
    says="PyTorch has autograd: it differentiates what a model computes.",
    kind="identity",
    seconds=12,
    statements=(
        Exact("its gradients are those of finite differences, in all three models", "gradient minus difference", 1e-6),
        Exact("FlatNet's gradient is (p - y) xᵀ, as one works it out on paper", "gradient minus (p - y) xᵀ", 1e-12),
    ),
    student=Student(
        predict="How many times must FlatNet be evaluated to find its 7,850 slopes by finite differences?",
        change="STEP in src/dlintro/claims/slides/autograd.py, to 1e-1 and to 1e-13",
        expected="Both fail: a large step doesn't see the slope at the point, a small one drowns in rounding.",
    ),
    notes=("In float64: in float32 rounding alone makes a finite difference wrong in the third digit.",),
)

STEP = 1e-7
SLOPES = 24  # that are checked of each model's parameters, drawn at random


def measure(bench: "Bench") -> None:
    compare(bench, scale=1.0)


def falsify(bench: "Bench") -> None:
    """Gradients that are one percent too large."""
    compare(bench, scale=1.01)


def compare(bench: "Bench", scale: float) -> None:
    import torch

    from dlintro.models import VGG16, FlatNet, MnistCNN

    torch.manual_seed(0)
    data = bench.data("mnist")
    images_BCHW, labels_B = data.train.__getitems__(list(range(4)))
    for model in (FlatNet(), MnistCNN(), VGG16((1, 28, 28))):
        # In evaluation mode: batch norm's statistics of four images would change with each step.
        model = model.double().eval()
        inputs = model.pixels(images_BCHW).double()
        check_slopes(bench, model, inputs, labels_B, scale)
        if isinstance(model, FlatNet):
            by_hand(bench, model, inputs, labels_B, scale)


def check_slopes(
    bench: "Bench", model: "Classifier", inputs: "torch.Tensor", labels_B: "torch.Tensor", scale: float
) -> None:
    """Each slope: the loss a step further, minus a step back, over two steps; relative to the model's largest."""
    import torch

    def loss() -> "torch.Tensor":
        return model.loss(model.network(inputs), labels_B)

    parameters = list(model.network.parameters())
    gradients = torch.autograd.grad(loss(), parameters)
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for number in range(SLOPES):
            which = int(torch.randint(len(parameters), (), generator=random))
            weights, slopes = parameters[which], gradients[which]
            place = tuple(int(torch.randint(size, (), generator=random)) for size in weights.shape)
            weights[place] += STEP
            further = loss()
            weights[place] -= 2 * STEP
            difference = float((further - loss()) / (2 * STEP))
            weights[place] += STEP
            name = f"{type(model).__name__}, slope {number}"
            apart = (scale * float(slopes[place]) - difference) / largest
            bench.record("gradient minus difference", apart, arm=name, expected=0)
    # The largest one too, so that something is checked where most are zero.
    bench.record("gradient minus difference", (scale - 1) * largest, arm=f"{type(model).__name__}, scale", expected=0)


def by_hand(
    bench: "Bench", model: "Classifier", inputs: "torch.Tensor", labels_B: "torch.Tensor", scale: float
) -> None:
    import torch

    logits_BK = model.network(inputs)
    (gradient_KD, *_) = torch.autograd.grad(model.loss(logits_BK, labels_B), list(model.network.parameters()))
    errors_BK = logits_BK.softmax(1) - torch.nn.functional.one_hot(labels_B, model.num_classes)
    on_paper_KD = errors_BK.T @ inputs.flatten(1) / len(labels_B)
    apart = float((scale * gradient_KD - on_paper_KD).detach().abs().max())
    bench.record("gradient minus (p - y) xᵀ", apart, expected=0)
