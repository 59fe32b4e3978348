"""A filter has the same weights at all places: there are fewer to learn, and the features move with the image.

Shapes: N images, B in a batch, C channels, O filters, P places (pixels), K weights of a filter, H height, W width.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

    Build = Callable[[int], nn.Module]  # takes the pixels per side of the images

CNN, MLP, GLOBAL = "CNN", "MLP", "CNN, global pooling"
RIM = 6  # black pixels around each digit, in training too: 28 + 2 · 6 = 40
SHIFTS = range(1, RIM + 1)  # pixels


def better_when_moved(shift: int) -> Effect:
    return Effect(
        f"The CNN is better than the MLP at digits moved by {shift} px", f"accuracy, moved by {shift} px", CNN, MLP
    )


CLAIM = Claim(
    title="Shared weights",
    slide="Convolution Operation",
    says="Unlike in a flat linear layer, a filter's weights are shared: the same ones are used all over the image.",
    kind="identity, measured",
    seconds=85,
    seeds=8,
    core=better_when_moved(3),
    more=(
        *(better_when_moved(shift) for shift in SHIFTS if shift != 3),
        Effect(
            f"At digits moved by {RIM} px, a CNN with global pooling is better than one that flattens",
            f"accuracy, moved by {RIM} px", GLOBAL, CNN,
        ),
        Effect(
            "At unmoved digits the CNN that flattens is better, because the place of a stroke tells digits apart",
            "accuracy, moved by 0 px", CNN, GLOBAL,
        ),
    ),
    checks=(
        Exact(
            "A convolution has the same number of parameters for 28, 32, 64 and 128 pixels a side",
            "convolution's parameters",
        ),
        Exact("A flat linear layer has 10 · (pixels + 1) parameters", "flat layer's parameters"),
        Exact(
            "With global pooling, a whole CNN's parameters don't depend on the image's size", "global CNN's parameters"
        ),
        Exact("When the image moves, the features move with it, away from the border", "features minus moved features"),
        Exact("The compared CNN and MLP have as many parameters, within 2 %", "MLP's parameters / CNN's", 0.02),
    ),
    student=Student(
        predict="A CNN and an MLP saw only centred digits. Which of them recognises a digit moved by 6 pixels?",
        change='Set "augment" in src/dlintro/claims/slides/shared_weights.py to ["crop"], which moves training images too.',
        expected="All networks recognise moved digits better then, even the MLP: a network can learn from examples what "
        "isn't built in. The CNN stays ahead of the MLP.",
    ),
    notes=(
        "The slide only names shared weights. This experiment asks whether they help with moved images. All training "
        "images are centred, as MNIST's are, and padded to 40 × 40 pixels, so that a move cuts nothing off.",
        "The features move with the image (equivariance), but the linear layer after them has its own weights for each "
        "place, so the CNN's answer does change. Global pooling keeps only the largest value of each feature map and so "
        "forgets the places. That network has fewer parameters than the other two.",
        "The comparison stays away from the border because the convolution's padding doesn't move with the image.",
    ),
)  # fmt: skip

WIDTHS = (8, 16, 64)
SIDES = (28, 32, 64, 128)
SETTINGS = {"batch_size": 64, "augment": []}
OPTIM = {"lr": 3e-3, "schedule": "onecycle"}


def measure(bench: "Bench") -> None:
    count_parameters(bench, shared_weights, flat_layer, global_cnn)
    move_features(bench, shared_weights)
    compare(bench, {CNN: cnn, MLP: mlp, GLOBAL: global_cnn})


def falsify(bench: "Bench") -> None:
    """Each place has its own weights, the flat layer follows another one, and the global CNN flattens. All three arms train
    the same MLP of about double width."""
    count_parameters(bench, own_weights, mlp, cnn)
    move_features(bench, own_weights)
    compare(bench, dict.fromkeys((CNN, MLP, GLOBAL), lambda side: mlp(side, times=2)))


def pad(images_NCHW: "torch.Tensor") -> "torch.Tensor":
    from torch import nn

    padded_NCHW: torch.Tensor = nn.functional.pad(images_NCHW, (RIM, RIM, RIM, RIM))
    return padded_NCHW


def cnn(side: int) -> "Classifier":
    from dlintro.models import MnistCNN

    return MnistCNN((1, side, side), widths=WIDTHS, optim=OPTIM)


def mlp(side: int, times: int = 1) -> "Classifier":
    """Return one hidden layer, as wide as gives it the CNN's number of parameters."""
    from dlintro.models import FlatNet

    a_unit = side * side + 1 + 10  # its weights from the pixels, its bias, its weights to the classes
    width = round((num_parameters(cnn(side)) - 10) / a_unit)
    return FlatNet((1, side, side), hidden=[times * width], optim=OPTIM)


def global_cnn(side: int) -> "Classifier":
    """Return the CNN with only the largest value of each feature map as input of its linear layer."""
    from torch import nn

    model = cnn(side)
    *blocks, _, _, relu, dropout, logits = model.network.children()
    *_, maps, width = WIDTHS
    linear = nn.Linear(maps, width)
    model.network = nn.Sequential(*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten(), linear, relu, dropout, logits)
    return model


def flat_layer(side: int) -> "nn.Module":
    from dlintro.models import FlatNet

    return FlatNet((1, side, side))


def shared_weights(side: int) -> "nn.Module":
    from torch import nn

    return nn.Conv2d(1, 8, 5, padding="same")


def own_weights(side: int) -> "nn.Module":
    """Return the false twin: it sums as the convolution does, with other weights at each place."""
    import torch
    from torch import nn

    class OwnWeights(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight_OKP = nn.Parameter(torch.empty(8, 25, side * side))

        def forward(self, images_B1HW: torch.Tensor) -> torch.Tensor:
            squares_BKP = nn.functional.unfold(images_B1HW, 5, padding=2)
            features_BOP = torch.einsum("bkp,okp->bop", squares_BKP, self.weight_OKP)
            features_BOHW: torch.Tensor = features_BOP.unflatten(2, (side, side))
            return features_BOHW

    return OwnWeights()


def num_parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_parameters(bench: "Bench", convolution: "Build", flat: "Build", whole: "Build") -> None:
    blocks, after = 8 * (25 + 1) + 16 * (8 * 9 + 1), 64 * (16 + 1) + 10 * (64 + 1)  # of WIDTHS
    for side in SIDES:
        arm = f"{side} × {side} pixels"
        bench.record("convolution's parameters", num_parameters(convolution(side)), arm=arm, expected=8 * (25 + 1))
        bench.record("flat layer's parameters", num_parameters(flat(side)), arm=arm, expected=10 * (side * side + 1))
        bench.record("global CNN's parameters", num_parameters(whole(side)), arm=arm, expected=blocks + after)


def move_features(bench: "Bench", build: "Build") -> None:
    """Compare moved features exactly: pixels and weights are whole numbers, so the sums are exact."""
    import torch

    torch.manual_seed(0)
    side = 28 + 2 * RIM
    layer = build(side).double().requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randint(-9, 10, parameter.shape))
    images_BCHW = torch.randint(256, (4, 1, side, side)).double()
    inside = slice(RIM + 2, -RIM - 2)  # without the border and what came in over it
    for shift in SHIFTS:
        for move in ((shift, 0), (-shift, 0), (0, shift), (0, -shift)):
            moved_first = layer(images_BCHW.roll(move, (2, 3)))
            moved_last = layer(images_BCHW).roll(move, (2, 3))
            apart = (moved_first - moved_last)[:, :, inside, inside].abs().max()
            name = "moved by {} down, {} right".format(*move)
            bench.record("features minus moved features", float(apart), arm=name, expected=0)


def compare(bench: "Bench", arms: "Mapping[str, Callable[[int], Classifier]]") -> None:
    """Train on centred digits and test on moved ones."""
    import torch

    side = 28 + 2 * RIM
    ratio = num_parameters(arms[MLP](side)) / num_parameters(cnn(side))
    bench.record("MLP's parameters / CNN's", ratio, expected=1)
    for cell in bench.cells(arms):
        train_size = bench.pick(5_000, 3_000)
        data = bench.data("mnist", change=pad, train_size=train_size, seed=cell.seed, **SETTINGS)
        model = arms[cell.arm](side)
        bench.train(model, data, epochs=bench.pick(4, 3))
        images_NCHW, labels_N = data.test.__getitems__(list(range(0, len(data.test), bench.pick(10, 20))))
        for shift in (0, *SHIFTS):
            moves = ((shift, 0), (-shift, 0), (0, shift), (0, -shift)) if shift else ((0, 0),)
            moved = torch.cat([images_NCHW.roll(move, (2, 3)) for move in moves])
            right = bench.logits(model, moved).argmax(1).view(len(moves), -1) == labels_N
            cell.record(f"accuracy, moved by {shift} px", outcomes=right.float().mean(0))
    draw(bench, arms)


def draw(bench: "Bench", arms: "Mapping[str, object]") -> None:
    import torch

    from dlintro.claims.figures import COLOURS, image, panel, panels

    figure, axes = panel("Trained on centred digits, tested on moved ones", "moved by (pixels)", "test accuracy (%)")
    shifts = [0, *SHIFTS]
    for arm, colour in zip(arms, COLOURS, strict=False):
        values = [100 * bench.measurements.values(f"accuracy, moved by {shift} px", arm) for shift in shifts]
        for seed in range(len(values[0])):
            axes.plot(shifts, [each[seed] for each in values], color=colour, alpha=0.25, linewidth=0.8)
        axes.plot(shifts, [each.mean() for each in values], "o-", color=colour, label=arm)
    axes.axhline(10, color="black", linewidth=0.8, linestyle=":")
    axes.set_ylim(0, 100)
    axes.legend(frameon=False)
    bench.show(
        "moved",
        "Thick lines are means over the seeds, thin lines single seeds, averaged over four directions. Dotted: guessing.",
        figure,
    )

    digit_1HW = bench.data("mnist", change=pad).val.images_NCHW[:1, 0]
    moved_1HW = digit_1HW.roll((4, 4), (1, 2))
    edges_1133 = torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]]])
    figure, grid = panels(2, 2, "Move the image, and the features move with it", size=(5.2, 5.6))
    for (pixels, features), pixels_1HW, name in zip(
        grid, (digit_1HW, moved_1HW), ("image", "moved image"), strict=True
    ):
        image(pixels, pixels_1HW[0], name)
        image(
            features, torch.conv2d(pixels_1HW[None].float(), edges_1133)[0, 0], f"features of the {name}", signed=True
        )
    bench.show("features", "One filter for upright edges. The image moves by 4 pixels down and to the right.", figure)
