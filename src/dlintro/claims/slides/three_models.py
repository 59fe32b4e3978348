"""Compares FlatNet, the CNN and VGG16: parameters, multiply-adds, and accuracy on the same images.

Shapes: B images in a batch, C channels, H height, W width.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import HOLDS, Effect, Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench
    from dlintro.models import VGG16, Classifier

    Build = Callable[[tuple[int, ...]], Classifier]  # takes the images' shape
    Shapes = list[tuple[str, int, int]]

FLATNET, CNN, VGG = "FlatNet", "CNN", "VGG16"


def accuracy(of: str) -> str:
    return f"test accuracy, {of}"


CLAIM = Claim(
    title="Three models side by side",
    slide="Image Classifier for MNIST Dataset; A Modern Image Classifier (VGG16)",
    says="After FlatNet come a small convolutional network for MNIST and VGG16, a modern one.",
    kind="identity, measured",
    seconds=370,
    seeds=5,
    core=Effect("The CNN learns more than FlatNet on 3,000 CIFAR-10 images", accuracy("CIFAR-10"), CNN, FLATNET),
    more=(
        Effect("VGG16 learns more than the CNN on them, in as many epochs", accuracy("CIFAR-10"), VGG, CNN),
        Effect("The CNN learns more than FlatNet on MNIST", accuracy("MNIST"), CNN, FLATNET),
        Effect("VGG16 learns more than the CNN on MNIST", accuracy("MNIST"), VGG, CNN, falsified=HOLDS),
    ),
    checks=(
        Exact("Each model has as many parameters as one counts by hand", "parameters"),
        Exact("Each model takes as many multiply-adds for an image as one counts by hand", "multiply-adds"),
        Exact("FlatNet and VGG16 have the published numbers of parameters", "published parameters"),
        Exact(
            "VGG16 takes the published multiply-adds, to their last digit", "published multiply-adds", tolerance=0.5
        ),
    ),
    student=Student(
        predict="VGG16 for ImageNet has 138 million parameters. Which of its 16 layers have most of them?",
        change='Change head="imagenet" in src/dlintro/claims/slides/three_models.py to "small".',
        expected="15 million parameters are left. The three linear layers had 124 of the 138 million, and the first of them "
        "had 103. The numbers of ImageNet's VGG16 no longer agree; its multiply-adds hardly change, to 15.35 G.",
    ),
    notes=(
        "The pictures of both slides are missing from the text of the course. The drawings here show this project's "
        "models.",
        "A multiply-add counts as one. Many counters, PyTorch's too, count it as two operations (30.94 G for VGG16 at "
        "224 × 224), so their numbers are halved here. Biases, batch norm, ReLU and pooling are left out, as is usual.",
        "VGG16 is from 2014 (Simonyan & Zisserman, 1409.1556, model D); it is modern beside the other two. The multiply-adds "
        "commonly given are 15.47 G at 224 × 224 pixels and 313.7 M at 32 × 32. The latter belong to a network with two "
        "more linear layers of 512. This project's VGG16 has one linear layer, and 313.2 M.",
        "With all 50,000 images and hundreds of epochs VGG16 reaches 93 to 94 % on CIFAR-10. This comparison fits into "
        "minutes on a CPU: all models see the same few images for two epochs. In the few steps of --quick so deep a "
        "network hardly begins to learn.",
        "VGG16's optimizer was chosen from two on validation images (SGD at 0.03 learnt less).",
    ),
)  # fmt: skip

SETS = {"CIFAR-10": "cifar10", "MNIST": "mnist"}
TRAIN_IMAGES, QUICK_IMAGES = {"CIFAR-10": 3_000, "MNIST": 1_500}, {"CIFAR-10": 500, "MNIST": 300}
EPOCHS = 2
RATES = {FLATNET: 1e-3, CNN: 3e-3, VGG: 1e-3}
TEST_IMAGES = 2_000  # the first ones
VGG_BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # (convolutions, their width); pooling follows each


class Layer(NamedTuple):
    """A convolution, or a linear layer (kernel 1, one place). `places` is the number of pixels of its result."""

    inputs: int
    outputs: int
    kernel: int = 1
    places: int = 1
    batch_norm: bool = False

    @property
    def parameters(self) -> int:
        """The number of weights, a bias for each output, and batch norm's scale and shift."""
        return self.outputs * (self.inputs * self.kernel**2 + 1 + 2 * self.batch_norm)

    @property
    def multiply_adds(self) -> int:
        return self.places * self.outputs * self.inputs * self.kernel**2


def flatnet_by_hand(channels: int, side: int) -> list[Layer]:
    return [Layer(channels * side**2, 10)]


def cnn_by_hand(channels: int, side: int) -> list[Layer]:
    return [
        Layer(channels, 16, 5, side**2),
        Layer(16, 32, 3, (side // 2) ** 2),
        Layer(32 * (side // 4) ** 2, 128),
        Layer(128, 10),
    ]


def vgg16_by_hand(side: int, batch_norm: bool, head: list[Layer]) -> list[Layer]:
    layers, inputs = [], 3
    for num_convolutions, width in VGG_BLOCKS:
        for _ in range(num_convolutions):
            layers.append(Layer(inputs, width, 3, side**2, batch_norm))
            inputs = width
        side //= 2
    return layers + head


IMAGENET_HEAD = [Layer(512 * 7 * 7, 4096), Layer(4096, 4096), Layer(4096, 1000)]
BY_HAND = {
    "FlatNet, MNIST": flatnet_by_hand(1, 28),
    "FlatNet, CIFAR-10": flatnet_by_hand(3, 32),
    "CNN, MNIST": cnn_by_hand(1, 28),
    "CNN, CIFAR-10": cnn_by_hand(3, 32),
    "VGG16, CIFAR-10": vgg16_by_hand(32, True, [Layer(512, 10)]),
    "VGG16, 3 linear layers": vgg16_by_hand(32, True, [Layer(512, 512), Layer(512, 512), Layer(512, 10)]),
    "VGG16, ImageNet": vgg16_by_hand(224, False, IMAGENET_HEAD),
    "VGG16 with batch norm, ImageNet": vgg16_by_hand(224, True, IMAGENET_HEAD),
}
PUBLISHED_PARAMETERS = {
    "FlatNet, MNIST": 7_850,
    "VGG16, CIFAR-10": 14_728_266,
    "VGG16, ImageNet": 138_357_544,
    "VGG16 with batch norm, ImageNet": 138_365_992,
}
PUBLISHED_MULTIPLY_ADDS = {
    "VGG16, 3 linear layers": (3_137, 1e5),
    "VGG16, ImageNet": (1_547, 1e7),
}  # (number, value of its last digit)


def measure(bench: "Bench") -> None:
    count(bench, operations_per_multiply_add=2, biases=True)
    compare(bench, bench.pick(TRAIN_IMAGES, QUICK_IMAGES), build_models())
    draw_networks(bench)
    draw_sizes(bench)
    draw_accuracies(bench)


def falsify(bench: "Bench") -> None:
    """Count operations instead of multiply-adds, without biases. All arms train the same CNN on CIFAR-10. On MNIST, where
    VGG16's statement may not hold in truth, it is made to hold: the CNN in VGG16's place learns, the others say 0."""
    count(bench, operations_per_multiply_add=1, biases=False)
    cnn = build_models()[CNN]
    compare(bench, QUICK_IMAGES, {FLATNET: says_0_on_mnist, CNN: says_0_on_mnist, VGG: cnn})


def says_0_on_mnist(image_shape: tuple[int, ...]) -> "Classifier":
    from dlintro.models import MnistCNN

    if image_shape != (1, 28, 28):
        return build_models()[CNN](image_shape)
    model = MnistCNN(image_shape, optim={"lr": 0.0})
    *_, last_layer = model.network.children()
    for parameter in last_layer.parameters():
        parameter.data.zero_()
    return model


def build_models() -> "Mapping[str, Build]":
    from functools import partial

    from dlintro.models import VGG16, FlatNet, MnistCNN

    kinds = {FLATNET: FlatNet, CNN: MnistCNN, VGG: VGG16}
    return {name: partial(kind, optim={"lr": RATES[name], "schedule": "onecycle"}) for name, kind in kinds.items()}


def count(bench: "Bench", operations_per_multiply_add: int, biases: bool) -> None:
    import torch

    with torch.device("meta"):  # shapes only, so that 138 million weights take no memory and no time
        for name, model in networks().items():
            parameters = [each for each in model.parameters() if biases or each.dim() > 1]
            num_parameters = sum(each.numel() for each in parameters)
            num_multiply_adds = num_operations(model) // operations_per_multiply_add
            by_hand = BY_HAND[name]
            bench.record("parameters", num_parameters, arm=name, expected=sum(each.parameters for each in by_hand))
            in_all = sum(each.multiply_adds for each in by_hand)
            bench.record("multiply-adds", num_multiply_adds, arm=name, expected=in_all)
            if name in PUBLISHED_PARAMETERS:
                bench.record("published parameters", num_parameters, arm=name, expected=PUBLISHED_PARAMETERS[name])
            if name in PUBLISHED_MULTIPLY_ADDS:
                published, last_digit = PUBLISHED_MULTIPLY_ADDS[name]
                in_digits = num_multiply_adds / last_digit
                bench.record("published multiply-adds", in_digits, arm=f"{name}, / {last_digit:g}", expected=published)


def networks() -> "dict[str, Classifier]":
    from dlintro.models import VGG16, FlatNet, MnistCNN

    mnist, cifar, imagenet = (1, 28, 28), (3, 32, 32), (3, 224, 224)
    return {
        "FlatNet, MNIST": FlatNet(mnist),
        "FlatNet, CIFAR-10": FlatNet(cifar),
        "CNN, MNIST": MnistCNN(mnist),
        "CNN, CIFAR-10": MnistCNN(cifar),
        "VGG16, CIFAR-10": VGG16(cifar),
        "VGG16, 3 linear layers": with_three_linear_layers(VGG16(cifar)),
        "VGG16, ImageNet": VGG16(imagenet, 1000, batch_norm=False, head="imagenet"),
        "VGG16 with batch norm, ImageNet": VGG16(imagenet, 1000, batch_norm=True, head="imagenet"),
    }


def with_three_linear_layers(model: "VGG16") -> "VGG16":
    """Replace the head by that of the network with the published 313.7 M multiply-adds."""
    from torch import nn

    layers = [nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)]
    model.network.classifier = nn.Sequential(*layers)
    return model


def num_operations(model: "Classifier") -> int:
    """Return the multiplications and additions of the matrix products and convolutions for one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval().network(torch.empty(1, *model.image_shape))
    return int(counter.get_total_flops())


def compare(bench: "Bench", sizes: Mapping[str, int], models: "Mapping[str, Build]") -> None:
    """Train all three in the same precision: bfloat16 products where the hardware is faster with them, else float32."""
    import torch

    from dlintro.accelerators import resolve_precision

    precision = resolve_precision("auto", bench.device)
    bench.record("trained in bfloat16", precision == "bf16-mixed")
    for cell in bench.cells(models):
        for name, train_size in sizes.items():
            data = bench.data(SETS[name], batch_size=32, train_size=train_size, seed=cell.seed)
            model = models[cell.arm](data.image_shape)
            bench.train(model, data, epochs=EPOCHS, precision=precision)
            images_NCHW, labels_N = data.test.__getitems__(list(range(bench.pick(TEST_IMAGES, 500))))
            with torch.autocast(bench.device.kind, torch.bfloat16, enabled=precision == "bf16-mixed"):
                answers_N = bench.logits(model, images_NCHW).argmax(1)
            cell.record(accuracy(name), outcomes=(answers_N == labels_N).float())


def draw_accuracies(bench: "Bench") -> None:
    from dlintro.claims.figures import COLOURS, panels

    figure, (row,) = panels(1, len(SETS), "Three models after two epochs on the same few images", size=(8, 4))
    for axes, name in zip(row, SETS, strict=True):
        for position, (arm, colour) in enumerate(zip(RATES, COLOURS, strict=False)):
            values = 100 * bench.measurements.values(accuracy(name), arm)
            axes.plot([position] * len(values), values, "o", color=colour, alpha=0.5)
            axes.plot([position - 0.25, position + 0.25], [values.mean()] * 2, color="black", linewidth=1.5)
        axes.set_xticks(range(len(RATES)), RATES)
        axes.set(title=name, ylabel="test accuracy (%)", xlim=(-0.6, 2.6))
        axes.grid(alpha=0.25)
    bench.show(
        "accuracies",
        "Each dot is one seed, and the line is their mean. FlatNet has more seeds, to be compared with itself.",
        figure,
    )


def draw_sizes(bench: "Bench") -> None:
    from dlintro.claims.figures import COLOURS, panel

    colours = dict(zip(RATES, COLOURS, strict=False))
    title = "Each model takes about a hundred times the work of the one before"
    figure, axes = panel(title, "parameters", "multiply-adds for an image", size=(7.2, 4.6))
    for arm in bench.measurements.arms("parameters"):
        if arm in ("VGG16, 3 linear layers", "VGG16 with batch norm, ImageNet"):  # their points lie on others
            continue
        num_parameters, num_multiply_adds = (
            bench.measurements.values(each, arm)[0] for each in ("parameters", "multiply-adds")
        )
        axes.plot(num_parameters, num_multiply_adds, "o", color=colours[arm.split(",")[0]], markersize=10)
        place, side = ((9, -12), "left") if "MNIST" in arm else ((-9, 7), "right")
        axes.annotate(arm, (num_parameters, num_multiply_adds), place, textcoords="offset points", ha=side)
    axes.set(xscale="log", yscale="log", xlim=(3e2, 1e9), ylim=(1e3, 1e11))
    bench.show("sizes", "A linear layer uses each weight once per image, a convolution once per place.", figure)


def draw_networks(bench: "Bench") -> None:
    """Draw each layer's result as a box whose height shows the maps' side and whose width shows their number."""
    from matplotlib.patches import Rectangle

    from dlintro.claims.figures import COLOURS, panels

    kinds = {"convolution": COLOURS[0], "pooling": COLOURS[4], "linear": COLOURS[2]}
    title = "Maps become smaller and more numerous: the CNN on MNIST, VGG16 on CIFAR-10"
    figure, column = panels(2, 1, title, size=(9, 6.4))
    for (axes,), (name, shapes) in zip(column, result_shapes().items(), strict=True):
        left = 0.0
        for kind, channels, side in shapes:
            width, height = 0.6 + channels**0.5 / 5, max(side, 1.5)
            axes.add_patch(Rectangle((left, -height / 2), width, height, facecolor=kinds[kind], edgecolor="white"))
            axes.text(left + width / 2, -height / 2 - 1, f"{channels}", ha="center", va="top", fontsize=8)
            axes.text(left + width / 2, height / 2 + 0.5, f"{side}", ha="center", va="bottom", fontsize=8, color="grey")
            left += width + 0.5
        axes.set(xlim=(-1, max(left, 25)), ylim=(-20, 20), title=name)
        axes.set_axis_off()
    axes = column[0][0]
    for kind, colour in kinds.items():
        axes.plot([], [], "s", color=colour, label=kind)
    axes.legend(frameon=False, loc="upper right")
    bench.show(
        "networks",
        "The number above each box is the side of its maps in pixels, and the number below is how many maps there are.",
        figure,
    )


def result_shapes() -> "dict[str, Shapes]":
    """Return each layer's kind, output channels and output side in pixels."""
    import torch
    from torch import nn

    words: dict[type, str] = {nn.Conv2d: "convolution", nn.MaxPool2d: "pooling", nn.Linear: "linear"}
    found: dict[str, Shapes] = {}
    with torch.device("meta"):
        for name in ("CNN, MNIST", "VGG16, CIFAR-10"):
            model, shapes = networks()[name], found.setdefault(name, [])

            def keep(layer: nn.Module, _: object, result: torch.Tensor, shapes: "Shapes" = shapes) -> None:
                shapes.append((words[type(layer)], result.shape[1], result.shape[2] if result.dim() == 4 else 1))

            for layer in model.modules():
                if type(layer) in words:
                    layer.register_forward_hook(keep)
            model.network(torch.empty(1, *model.image_shape))
    return found
