"""A class is a number, cat 0 and dog 1; one output or two, the loss is the same."""

from itertools import chain
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Equal, Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

TWO_OUTPUTS, ONE_OUTPUT = "two outputs, cross entropy", "one output, binary cross entropy"
LOSSES = {TWO_OUTPUTS: "cross_entropy", ONE_OUTPUT: "bce"}

CLAIM = Claim(
    number=18,
    title="Cat 0, dog 1",
    slide="Training Classifiers",
    says="Classification has fixed classes, each an integer: of cats and dogs, cat is 0 and dog is 1.",
    kind="identity, measured",
    seconds=110,
    seeds=5,
    statements=(
        Exact("the classes of the set are cat, 0, and dog, 1", "number of the class"),
        Count(
            "every run tells cats from dogs better than always saying the commoner one",
            "test accuracy", TWO_OUTPUTS, beyond=0.5, lower_bound=True, unit="%",
        ),
        Equal("one output and binary cross entropy are as good as two and cross entropy", "test accuracy", ONE_OUTPUT, TWO_OUTPUTS),
    ),
    student=Student(
        predict="Swap the numbers: cat 1, dog 0. Does the accuracy change?",
        change="LEARNING_RATE in src/dlintro/claims/slides/cats_dogs.py, to 0",
        expected="Half of the answers are right: an untrained network guesses, and its lower bound is below one half.",
    ),
    notes=("CIFAR-10's cats and dogs: 10,000 images to train on, of which 10 % validate, and 2,000 to test, half of each.",),
)  # fmt: skip

LEARNING_RATE = 3e-3


def measure(bench: "Bench") -> None:
    run(bench, LEARNING_RATE, LEARNING_RATE, names=["cat", "dog"])


def falsify(bench: "Bench") -> None:
    """The network of two outputs doesn't learn; and the classes are named the other way round."""
    run(bench, 0.0, LEARNING_RATE, names=["dog", "cat"])


def run(bench: "Bench", two_outputs_rate: float, one_output_rate: float, names: list[str]) -> None:
    from dlintro.claims.figures import dots
    from dlintro.models import MnistCNN

    rates = {TWO_OUTPUTS: two_outputs_rate, ONE_OUTPUT: one_output_rate}
    for cell in bench.cells(LOSSES, twice=[TWO_OUTPUTS]):
        data = bench.data("cats_dogs", batch_size=64, seed=cell.seed)
        optim = {"lr": rates[cell.arm], "schedule": "onecycle", "loss": LOSSES[cell.arm]}
        model = MnistCNN(data.image_shape, 2, optim=optim)
        bench.train(model, data, epochs=bench.pick(4, 2))
        cell.record("test accuracy", outcomes=bench.correct(model, data.test))
        if cell.seed == 0 and cell.arm == TWO_OUTPUTS:
            draw_images(bench, model)
    for number, name in enumerate(names):
        bench.record("number of the class", data_class(bench, name), arm=name, expected=number)
    title = "Cats and dogs: one output or two"
    bench.show(
        "accuracy", "A dot for each seed.", dots(bench.measurements, "test accuracy", title, "test accuracy (%)", 100)
    )


def data_class(bench: "Bench", name: str) -> int:
    return bench.data("cats_dogs").class_names.index(name)


def draw_images(bench: "Bench", model: "object") -> None:
    """The first test images with what the model says of them."""
    from dlintro.claims.figures import image, panels
    from dlintro.models import MnistCNN

    assert isinstance(model, MnistCNN)
    data = bench.data("cats_dogs")
    images_NCHW, labels_N = data.test.__getitems__(list(range(8)))
    probability_N = bench.logits(model, images_NCHW).softmax(1)[:, 1]
    figure, grid = panels(2, 4, "Test images: the probability of a dog, and what they are", size=(7, 4.2))
    for axes, pixels_CHW, label, probability in zip(chain(*grid), images_NCHW, labels_N, probability_N, strict=True):
        image(axes, pixels_CHW.permute(1, 2, 0) / 255, f"{probability:.0%}: {data.class_names[label]} ({label})")
    bench.show("images", "0 is a cat, 1 is a dog; above 50 % the network says dog.", figure)
