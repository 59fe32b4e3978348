"""What the batch size changes: time, memory, and how well the training data and new data are fitted."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact, Within

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

SIZES = (8, 32, 128, 512, 2048)
REFERENCE = 128  # where all rules have the same rate, and both budgets are the same run
RULES = ("none", "sqrt", "linear")
RATES = {"none": "one rate", "sqrt": "rate ∝ √batch", "linear": "rate ∝ batch"}
BUDGETS = ("epochs", "steps")
IMAGES, EPOCHS = 5_000, 6
TARGET = 0.35  # training loss
NUM_EVALUATIONS = 12


def arm(rule: str, budget: str, size: int) -> str:
    return f"batch {size}" if size == REFERENCE else f"batch {size}, {RATES[rule]}, equal {budget}"


def loss_at(words: str, quantity: str, more: str, less: str) -> Effect:
    return Effect(words, quantity, more, less, worth=0.05, relative=True, unit="")


CLAIM = Claim(
    number=14,
    title="The batch size",
    slide="Stochastic Gradient Descent",
    says="Smaller batches take longer and risk overfitting; larger ones take more memory and risk underfitting.",
    kind="identity, measured",
    seconds=400,
    seeds=8,
    statements=(
        Within("an epoch takes longer in smaller batches: its seconds fall with the batch size", "slope of seconds", high=0),
        Effect(
            f"to a training loss of {TARGET}, batches of 8 take longer than batches of 128",
            "seconds to the target", arm("none", "epochs", 8), arm("none", "epochs", 128), ratio=True, worth=0.05,
        ),
        Exact("the activations kept for backward grow exactly in proportion to the batch", "bytes kept for backward"),
        Within("the measured peak of memory grows with the batch", "slope of the peak, bytes per image", low=0),
        loss_at(
            "at equal training loss, batches of 8 have the larger gap to the test loss than batches of 512 (overfitting)",
            "gap at the target", arm("none", "epochs", 8), arm("none", "steps", 512),
        ),
        *(
            loss_at(
                f"{RATES[rule]}, equal {budget}: batches of 2,048 fit the training images worse than of 32 (underfitting)",
                "training loss", arm(rule, budget, 2048), arm(rule, budget, 32),
            )
            for budget in BUDGETS
            for rule in RULES
        ),
    ),
    student=Student(
        predict="With as many epochs, which batch size ends with the smallest training loss? With as many steps?",
        change="EPOCHS in src/dlintro/claims/slides/batch_size.py, to 20",
        expected="All sizes fit better; with equal epochs the large batches still trail, with equal steps the small ones.",
    ),
    notes=(
        "Equal epochs give small batches more steps, equal steps give large batches more images: which of them fits worse "
        'depends on that and on the rate, so "still debated" is fair (Keskar 2016, 1609.04836; Shallue 2018, 1811.03600).',
        "Pix2Pix's batch of one goes with instance normalisation, which wants no other images, not with a one-to-one mapping.",
        "An MLP of one hidden layer of 128 and plain gradient descent on 5,000 of MNIST's images; rates from 0.1 at 128.",
    ),
)  # fmt: skip


def measure(bench: "Bench") -> None:
    train_all(bench, {arm(r, b, s): (r, b, s) for s in SIZES for b in BUDGETS for r in RULES})
    memory(bench, SIZES)
    draw(bench)


def falsify(bench: "Bench") -> None:
    """All batches are of 128, whatever is said."""
    train_all(bench, {arm(r, b, s): (r, b, REFERENCE) for s in SIZES for b in BUDGETS for r in RULES})
    memory(bench, [REFERENCE] * len(SIZES))


def train_all(bench: "Bench", arms: dict[str, tuple[str, str, int]]) -> None:
    """Every arm at every seed, in turn."""
    import time

    from dlintro.models import FlatNet

    epochs = bench.pick(EPOCHS, 2)
    twice = {arm(r, b, 32) for r in RULES for b in BUDGETS} | {arm("none", "steps", 512), f"batch {REFERENCE}"}
    for cell in bench.cells(arms, twice=twice):
        rule, budget, size = arms[cell.arm]
        data = bench.data("mnist", batch_size=size, train_size=IMAGES, seed=cell.seed)
        optim = {"name": "sgd", "lr": 0.1, "momentum": 0.0, "lr_rule": rule, "lr_reference_batch": REFERENCE}
        model = FlatNet(hidden=[128], optim=optim)
        steps = epochs * -(-IMAGES // (size if budget == "epochs" else REFERENCE))
        curve = losses_along_the_way(bench, steps)
        start = time.perf_counter()
        bench.train(model, data, steps=steps, callbacks=[curve])
        seconds = time.perf_counter() - start - curve.seconds
        cell.record("seconds of an epoch", seconds * IMAGES / (steps * size))
        cell.record("training loss", curve.train[-1])
        share, gap = at_target(curve.train, curve.test)
        cell.record("seconds to the target", seconds * share)
        cell.record("gap at the target", gap)
    for seed in range(bench.seeds):
        times = [seconds_of_an_epoch(bench, size, seed) for size in SIZES]
        bench.record("slope of seconds", slope(SIZES, times), seed=seed)


def seconds_of_an_epoch(bench: "Bench", size: int, seed: int) -> float:
    return bench.measurements.of("seconds of an epoch", arm("none", "epochs", size))[seed].value


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the logarithms."""
    import numpy as np
    from scipy.stats import linregress

    return float(linregress(np.log(sizes), np.log(values)).slope)


def losses_along_the_way(bench: "Bench", steps: int) -> Any:
    """Watches: the loss on all training and all test images, in evaluation mode, at equal distances."""
    import time

    import torch
    from lightning.pytorch.callbacks import Callback

    every = max(1, steps // bench.pick(NUM_EVALUATIONS, 4))

    class Losses(Callback):
        def __init__(self) -> None:
            self.train: list[float] = []
            self.test: list[float] = []
            self.seconds = 0.0  # that the evaluations took

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if trainer.global_step % every and trainer.global_step != steps:
                return
            start = time.perf_counter()
            data = trainer.datamodule
            for images, losses in ((data.train, self.train), (data.test, self.test)):
                logits_NK = bench.logits(pl_module, images)
                losses.append(float(torch.nn.functional.cross_entropy(logits_NK, images.labels)))
            pl_module.train()
            self.seconds += time.perf_counter() - start

    return Losses()


def at_target(train: Sequence[float], test: Sequence[float]) -> tuple[float, float]:
    """(the share of the run until the training loss is the target, test minus training loss there), between evaluations
    on straight lines; NaN where the target isn't reached."""
    for number, loss in enumerate(train):
        if loss <= TARGET:
            if number == 0:
                return 1 / len(train), test[0] - train[0]
            part = (train[number - 1] - TARGET) / (train[number - 1] - loss)
            gaps = [test[k] - train[k] for k in (number - 1, number)]
            return (number + part) / len(train), gaps[0] + part * (gaps[1] - gaps[0])
    return float("nan"), float("nan")


def memory(bench: "Bench", sizes: Sequence[int]) -> None:
    """Of the MNIST CNN: what autograd keeps from the forward pass, and the peak of a step. The first number is exact;
    the second is what the system or the device says."""
    import torch

    from dlintro.models import MnistCNN

    model = MnistCNN().to(bench.device.kind)
    bytes_8, bytes_16 = (kept_bytes(model, size) for size in (8, 16))
    each = (bytes_16 - bytes_8) / 8
    for said, size in zip(SIZES, sizes, strict=True):
        kept = kept_bytes(model, size)
        bench.record("bytes kept for backward", kept, arm=f"batch {said}", expected=bytes_8 + (said - 8) * each)
    peaks = [peak_bytes(torch.device(bench.device.kind), model, size) for size in sizes]
    if None not in peaks and len(set(sizes)) > 1:
        bench.record("slope of the peak, bytes per image", (peaks[-1] - peaks[0]) / (sizes[-1] - sizes[0]))  # type: ignore[operator]
    elif None not in peaks:
        bench.record("slope of the peak, bytes per image", -1)  # equal batches: no slope


def kept_bytes(model: Any, size: int) -> int:
    """Of all tensors but the parameters that autograd saves."""
    import torch

    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images_BCHW = torch.zeros(size, 1, 28, 28, dtype=torch.uint8, device=model.device)
    labels_B = torch.zeros(size, dtype=torch.long, device=model.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.loss(model(images_BCHW), labels_B)
    return sum(kept.values())


def peak_bytes(device: Any, model: Any, size: int) -> int | None:
    """The most memory that a step held at once; None where nobody says."""
    import sys
    from pathlib import Path

    import torch

    from dlintro.memory import on_accelerator, ram_peak_bytes

    def step() -> None:
        images_BCHW = torch.zeros(size, 1, 28, 28, dtype=torch.uint8, device=device)
        model.loss(model(images_BCHW), torch.zeros(size, dtype=torch.long, device=device)).backward()

    if on_accelerator(device):
        torch.accelerator.reset_peak_memory_stats()
        step()
        return torch.accelerator.max_memory_allocated()
    if sys.platform != "linux":
        return None
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from what is held now
    step()
    return ram_peak_bytes()


def draw(bench: "Bench") -> None:
    import numpy as np

    from dlintro.claims.figures import COLOURS, panel, panels

    figure, axes = panel("Smaller batches, longer epochs", "batch size", "seconds for 5,000 images")
    times = [bench.measurements.values("seconds of an epoch", arm("none", "epochs", size)) for size in SIZES]
    for size, values in zip(SIZES, times, strict=True):
        axes.loglog([size] * len(values), values, "o", color=COLOURS[0], alpha=0.5)
    axes.loglog(SIZES, [values.mean() for values in times], color=COLOURS[0])
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    bench.show("seconds", "Training time of an epoch; a dot for each seed.", figure)

    figure, (plots,) = panels(
        1, 2, "Who fits the training images worse depends on what is held equal", size=(9, 3.8), share=True
    )
    for plot, budget in zip(plots, BUDGETS, strict=True):
        for rule, colour in zip(RULES, COLOURS, strict=False):
            means = [np.mean(bench.measurements.values("training loss", arm(rule, budget, size))) for size in SIZES]
            plot.loglog(SIZES, means, "o-", color=colour, label=RATES[rule])
        plot.set(title=f"equal {budget}", xlabel="batch size", ylabel="training loss at the end")
        plot.set_xticks(SIZES, [str(size) for size in SIZES])
        plot.grid(alpha=0.25)
    plots[0].legend(frameon=False)
    bench.show("underfitting", "Mean over seeds of the loss on all training images, in evaluation mode.", figure)
