"""A grey image is a table of numbers from 0 to 255: read as uint8, computed with as float32."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

CLAIM = Claim(
    number=4,
    title="A grey image, and its numbers",
    slide="Example Data: Grayscale Image",
    says="Pixels are read as uint8, 0 to 255, and converted to float32, the default of deep-learning models.",
    kind="identity, measured",
    seconds=20,
    seeds=8,
    statements=(
        Exact("each of the 256 values survives the way to float32 and back", "values there and back"),
        Exact("float32 is PyTorch's default type", "default type is float32"),
        Effect(
            "pixels scaled to [0, 1] are learnt better than raw ones from 0 to 255, at the same learning rate",
            "validation accuracy", more="scaled to [0, 1]", less="raw, 0 to 255",
        ),
    ),
    student=Student(
        predict="The same network and learning rate, with pixels from 0 to 1 and from 0 to 255: which learns?",
        change="LEARNING_RATE in src/dlintro/claims/slides/grey_image.py, to a hundredth of it",
        expected="Raw pixels catch up: inputs 255 times as large want steps that are smaller by far.",
    ),
    notes=("Why scaling matters is not on the slide; dlintro's models also subtract the mean and divide by the sd.",),
)  # fmt: skip

LEARNING_RATE = 0.1
SCALES = {"scaled to [0, 1]": 1.0, "raw, 0 to 255": 255.0}


def measure(bench: "Bench") -> None:
    import torch

    there_and_back(bench, torch.float32)
    learn(bench, SCALES)


def falsify(bench: "Bench") -> None:
    """By way of a type with 3 bits for the digits, and with the same scale in both arms."""
    import torch

    there_and_back(bench, torch.float8_e4m3fn)
    learn(bench, dict.fromkeys(SCALES, 1.0))


def there_and_back(bench: "Bench", kind: "torch.dtype") -> None:
    import torch

    for value in range(256):
        pixel = torch.tensor(value, dtype=torch.uint8)
        bench.record(
            "values there and back", pixel.to(kind).to(torch.uint8).item(), arm=f"value {value}", expected=value
        )
    bench.record("default type is float32", torch.get_default_dtype() == kind, expected=1)


def learn(bench: "Bench", scales: dict[str, float]) -> None:
    """FlatNet with plain gradient descent; the model's first layer gives pixels from 0 to `scale`."""
    from dlintro.claims.figures import dots
    from dlintro.models import FlatNet

    for cell in bench.cells(scales, twice=["raw, 0 to 255"]):
        data = bench.data("mnist", batch_size=128, train_size=bench.pick(10_000, 2_000), seed=cell.seed)
        data.mean, data.std = (0.0,), (1 / scales[cell.arm],)
        model = FlatNet(optim={"name": "sgd", "lr": LEARNING_RATE, "momentum": 0.0})
        bench.train(model, data, epochs=1)
        cell.record("validation accuracy", outcomes=bench.correct(model, data.val))
    figure = dots(bench.measurements, "validation accuracy", "One epoch at the same learning rate", "accuracy (%)", 100)
    bench.show("accuracy", "Validation accuracy after one epoch, a dot for each seed.", figure)
