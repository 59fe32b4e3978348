"""Max pooling keeps the largest number of each 2 × 2 square, forgives small moves, and has nothing to learn.

Shapes: B images, C channels, H height, W width.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import HOLDS, Count, Effect, Exact

if TYPE_CHECKING:
    import torch
    from torch import nn

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

RARE = 0.1  # at most this share of all classes
POOLED, SUBSAMPLED = "pooled", "subsampled"
KERNELS = {POOLED: 2, SUBSAMPLED: 1}  # both with stride 2; a kernel of 1 keeps one pixel

CLAIM = Claim(
    title="Max pooling",
    slide="Max Pooling",
    says="Max pooling makes image features smaller, and is a rare case: a module without learnable parameters.",
    kind="identity, measured",
    seconds=8,
    seeds=5,
    core=Exact("nn.MaxPool2d(2) returns the largest number of each 2 × 2 square, for sides 2 to 9", "pooled by hand"),
    stated=(
        Exact("It has no learnable parameter, and neither have the slides' ReLU and Sigmoid", "parameters"),
        Count(
            "Modules without parameters are rare: at least 90 % of torch.nn's classes have some", "learnable tensors",
            beyond=1, at_least=1 - RARE, falsified=HOLDS,
        ),
    ),
    more=(
        Count(
            "They are also rare when loss functions are left out", "learnable tensors, without losses",
            beyond=1, at_least=1 - RARE, falsified=HOLDS,
        ),
        Effect(
            "When the image moves by a pixel, subsampled features change more than max-pooled ones", "relative change",
            SUBSAMPLED, POOLED, relative=True, unit="",
        ),
    ),
    checks=(
        Exact(
            "It leaves out an odd side's last row or column, and ceil_mode=True counts it", "with ceil_mode by hand"
        ),
    ),
    student=Student(
        predict="An image moves by a pixel. What changes more: the largest of each 2 × 2 square, or one pixel of it?",
        change="Set SHIFT in src/dlintro/claims/slides/max_pooling.py to 2.",
        expected="Both change more, by 0.7 and 0.8 of their length. Two pixels are a whole square, and pooling only "
        "forgives moves within a square.",
    ),
    notes=(
        "The slide's example is a picture, which is missing from the text of the course. The example here is our own.",
        "Rare means under 10 % here. The count covers all classes of torch.nn except containers, base classes and the "
        "lazy twins, each made once with small sizes. A module is learnable if it has a parameter by default.",
        "Subsampling keeps one pixel of each 2 × 2 square and ignores the others. The change is the distance between the "
        "features of the moved image and those of the image, divided by the features' length and averaged over four "
        "directions.",
    ),
)  # fmt: skip

SIDES = range(2, 10)
EXAMPLE = ((1, 3, 2, 0, 4), (5, 2, 1, 1, 0), (0, 7, 3, 6, 2), (2, 4, 8, 1, 1), (3, 0, 2, 9, 5))
SHIFT = 1  # pixels
IMAGES = 1_000

# Arguments for torch.nn's constructors, by name; any other required argument is 4.
ARGUMENTS = {
    "kernel_size": 2, "output_size": 2, "padding": 1, "norm_type": 2, "dim": 1, "unflattened_size": (2, 2),
    "cutoffs": [2], "batch_first": True,
}  # fmt: skip
NOT_COUNTED = {
    "Module", "RNNBase", "RNNCellBase",  # base classes
    "TransformerEncoder", "TransformerDecoder", "DataParallel",  # containers
    "NLLLoss2d",  # an old name
}  # fmt: skip


def measure(bench: "Bench") -> None:
    from torch import nn

    pool_by_hand(bench, largest=max)
    count_parameters(bench, {"MaxPool2d": nn.MaxPool2d(2), "ReLU": nn.ReLU(), "Sigmoid": nn.Sigmoid()})
    take_census(bench, census())
    move_images(bench, KERNELS)


def falsify(bench: "Bench") -> None:
    """Keep the smallest by hand, take modules that learn, count only such modules, and pool in both arms."""
    from torch import nn

    pool_by_hand(bench, largest=min)
    count_parameters(bench, {"Conv2d": nn.Conv2d(1, 1, 2), "PReLU": nn.PReLU(), "Linear": nn.Linear(1, 1)})
    take_census(bench, [module for module in census() if learnable_tensors(module)])
    move_images(bench, dict.fromkeys(KERNELS, 2))


def pool_by_hand(bench: "Bench", largest: Callable[[Sequence[float]], float]) -> None:
    """Count the outputs that agree with plain Python's, for random images of all sizes."""
    import torch

    torch.manual_seed(0)
    for height, width in product(SIDES, SIDES):
        image_HW = torch.randint(256, (height, width)).float()
        for quantity, ceil_mode in (("pooled by hand", False), ("with ceil_mode by hand", True)):
            pooled_HW = torch.nn.MaxPool2d(2, ceil_mode=ceil_mode)(image_HW[None])[0]
            by_hand_HW = torch.tensor(pool(image_HW.tolist(), ceil_mode, largest))
            same = pooled_HW.shape == by_hand_HW.shape and int((pooled_HW == by_hand_HW).sum())
            bench.record(quantity, same, arm=f"{height} × {width}", expected=by_hand_HW.numel())
    draw_example(bench)


def pool(
    image_HW: list[list[float]], ceil_mode: bool, largest: Callable[[Sequence[float]], float]
) -> list[list[float]]:
    """Pool 2 × 2 squares side by side; with `ceil_mode`, incomplete squares at the end count too."""
    height, width = (side if ceil_mode else side - side % 2 for side in (len(image_HW), len(image_HW[0])))
    return [
        [
            largest([pixel for row in image_HW[top : top + 2] for pixel in row[left : left + 2]])
            for left in range(0, width, 2)
        ]
        for top in range(0, height, 2)
    ]


def learnable_tensors(module: "nn.Module") -> int:
    return len(list(module.parameters()))


def count_parameters(bench: "Bench", modules: "Mapping[str, nn.Module]") -> None:
    for name, module in modules.items():
        bench.record("parameters", learnable_tensors(module), arm=name, expected=0)


def census() -> "list[nn.Module]":
    """Return one small module of each class of torch.nn."""
    from torch import nn
    from torch.nn.modules import container

    kinds = [kind for kind in vars(nn).values() if inspect.isclass(kind) and issubclass(kind, nn.Module)]
    left_out = NOT_COUNTED | set(vars(container))
    kinds = [kind for kind in kinds if kind.__name__ not in left_out and not kind.__name__.startswith("Lazy")]
    return [make(kind) for kind in kinds]


def make(kind: "type[nn.Module]") -> "nn.Module":
    from torch import nn

    if issubclass(kind, (nn.RNN, nn.LSTM, nn.GRU)):  # these take *args
        return kind(4, 4)
    parameters = inspect.signature(kind).parameters.values()
    named = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    wanted = [each.name for each in named if each.default is each.empty or each.name in ARGUMENTS]
    return kind(**{name: ARGUMENTS.get(name, 4) for name in wanted})


def take_census(bench: "Bench", modules: "Sequence[nn.Module]") -> None:
    for module in modules:
        name, is_loss = type(module).__name__, "loss" in type(module).__module__
        bench.record("learnable tensors", learnable_tensors(module), arm=name)
        if not is_loss:
            bench.record("learnable tensors, without losses", learnable_tensors(module), arm=name)
    draw_census(bench, modules)


def move_images(bench: "Bench", kernels: dict[str, int]) -> None:
    """Measure how much the first block's features change when the image moves by a pixel."""
    import torch

    from dlintro.claims.figures import dots
    from dlintro.models import MnistCNN

    for cell in bench.cells(kernels):
        data = bench.data("mnist", batch_size=64, train_size=bench.pick(3_000, 1_000), seed=cell.seed)
        model = MnistCNN(optim={"lr": 1e-3, "schedule": "none"})
        for layer in model.modules():
            if isinstance(layer, torch.nn.MaxPool2d):
                layer.kernel_size = kernels[cell.arm]
        bench.train(model, data)
        images_BCHW, _ = data.val.__getitems__(list(range(IMAGES)))
        cell.record("relative change", outcomes=relative_change(model.eval(), images_BCHW))
    title = f"How much the features change when the image moves: {SHIFT} px"
    figure = dots(bench.measurements, "relative change", title, "change of features / their length")
    bench.show("change", "Each dot is one seed, averaged over 1,000 images and four directions.", figure)


def relative_change(model: "Classifier", images_BCHW: "torch.Tensor") -> "torch.Tensor":
    """Return the change of the first block's features (convolution, pooling, ReLU) for each image: (B,)."""
    import torch

    block = torch.nn.Sequential(*list(model.network.children())[:3])
    with torch.inference_mode():
        features_BF: torch.Tensor = block(model.pixels(images_BCHW)).flatten(1)
        changes: list[torch.Tensor] = []
        for down, right in ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT)):
            moved_BCHW = images_BCHW.roll((down, right), (2, 3))  # MNIST's digits have a black rim of 4 pixels
            changes.append((block(model.pixels(moved_BCHW)).flatten(1) - features_BF).norm(dim=1))
    length_B: torch.Tensor = features_BF.norm(dim=1)
    return torch.stack(changes).mean(0) / length_B


def draw_example(bench: "Bench") -> None:
    import torch

    from dlintro.claims.figures import panels

    image_HW = torch.tensor(EXAMPLE).float()
    outputs = {
        "5 × 5 pixels": image_HW,
        "MaxPool2d(2): 2 × 2": torch.nn.MaxPool2d(2)(image_HW[None])[0],
        "ceil_mode=True: 3 × 3": torch.nn.MaxPool2d(2, ceil_mode=True)(image_HW[None])[0],
    }
    figure, (row,) = panels(1, 3, "Max pooling keeps the largest number of each 2 × 2 square", size=(8, 3.2))
    for axes, (title, table_HW) in zip(row, outputs.items(), strict=True):
        height, width = table_HW.shape
        squares_HW = [[(down // 2 + right // 2) % 2 for right in range(width)] for down in range(height)]
        one_each_HW = [[(down + right) % 2 for right in range(width)] for down in range(height)]
        axes.imshow(squares_HW if height == 5 else one_each_HW, cmap="Pastel2", vmin=0, vmax=7)
        for down, right in product(range(height), range(width)):
            axes.text(right, down, f"{int(table_HW[down, right])}", ha="center", va="center", fontsize=14)
        axes.set_axis_off()
        axes.set_title(title, fontsize=10)
    bench.show(
        "example",
        "Colours show the squares. The odd row and column are left out, or they form incomplete squares.",
        figure,
    )


def draw_census(bench: "Bench", modules: "Sequence[nn.Module]") -> None:
    """Draw how many classes have parameters, by their file of torch.nn."""
    from collections import Counter

    from dlintro.claims.figures import COLOURS, panel

    files = [type(module).__module__.rsplit(".", 1)[-1] for module in modules]
    all_of = Counter(files)
    learning = Counter(file for file, module in zip(files, modules, strict=True) if learnable_tensors(module))
    names = [name for name, _ in all_of.most_common()][::-1]
    share = sum(learning.values()) / len(modules)
    title = f"{1 - share:.0%} of torch.nn's {len(modules)} classes have nothing to learn"
    figure, axes = panel(title, "classes", "", size=(6.4, 4.8))
    with_some, without = [learning[name] for name in names], [all_of[name] - learning[name] for name in names]
    axes.barh(names, with_some, color=COLOURS[0], label="with parameters")
    axes.barh(names, without, left=with_some, color=COLOURS[1], label="without")
    axes.legend(frameon=False, loc="lower right")
    axes.tick_params(axis="y", labelsize=9)
    bench.show("census", "Classes of torch.nn, grouped by the file that defines them.", figure)
