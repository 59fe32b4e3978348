"""Tells cats (class 0) from dogs (class 1) with two outputs or one; both networks learn the same."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Equal, Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

TWO_OUTPUTS, ONE_OUTPUT = "two outputs, cross entropy", "one output, binary cross entropy"
LOSSES = {TWO_OUTPUTS: "cross_entropy", ONE_OUTPUT: "bce"}

CLAIM = Claim(
    title="Cat 0, dog 1",
    slide="Training Classifiers; Multiclass Classification",
    says="Classification has fixed classes, each an integer: of cats and dogs, cat is 0 and dog is 1.",
    kind="identity, measured",
    seconds=70,
    seeds=5,
    core=Count(
        "Every run is right more often than by always giving the same answer, with two outputs and with one",
        "test accuracy", beyond=0.5, lower_bound=True, unit="%",
    ),
    more=(
        Equal(
            "One output with binary cross entropy is as accurate as two outputs with cross entropy",
            "test accuracy", ONE_OUTPUT, TWO_OUTPUTS, worth=0.02,
            because="by chance alone, two runs easily differ by 2 points on 2,000 test images",
        ),
    ),
    checks=(
        Exact("The data set's classes are cat, number 0, and dog, number 1", "number of the class"),
        Exact("Always giving the same answer is right for half of the 2,000 test images", "majority rate"),
    ),
    student=Student(
        predict="Does the accuracy change if the dog is 0 and the cat 1? And if the learning rate is 0?",
        change="Set LEARNING_RATE in src/dlintro/claims/slides/cats_dogs.py to 0.",
        expected="About half of the answers are right: an untrained network guesses, and the lower bound of its accuracy "
        "is below one half. The class numbers are only names, so swapping them only swaps the outputs.",
    ),
    notes=(
        "The images are CIFAR-10's cats and dogs: 10,000 for training, a tenth of which is kept for validation, and "
        "2,000 for testing. Half of them are cats.",
        "Cats and dogs are hard to tell apart at 32 × 32 pixels: this network is right for about two thirds of them.",
        "Only the difference of two outputs matters, because the softmax of two logits is the sigmoid of their "
        "difference. One output can stand for that difference. The two networks still start from different weights and "
        "so end with different ones.",
    ),
)  # fmt: skip

LEARNING_RATE = 3e-3


def measure(bench: "Bench") -> None:
    run(bench, {TWO_OUTPUTS: LEARNING_RATE, ONE_OUTPUT: LEARNING_RATE}, names=["cat", "dog"])


def falsify(bench: "Bench") -> None:
    """The network with two outputs doesn't learn, and the classes are named the other way round."""
    run(bench, {TWO_OUTPUTS: 0.0, ONE_OUTPUT: LEARNING_RATE}, names=["dog", "cat", "neither"])


def run(bench: "Bench", rates: dict[str, float], names: list[str]) -> None:
    from dlintro.models import MnistCNN

    data = bench.data("cats_dogs")
    for number, name in enumerate(data.class_names):
        bench.record("number of the class", names.index(name), arm=name, expected=number)
    bench.record("majority rate", float((data.test.labels == 1).double().mean()), expected=1 / len(names))
    for cell in bench.cells(LOSSES):
        data = bench.data("cats_dogs", batch_size=64, train_size=bench.pick(None, 2_000), seed=cell.seed)
        optim = {"lr": rates[cell.arm], "schedule": "onecycle", "loss": LOSSES[cell.arm]}
        model = MnistCNN(data.image_shape, data.num_classes, optim=optim)
        bench.train(model, data, epochs=bench.pick(4, 2))
        cell.record("test accuracy", outcomes=bench.correct(model, data.test))
        if cell.first and cell.arm == TWO_OUTPUTS:
            draw_images(bench, model)
    draw_accuracies(bench)


def draw_accuracies(bench: "Bench") -> None:
    from dlintro.claims.figures import dots

    title = "Cats and dogs: one output or two"
    figure = dots(bench.measurements, "test accuracy", title, "test accuracy (%)", 100)
    axes = figure.axes[0]
    axes.axhline(50, color="black", linestyle=":", linewidth=1)
    axes.text(0.5, 50.3, "always the same answer", ha="center")
    bench.show("accuracy", "Each dot is one seed, and the line is their mean.", figure)


def draw_images(bench: "Bench", model: "Classifier") -> None:
    """Draw the first test images with the model's answers."""
    from itertools import chain

    from dlintro.claims.figures import image, panels

    data = bench.data("cats_dogs")
    images_NCHW, labels_N = data.test.__getitems__(list(range(8)))
    dog_N = bench.logits(model, images_NCHW).softmax(1)[:, 1]
    figure, grid = panels(2, 4, "Test images: the predicted probability of a dog, and the truth", size=(7, 4.4))
    for axes, pixels_CHW, label, dog in zip(chain(*grid), images_NCHW, labels_N, dog_N, strict=True):
        words = f"dog: {100 * dog:.0f} %\nit is a {data.class_names[label]} ({label})"
        image(axes, pixels_CHW.permute(1, 2, 0) / 255, words)
    bench.show("images", "0 is a cat and 1 is a dog. Above 50 % the network answers dog.", figure)
