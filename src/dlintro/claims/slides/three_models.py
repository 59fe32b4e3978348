"""FlatNet, the MNIST CNN and VGG16 side by side: their sizes, their work, and what they make of the same images."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

FLATNET, CNN, VGG = "FlatNet", "MNIST CNN", "VGG16"
ON_MNIST = {name: f"{name} on MNIST" for name in (FLATNET, CNN)}

CLAIM = Claim(
    number=19,
    title="Three models side by side",
    slide="Classification Model; Image Classifier for MNIST Dataset; A Modern Image Classifier (VGG16)",
    says="A flat classifier, a convolutional one for MNIST, and a modern one, VGG16 (shown as pictures).",
    kind="identity, measured",
    seconds=380,
    seeds=5,
    statements=(
        Exact("their parameters are as many as the layers' sizes say, and the paper", "parameters"),
        Exact("and so are the multiplications of one image", "multiply-adds"),
        Effect("on CIFAR-10 the CNN is better than FlatNet", "test accuracy", CNN, FLATNET),
        Effect("and VGG16 better than the CNN", "test accuracy", VGG, CNN),
        Effect("on MNIST the CNN is better than FlatNet", "test accuracy", ON_MNIST[CNN], ON_MNIST[FLATNET]),
    ),
    student=Student(
        predict="VGG16 has 71 times the parameters of the MNIST CNN. How many times the work is one image for it?",
        change="TRAIN_IMAGES in src/dlintro/claims/slides/three_models.py, to 1_000",
        expected="VGG16's lead shrinks: a large network wants many images.",
    ),
    notes=(
        "The slides' pictures of the networks are lost in the text; these are dlintro's three models.",
        "VGG16 (Simonyan & Zisserman 2014, arXiv 1409.1556): 138,357,544 parameters and 15.47 G multiply-adds at 224 × 224; "
        "the one trained here has batch norm and a small head for 32 × 32. It computes in bf16 where the hardware does.",
        "The same few images and epochs for all: not the best that each can do.",
    ),
)  # fmt: skip

TRAIN_IMAGES = 3_000
TEST_IMAGES = 2_000  # the first of the test set: VGG16 takes its time
EPOCHS = {FLATNET: 10, CNN: 10, VGG: 4}
RATES = {FLATNET: 5e-4, CNN: 3e-3, VGG: 2e-3}
PARAMETERS = {FLATNET: 30_730, CNN: 269_418, VGG: 14_728_266, "VGG16 of the paper": 138_357_544}


def measure(bench: "Bench") -> None:
    count(bench, batch_norm=True)
    train(bench, {FLATNET: FLATNET, CNN: CNN, VGG: VGG})


def falsify(bench: "Bench") -> None:
    """VGG16 without its batch norm where it is counted; and FlatNet in all three places."""
    count(bench, batch_norm=False, factor=2)
    train(bench, dict.fromkeys((FLATNET, CNN, VGG), FLATNET))


def make(name: str, data_shape: tuple[int, ...] = (3, 32, 32), batch_norm: bool = True) -> "Classifier":
    from dlintro.models import VGG16, FlatNet, MnistCNN

    if name == VGG:
        return VGG16(data_shape, batch_norm=batch_norm, optim={"lr": RATES[VGG], "schedule": "onecycle"})
    kind = FlatNet if name == FLATNET else MnistCNN
    return kind(data_shape, optim={"lr": RATES[name], "schedule": "onecycle"})


def count(bench: "Bench", batch_norm: bool, factor: int = 1) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from dlintro.models import VGG16

    with torch.device("meta"):
        paper = VGG16((3, 224, 224), 1000, batch_norm=False, head="imagenet")
    models = {name: make(name, batch_norm=batch_norm) for name in (FLATNET, CNN, VGG)} | {"VGG16 of the paper": paper}
    by_hand = {
        FLATNET: 3072 * 10,
        CNN: 32 * 32 * 16 * 75 + 16 * 16 * 32 * 144 + 8 * 8 * 32 * 128 + 128 * 10,
        VGG: 313_201_664,
        "VGG16 of the paper": 15_470_264_320,
    }
    for name, model in models.items():
        parameters = sum(parameter.numel() for parameter in model.parameters())
        bench.record("parameters", parameters * factor, arm=name, expected=PARAMETERS[name])
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.network.eval()(torch.zeros(1, *model.image_shape, device=next(model.parameters()).device))
        # It counts a multiplication and an addition as two.
        bench.record("multiply-adds", factor * counter.get_total_flops() // 2, arm=name, expected=by_hand[name])


def train(bench: "Bench", networks: dict[str, str]) -> None:
    import torch

    from dlintro.accelerators import resolve_precision
    from dlintro.claims.figures import dots
    from dlintro.data.loader import Images

    precision = resolve_precision("auto", bench.device)
    arms = {name: ("cifar10", name) for name in (FLATNET, CNN, VGG)}
    arms |= {arm: ("mnist", name) for name, arm in ON_MNIST.items()}
    num_train, num_test = bench.pick(TRAIN_IMAGES, 1_000), bench.pick(TEST_IMAGES, 500)
    for cell in bench.cells(arms, twice=[FLATNET, CNN, ON_MNIST[FLATNET]]):
        name, place = arms[cell.arm]
        data = bench.data(name, batch_size=64, train_size=num_train, seed=cell.seed)
        model = make(networks[place], data.image_shape)
        bench.train(model, data, epochs=EPOCHS[place], precision=precision if place == VGG else "32-true")
        test = Images(data.test.images_NCHW, data.test.labels_N, torch.arange(num_test))
        cell.record("test accuracy", outcomes=bench.correct(model, test))
    figure = dots(bench.measurements, "test accuracy", f"Trained on {num_train:,} images", "test accuracy (%)", 100)
    bench.show("accuracy", "The first three on CIFAR-10; a dot for each seed.", figure)
