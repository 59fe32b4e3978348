"""A grey image is a table of numbers from 0 to 255. It is read as uint8 and computed with as float32."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

SCALED, RAW = "scaled to [0, 1]", "raw, 0 to 255"
SCALES = {SCALED: 1.0, RAW: 255.0}

CLAIM = Claim(
    title="A grey image, and its numbers",
    slide="Example Data: Grayscale Image",
    says="Pixels are read as uint8, 0 to 255, and converted to float32, the default of deep-learning models.",
    kind="identity, measured",
    seconds=22,
    seeds=8,
    core=Exact("Each of the 256 values survives the conversion to float32 and back", "values there and back"),
    stated=(
        Exact("A grey image is read as uint8", "read as uint8"),
        Exact("Its values go from 0 to 255", "lowest and highest pixel"),
        Exact("PyTorch's default type, a model's weights and its results are float32", "is float32"),
    ),
    more=(
        Effect(
            "A network learns pixels scaled to [0, 1] better than raw ones at the same learning rate",
            "validation accuracy", SCALED, RAW,
        ),
    ),
    student=Student(
        predict="One network gets pixels from 0 to 1, another from 0 to 255, at the same learning rate. Which learns?",
        change="Set LEARNING_RATE in src/dlintro/claims/slides/grey_image.py to a thousandth of it.",
        expected="Now raw pixels are far ahead: inputs 255 times as large need much smaller steps. Each scale has its own "
        "learning rate.",
    ),
    notes=(
        "The slide doesn't say why scaling matters. dlintro's models also subtract the mean and divide by the standard "
        "deviation.",
        "With raw pixels the accuracy swings by tens of points from one epoch to the next. The comparison therefore uses "
        "the mean over the ends of 20 epochs. The end of a single epoch left it undecided at this rate.",
    ),
)  # fmt: skip

LEARNING_RATE = 0.1
EPOCHS, QUICK_EPOCHS = 20, 5


def measure(bench: "Bench") -> None:
    import torch

    read(bench, change=lambda images_NCHW: images_NCHW)
    there_and_back(bench, torch.float32)
    learn(bench, SCALES)


def falsify(bench: "Bench") -> None:
    """The images are scaled before, the type has only 3 bits for the digits, and both arms use the same scale."""
    import torch

    read(bench, change=lambda images_NCHW: images_NCHW / 255 + 1)
    there_and_back(bench, torch.float8_e4m3fn)
    learn(bench, dict.fromkeys(SCALES, 1.0))


def read(bench: "Bench", change: "Callable[[torch.Tensor], torch.Tensor]") -> None:
    """Check MNIST's test images as the project reads them."""
    import torch

    images_NCHW = change(bench.data("mnist").test.images_NCHW)
    bench.record("read as uint8", images_NCHW.dtype == torch.uint8, expected=1)
    bench.record("lowest and highest pixel", float(images_NCHW.min()), arm="lowest", expected=0)
    bench.record("lowest and highest pixel", float(images_NCHW.max()), arm="highest", expected=255)
    draw_numbers(bench, images_NCHW[0, 0, 7:15, 14:22])


def there_and_back(bench: "Bench", kind: "torch.dtype") -> None:
    import torch

    from dlintro.models import FlatNet

    for value in range(256):
        pixel = torch.tensor(value, dtype=torch.uint8)
        bench.record(
            "values there and back", pixel.to(kind).to(torch.uint8).item(), arm=f"value {value}", expected=value
        )
    model = FlatNet()
    logits_BK = model(torch.zeros(1, 1, 28, 28, dtype=torch.uint8))
    types = {
        "default": torch.get_default_dtype(),
        "weights": next(model.parameters()).dtype,
        "logits of a uint8 image": logits_BK.dtype,
    }
    for name, found in types.items():
        bench.record("is float32", found == kind, arm=name, expected=1)


def learn(bench: "Bench", scales: dict[str, float]) -> None:
    """Train FlatNet with plain gradient descent; the model's first layer returns pixels from 0 to the arm's scale."""
    import torch

    from dlintro.models import FlatNet

    for cell in bench.cells(scales):
        data = bench.data("mnist", batch_size=128, train_size=5_000, seed=cell.seed)
        data.mean, data.std = (0.0,), (1 / scales[cell.arm],)
        model = FlatNet(optim={"name": "sgd", "lr": LEARNING_RATE, "momentum": 0.0, "schedule": "none"})
        epoch_ends = correct_at_epoch_ends(bench)
        bench.train(model, data, epochs=bench.pick(EPOCHS, QUICK_EPOCHS), callbacks=[epoch_ends])
        correct_EN = torch.stack(epoch_ends.correct)
        cell.record(
            "validation accuracy", outcomes=correct_EN.mean(0)
        )  # for each image the share of epochs in which it was right
        for epoch, correct_N in enumerate(correct_EN, start=1):
            cell.record(f"validation accuracy after {epoch}", float(correct_N.mean()))
    draw_learning(bench)


def correct_at_epoch_ends(bench: "Bench") -> Any:
    """Return a callback that keeps which validation images are right (1) or wrong (0) at each epoch's end."""
    from lightning.pytorch.callbacks import Callback

    class EpochEnds(Callback):
        def __init__(self) -> None:
            self.correct: list[torch.Tensor] = []

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.correct.append(bench.correct(pl_module, trainer.datamodule.val))
            pl_module.train()

    return EpochEnds()


def draw_numbers(bench: "Bench", pixels_HW: "torch.Tensor") -> None:
    from dlintro.claims.figures import image, panels

    figure, ((axes,),) = panels(1, 1, "A grey image is a table of numbers", size=(4.8, 4.6))
    image(axes, pixels_HW)
    for row, values in enumerate(pixels_HW.tolist()):
        for column, value in enumerate(values):
            colour = "black" if value > 127 else "white"
            axes.text(column, row, f"{value:.0f}", color=colour, ha="center", va="center", fontsize=10)
    bench.show("numbers", "A part of MNIST's first test image, a 7. 0 is black and 255 is white.", figure)


def draw_learning(bench: "Bench") -> None:
    """Draw the accuracy at each epoch's end, one line for each of the first three seeds."""
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel(
        "At the same learning rate, the accuracy on raw pixels swings", "epoch", "validation accuracy (%)"
    )
    epochs = range(1, bench.pick(EPOCHS, QUICK_EPOCHS) + 1)
    for arm, colour in zip((RAW, SCALED), (COLOURS[1], COLOURS[0]), strict=True):
        for seed in range(min(3, bench.seeds)):
            values = [
                100 * bench.measurements.of(f"validation accuracy after {epoch}", arm)[seed].value for epoch in epochs
            ]
            axes.plot(epochs, values, ".-", color=colour, alpha=0.7, label=arm if seed == 0 else None)
    axes.set_xticks(epochs)
    axes.legend(frameon=False, loc="lower right")
    bench.show("accuracy", "Validation accuracy at each epoch's end, for three seeds of each.", figure)
