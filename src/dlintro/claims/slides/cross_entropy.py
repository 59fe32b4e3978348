"""Softmax turns logits into probabilities, and cross entropy is minus the log of the true class's probability.

This file writes the slides' formulas as they stand there and compares them with PyTorch's.
Shapes: N images, K classes (outputs).
"""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from dlintro.claims.bench import Bench

    Function = Callable[..., torch.Tensor]

CLAIM = Claim(
    title="Cross entropy, and softmax before it",
    slide="Training Classifiers; Multiclass Classification; Multiclass Classification (Cont.)",
    says="The loss of classification is called cross entropy; it is the negative log-likelihood of the true classes.",
    kind="identity",
    seconds=1,
    core=Exact("The slide's formula for M classes is PyTorch's cross entropy", "formula minus cross entropy", 1e-12),
    more=(
        Count("The binary formula in float32 is off by 0.0001 or more at logit 10", "error at logit 10", beyond=1e-4),
        Exact("It gives infinity or no number (NaN) at each logit from 17 on", "finite, binary formula"),
        Exact("Softmax as written gives NaN from logit 89 on, because exp overflows", "finite, written softmax"),
    ),
    checks=(
        Exact("Softmax is the exp of each logit divided by the sum of all of them", "softmax minus PyTorch's", 1e-12),
        Exact("The K numbers of softmax sum to one, so they can be probabilities", "sum of softmax", 1e-12),
        Exact(
            "Adding the same number to all logits doesn't change softmax", "softmax of moved logits, minus", 1e-12
        ),
        Exact(
            "PyTorch's cross entropy is the negative log-likelihood of log-softmax to 4 units in the last place, for "
            "logits up to 10,000",
            "units in the last place apart", 4,
        ),
        Exact("The mean loss in float32 is that in float64 to one millionth", "mean loss, relative error", 1e-6),
        Exact(
            "So is each image's loss (a loss under 1 is right to a millionth of 1)", "an image's loss, relative error", 1e-6
        ),
        Exact("One-hot rows and class numbers as targets give the same loss", "one-hot minus class numbers", 1e-12),
        Exact("The softmax of two logits is the sigmoid of their difference", "softmax minus sigmoid", 1e-12),
        Exact("The binary cross entropy of that sigmoid is the cross entropy", "binary minus cross entropy", 1e-12),
        Exact(
            "The slide's binary formula, divided by the output size, is PyTorch's", "binary formula minus PyTorch's", 1e-12
        ),
        Exact(
            "The mean over the images is K times the mean over the outputs, because cross entropy divides by the images "
            "alone", "mean over images / mean over outputs", 1e-9,
        ),
    ),
    student=Student(
        predict="The logits are 17 and 0, and the second class is true, so the loss is 17. What does the formula give in "
        "float32?",
        change='Set PRECISION in src/dlintro/claims/slides/cross_entropy.py to "float64".',
        expected="The binary formula breaks later, at logit 37, and the written softmax beyond this picture. Longer "
        "numbers move the cliff but don't remove it.",
    ),
    notes=(
        "The slides never name softmax. The negative log-likelihood needs probabilities, and a network's last layer "
        "returns any real numbers. Softmax stands between the two, and PyTorch's cross entropy contains it.",
        "PyTorch has a reason to contain it: float32 rounds the sigmoid of 17 to 1, and log(1 - 1) is minus infinity. "
        "Computed together, the loss is log(sum of exp(logit - largest)) - (true logit - largest). No exp is larger than "
        "1 there, and the sum is never below 1.",
        "A loss under 6e-8 becomes 0 in float32, since 1 + 6e-8 is rounded to 1. Relative to itself, such a loss would "
        "be all wrong, so a small loss is measured against 1.",
        "The two slides average differently: the binary formula divides by the output size, and the one for M classes "
        "by the rows (images). With a loss K times as large, plain gradient descent takes steps K times as long, so a "
        "learning rate found for one loss doesn't suit the other.",
    ),
)  # fmt: skip

PRECISION = "float32"  # in which the slides' formulas are computed
SCALES = (1, 10, 100, 1_000, 10_000)  # largest logits
NUM_IMAGES, NUM_CLASSES = 2_000, 10  # for each scale
FALSE_FROM, OVERFLOWS_FROM, LAST = 17, 89, 120  # logits


def measure(bench: "Bench") -> None:
    import torch

    compare(bench, softmax, torch.log_softmax)
    average(bench, torch.mean)
    break_formulas(bench, getattr(torch, PRECISION))
    draw_softmax(bench)
    draw_breaks(bench)


def falsify(bench: "Bench") -> None:
    """A sigmoid replaces softmax, a sum replaces the mean, and the numbers are twice as long."""
    import torch

    compare(bench, lambda logits_NK: logits_NK.sigmoid(), lambda logits_NK, _: logits_NK.sigmoid().log())
    average(bench, torch.sum)
    break_formulas(bench, torch.float64)


def softmax(logits_NK: "torch.Tensor") -> "torch.Tensor":
    """Turn logits into probabilities: they are positive, grow with their logit, and sum to 1."""
    positive_NK = logits_NK.exp()
    return positive_NK / positive_NK.sum(1, keepdim=True)


def binary_formula(class_N: "torch.Tensor", probability_N: "torch.Tensor") -> "torch.Tensor":
    """Return the slide's terms before their mean: -(y · log ŷ + (1 - y) · log(1 - ŷ))."""
    return -(class_N * probability_N.log() + (1 - class_N) * (1 - probability_N).log())


def multiclass_formula(one_hot_NK: "torch.Tensor", probability_NK: "torch.Tensor") -> "torch.Tensor":
    """Return the next slide's terms for each of the N rows: minus the sum over the classes of y · log p."""
    return -(one_hot_NK * probability_NK.log()).sum(1)


def draw_logits(scale: float, num_classes: int = NUM_CLASSES) -> "tuple[torch.Tensor, torch.Tensor]":
    """Make up logits between -scale and scale (N, K), and true classes (N,)."""
    import torch

    random = torch.Generator().manual_seed(0)
    logits_NK = (2 * torch.rand(NUM_IMAGES, num_classes, generator=random) - 1) * scale
    return logits_NK, torch.randint(num_classes, (NUM_IMAGES,), generator=random)


def compare(bench: "Bench", softmax: "Function", log_softmax: "Function") -> None:
    compare_in_float64(bench, softmax, log_softmax)
    compare_two_classes(bench, softmax, log_softmax)
    for scale in SCALES:
        compare_in_float32(bench, log_softmax, scale)


def compare_in_float64(bench: "Bench", softmax: "Function", log_softmax: "Function") -> None:
    from torch.nn import functional as F

    logits_NK, labels_N = draw_logits(10)
    logits_NK = logits_NK.double()
    probability_NK, one_hot_NK = softmax(logits_NK), F.one_hot(labels_N).double()
    fused_N = F.cross_entropy(logits_NK, labels_N, reduction="none")
    from_one_hot_N = F.cross_entropy(logits_NK, one_hot_NK, reduction="none")
    from_numbers_N = F.nll_loss(log_softmax(logits_NK, 1), labels_N, reduction="none")
    bench.record("softmax minus PyTorch's", largest(probability_NK - logits_NK.softmax(1)), expected=0)
    bench.record("sum of softmax", 1 + largest(probability_NK.sum(1) - 1), expected=1)
    bench.record("softmax of moved logits, minus", largest(softmax(logits_NK + 5) - probability_NK), expected=0)
    formula_N = multiclass_formula(one_hot_NK, probability_NK)
    bench.record("formula minus cross entropy", largest(formula_N - fused_N), expected=0)
    bench.record("one-hot minus class numbers", largest(from_one_hot_N - from_numbers_N), expected=0)


def compare_two_classes(bench: "Bench", softmax: "Function", log_softmax: "Function") -> None:
    from torch.nn import functional as F

    logits_N2, labels_N = draw_logits(10, num_classes=2)
    logits_N2 = logits_N2.double()
    difference_N = logits_N2[:, 1] - logits_N2[:, 0]
    binary_N = F.binary_cross_entropy_with_logits(difference_N, labels_N.double(), reduction="none")
    two_way_N = F.nll_loss(log_softmax(logits_N2, 1), labels_N, reduction="none")
    bench.record("softmax minus sigmoid", largest(softmax(logits_N2)[:, 1] - difference_N.sigmoid()), expected=0)
    bench.record("binary minus cross entropy", largest(binary_N - two_way_N), expected=0)


def compare_in_float32(bench: "Bench", log_softmax: "Function", scale: float) -> None:
    import torch
    from torch.nn import functional as F

    logits_NK, labels_N = draw_logits(scale)
    fused_N = F.cross_entropy(logits_NK, labels_N, reduction="none")
    in_two_N = F.nll_loss(log_softmax(logits_NK, 1), labels_N, reduction="none")
    exact_N = F.nll_loss(log_softmax(logits_NK.double(), 1), labels_N, reduction="none")
    # Neighbouring floats are neighbouring integers, read bit by bit.
    units_N = fused_N.view(torch.int32) - in_two_N.view(torch.int32)
    arm = f"logits up to {scale:,}"
    bench.record("units in the last place apart", largest(units_N), arm=arm, expected=0)
    of_mean = float(fused_N.double().mean() / exact_N.mean()) - 1
    bench.record("mean loss, relative error", of_mean, arm=arm, expected=0)
    of_each = largest((fused_N - exact_N) / exact_N.clamp_min(1))
    bench.record("an image's loss, relative error", of_each, arm=arm, expected=0)


def average(bench: "Bench", over_outputs: "Function") -> None:
    """Average the same N · K terms over all of them, or sum them for each image first."""
    from torch.nn import functional as F

    for num_classes in (2, 5, 10, 100):
        logits_NK, labels_N = draw_logits(10, num_classes)
        probability_NK = softmax(logits_NK.double())
        one_hot_NK = F.one_hot(labels_N, num_classes).double()
        arm = f"K = {num_classes}"
        ours = over_outputs(binary_formula(one_hot_NK, probability_NK))
        theirs = F.binary_cross_entropy(probability_NK, one_hot_NK)
        bench.record("binary formula minus PyTorch's", float(ours - theirs), arm=arm, expected=0)
        per_image = multiclass_formula(one_hot_NK, probability_NK).mean()
        per_output = over_outputs(-(one_hot_NK * probability_NK.log()))
        bench.record(
            "mean over images / mean over outputs", float(per_image / per_output), arm=arm, expected=num_classes
        )


def break_formulas(bench: "Bench", kind: "torch.dtype") -> None:
    """Compute the loss of an ever surer wrong answer (class 0 is true) and of a right one (class 1 is true)."""
    import torch

    wrong, right = (binary_losses(kind, true_class) for true_class in (0, 1))
    off = abs(float(wrong[10]) - float(torch.tensor(10.0, dtype=torch.float64).exp().log1p()))
    bench.record("error at logit 10", off)
    for words, losses in (("wrong", wrong), ("right", right)):
        for logit in range(FALSE_FROM, LAST + 1):
            arm = f"logit {logit}, {words}"
            bench.record("finite, binary formula", bool(losses[logit].isfinite()), arm=arm, expected=0)
    for logit, loss in enumerate(written_losses(kind)):
        arm = f"logit {logit}"
        bench.record("finite, written softmax", bool(loss.isfinite()), arm=arm, expected=logit < OVERFLOWS_FROM)


def binary_losses(kind: "torch.dtype", true_class: int) -> "torch.Tensor":
    """Return the binary formula's losses for the logits 0, 1, 2, ..."""
    import torch

    probability_N = torch.arange(LAST + 1).to(kind).sigmoid()
    return binary_formula(torch.full_like(probability_N, true_class), probability_N)


def written_losses(kind: "torch.dtype") -> "torch.Tensor":
    """Return the losses of the written softmax for the logits (z, 0) with z = 0, 1, 2, ...; the second class is true."""
    import torch

    logit_N = torch.arange(LAST + 1).to(kind)
    logits_N2 = torch.stack([logit_N, torch.zeros_like(logit_N)], 1)
    return multiclass_formula(torch.tensor([[0, 1]]).to(kind), softmax(logits_N2))


def largest(errors: "torch.Tensor") -> float:
    return float(errors.double().abs().max())


def draw_softmax(bench: "Bench") -> None:
    import torch

    from dlintro.claims.figures import COLOURS, panels

    classes, true_class = ["cat", "dog", "bird", "car"], 1
    logits_1K = torch.tensor([[1.0, 2.0, 0.0, -1.0]])
    probability_1K = softmax(logits_1K)
    loss = -float(probability_1K[0, true_class].log())
    steps = {
        "logits (any numbers)": logits_1K,
        "exp (positive)": logits_1K.exp(),
        "divided by their sum": probability_1K,
    }
    title = f"Softmax, step by step. The dog is true: its loss is -log {probability_1K[0, true_class]:.3f} = {loss:.3f}"
    figure, (row,) = panels(1, 3, title, size=(8.4, 3.6))
    for axes, (words, values_1K) in zip(row, steps.items(), strict=True):
        colours = [COLOURS[k == true_class] for k in range(len(classes))]
        axes.bar_label(axes.bar(classes, values_1K[0].tolist(), color=colours), fmt="%.3g", padding=2)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.margins(y=0.15)
        axes.set_title(words, fontsize=10)
    bench.show(
        "softmax",
        "Logits become probabilities. The loss is minus the log of the true class's probability (orange).",
        figure,
    )


def draw_breaks(bench: "Bench") -> None:
    import torch
    from torch.nn import functional as F

    from dlintro.claims.figures import COLOURS, panels

    kind = getattr(torch, PRECISION)
    logit_N = torch.arange(LAST + 1)
    fused_N = F.binary_cross_entropy_with_logits(logit_N.to(kind), torch.zeros(LAST + 1, dtype=kind), reduction="none")
    exact_N = logit_N + (-logit_N.double()).exp().log1p()
    lines = {
        "binary formula": binary_losses(kind, 0),
        "softmax as written": written_losses(kind),
        "PyTorch's, in one step": fused_N,
    }
    figure, ((losses, errors),) = panels(1, 2, f"Where the formulas break in {PRECISION}", size=(9, 4))
    for (words, loss_N), colour, width in zip(lines.items(), COLOURS[1:], (7, 4, 1.5), strict=False):
        last = int(loss_N.isfinite().nonzero().max())
        losses.plot(logit_N, loss_N, color=colour, linewidth=width, label=words)
        errors.plot(logit_N, (loss_N - exact_N).abs(), "o", color=colour, markersize=2 + width / 2)
        if last < LAST:
            losses.plot(last, loss_N[last], "X", color=colour, markersize=12, markeredgecolor="black", zorder=3)
            losses.annotate(f"the last: {last}", (last, float(loss_N[last])), (10, -14), textcoords="offset points")
    losses.set(xlabel="logit of the wrong class", ylabel="loss")
    errors.set(
        xlabel="logit of the wrong class", ylabel="error of the loss", yscale="log", xlim=(-1, 40), ylim=(1e-9, 1)
    )
    losses.legend(frameon=False)
    caption = "Three ways to compute the same loss. After its cross, a line is infinite or NaN; before it, the loss may be off."
    bench.show("breaks", caption, figure)
