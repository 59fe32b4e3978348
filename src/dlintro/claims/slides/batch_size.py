"""Measures what the batch size changes: time, memory, and how well training images and new images are fitted."""

import multiprocessing
from collections.abc import Container, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Effect, Exact, Within

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

SIZES = (8, 32, 128, 512, 2048)
REFERENCE = 128  # at this size all rules have the same rate, and both budgets are the same run
RULES = {
    "none": "one rate",
    "sqrt": "rate ∝ √batch",
    "linear": "rate ∝ batch",
}  # optim.lr_rule -> its name in the report
BUDGETS = ("epochs", "steps")
IMAGES, EPOCHS = 4_096, 7  # divisible by all sizes; 5,000 would leave a last batch of 8 images for the last step
QUICK_IMAGES, QUICK_EPOCHS = 2_048, 1
RATE = 0.05  # at the reference; with 0.1 the linear rule would give 2,048 a rate of 1.6, which learns nothing
TARGET = 0.35  # training loss


def arm(rule: str, budget: str, size: int) -> str:
    return f"batch {size}" if size == REFERENCE else f"batch {size}, {RULES[rule]}, equal {budget}"


ARMS = {arm(rule, budget, size): (rule, budget, size) for size in SIZES for budget in BUDGETS for rule in RULES}
SMALL, LARGE = arm("none", "epochs", 8), arm("none", "steps", 512)  # both reach the target
FOLLOWED = {SMALL, LARGE, arm("none", "epochs", REFERENCE)}  # evaluated during training, too

CLAIM = Claim(
    title="The batch size",
    slide="Stochastic Gradient Descent",
    says="Smaller batches take longer and risk overfitting; larger ones take more memory and risk underfitting.",
    kind="identity, measured",
    seconds=310,
    seeds=8,
    core=Effect(
        f"At a training loss of {TARGET}, the test loss is further above it with batches of 8 than of 512 (overfitting)",
        "gap at the target", SMALL, LARGE, relative=True, unit="",
    ),
    stated=(
        Within("An epoch takes less time with larger batches", "slope of seconds", high=0),
        Count("The measured peak of memory grows with the batch", "slope of the peak", beyond=1, unit="bytes per image"),
        *(
            Effect(
                f"With {RULES[rule]} and equal {budget}, batches of 2,048 fit the training images worse than of 32 "
                "(underfitting)",
                "training loss", arm(rule, budget, 2048), arm(rule, budget, 32), relative=True, unit="",
                falsified="holds" if budget == "steps" else "",  # with as many steps they see 64 times the images
            )
            for budget in BUDGETS
            for rule in RULES
        ),
    ),
    more=(
        Effect(
            f"Batches of 8 take longer to reach a training loss of {TARGET} than batches of 128",
            "seconds to the target", SMALL, arm("none", "epochs", REFERENCE), ratio=True,
        ),
    ),
    checks=(
        Exact("The memory kept for the backward pass grows exactly linearly with the batch", "bytes kept for backward"),
    ),
    student=Student(
        predict="Which batch size ends with the smallest training loss after equal epochs? And after equal steps?",
        change="Set EPOCHS in src/dlintro/claims/slides/batch_size.py to 20.",
        expected="All sizes fit better. With equal epochs the large batches still trail, and with equal steps the small "
        "ones do.",
    ),
    notes=(
        "The model has one hidden layer of 128 units and trains on 4,096 of MNIST's images with plain gradient descent. "
        "The learning rate is 0.05 at batch 128 and follows the rule elsewhere. It is not tuned for each size; Shallue et "
        "al. (2018, arXiv 1811.03600) did that.",
        "Equal epochs give small batches more steps, and equal steps give large batches more images. Which of them fits "
        "worse depends on that choice and on the learning rate. The slide is therefore fair to say \"still debated\" "
        "(Keskar 2016, 1609.04836; Shallue 2018).",
        "Pix2Pix uses batches of one because of instance normalisation, which needs no other images, and not because it "
        "maps one image to one image.",
        "The peak of memory is measured in a new process (on an accelerator: on the device), above what was held before "
        "the step, from the smallest batch to the largest.",
    ),
)  # fmt: skip


def measure(bench: "Bench") -> None:
    train_all(bench, sizes=SIZES)
    memory(bench, sizes=SIZES)
    draw(bench)


def falsify(bench: "Bench") -> None:
    """The sizes are exchanged: a so-called batch of 8 holds 2,048 images. With equal steps large batches fit better, so
    there the arms called 2,048 don't learn at all."""
    still = {arm(rule, "steps", 2048) for rule in RULES}
    train_all(bench, sizes=SIZES[::-1], still=still)
    memory(bench, sizes=SIZES[::-1])


def train_all(bench: "Bench", sizes: Sequence[int], still: Container[str] = ()) -> None:
    """Train every arm with every seed. An arm called SIZES[k] has batches of sizes[k]; the arms `still` have rate 0."""
    from dlintro.models import FlatNet

    images = bench.pick(IMAGES, QUICK_IMAGES)
    really = dict(zip(SIZES, sizes, strict=True))
    for cell in bench.cells(ARMS):
        rule, budget, said = ARMS[cell.arm]
        size = really[said]
        data = bench.data("mnist", batch_size=size, train_size=images, seed=cell.seed)
        rate = 0.0 if cell.arm in still else RATE
        optim = {"name": "sgd", "lr": rate, "momentum": 0.0, "schedule": "none"}
        optim |= {"lr_rule": rule, "lr_reference_batch": REFERENCE}
        model = FlatNet(hidden=[128], optim=optim)
        steps = bench.pick(EPOCHS, QUICK_EPOCHS) * -(-images // (size if budget == "epochs" else REFERENCE))
        watch = losses_along_the_way(bench, steps, followed=cell.arm in FOLLOWED)
        bench.train(model, data, steps=steps, callbacks=[watch])
        cell.record("seconds of an epoch", watch.seconds / watch.images * IMAGES)
        cell.record("training loss", watch.points[-1][1])
        if cell.arm in FOLLOWED:
            seconds, gap = at_target(watch.points)
            cell.record("seconds to the target", seconds)
            cell.record("gap at the target", gap)
    seconds_SA = [bench.measurements.values("seconds of an epoch", arm("none", "epochs", size)) for size in SIZES]
    for seed in range(bench.seeds):
        bench.record("slope of seconds", slope([float(seconds_A[seed]) for seconds_A in seconds_SA]), seed=seed)


def slope(values: Sequence[float]) -> float:
    """Return the slope of the values' logarithms over the logarithms of the sizes."""
    import numpy as np
    from scipy.stats import linregress

    return float(linregress(np.log(SIZES), np.log(values)).slope)


def losses_along_the_way(bench: "Bench", steps: int, followed: bool) -> Any:
    """Return a callback that times the training and evaluates the losses on all training and test images: at the end,
    and if `followed` also before the first step and whenever the number of steps has grown by a fifth."""
    import time

    import torch
    from lightning.pytorch.callbacks import Callback

    from dlintro.memory import on_accelerator

    class Losses(Callback):
        def __init__(self) -> None:
            self.points: list[tuple[float, float, float]] = []  # seconds so far, training loss, test loss
            self.seconds, self.images, self.next = 0.0, 0, 0.0

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            if followed:
                self.evaluate(trainer, pl_module)
            self.since = time.perf_counter()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            self.images = pl_module.images_seen
            last = trainer.global_step == steps
            if not last and not (followed and trainer.global_step >= self.next):
                return
            if on_accelerator(pl_module.device):
                torch.accelerator.synchronize()
            self.seconds += time.perf_counter() - self.since
            self.evaluate(trainer, pl_module)
            self.next = 1.2 * trainer.global_step
            self.since = time.perf_counter()  # evaluations aren't counted

        def evaluate(self, trainer: Any, pl_module: Any) -> None:
            data, losses = trainer.datamodule, []
            for images in (data.train, data.test) if followed else (data.train,):
                logits_NK = bench.logits(pl_module, images)
                losses.append(float(torch.nn.functional.cross_entropy(logits_NK, images.labels)))
            self.points.append((self.seconds, losses[0], losses[-1]))
            pl_module.train()

    return Losses()


def at_target(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return the seconds until the training loss reaches the target, and the test minus the training loss there. Both are
    interpolated between two evaluations. They are NaN if the target isn't reached; that comparison is undecided."""
    for (time, loss, test), (next_time, next_loss, next_test) in pairwise(points):
        if next_loss <= TARGET < loss:
            share = (loss - TARGET) / (loss - next_loss)
            gap, next_gap = test - loss, next_test - next_loss
            return time + share * (next_time - time), gap + share * (next_gap - gap)
    return float("nan"), float("nan")


def memory(bench: "Bench", sizes: Sequence[int]) -> None:
    import torch
    from scipy.stats import linregress

    from dlintro.models import FlatNet

    model = FlatNet(hidden=[128]).to(torch.device(bench.device.kind))
    one, two = kept_bytes(model, 1), kept_bytes(model, 2)
    for said, size in zip(SIZES, sizes, strict=True):
        expected = one + (said - 1) * (two - one)
        bench.record("bytes kept for backward", kept_bytes(model, size), arm=f"batch of {said}", expected=expected)
    # A new process: this one would use memory again that earlier trainings freed.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        peaks = pool.submit(peaks_of, bench.device.kind, sizes).result()
    for said, peak in zip(SIZES, peaks, strict=False):
        bench.record("peak of memory", peak, arm=f"batch of {said}")
    if peaks:
        bench.record("slope of the peak", float(linregress(SIZES, peaks).slope))


def batch_of(model: "Classifier", size: int) -> "tuple[torch.Tensor, torch.Tensor]":
    import torch

    images_BCHW = torch.zeros(size, *model.image_shape, dtype=torch.uint8, device=model.device)
    return images_BCHW, torch.zeros(size, dtype=torch.long, device=model.device)


def kept_bytes(model: "Classifier", size: int) -> int:
    """Return the bytes that autograd saves in the forward pass, without parameters; each storage counts once."""
    import torch

    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    images_BCHW, labels_B = batch_of(model, size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model.loss(model(images_BCHW), labels_B)
    assert loss.requires_grad  # keeps the loss alive until here, so no freed storage's address is used again
    return sum(kept.values())


def peaks_of(kind: str, sizes: Sequence[int]) -> list[int]:
    """Return a step's peak of memory for each batch size, or [] where the system doesn't tell it."""
    import sys

    import torch

    from dlintro.memory import on_accelerator
    from dlintro.models import FlatNet

    model = FlatNet(hidden=[128]).to(torch.device(kind))
    if sys.platform != "linux" and not on_accelerator(model.device):
        return []
    peak_bytes(model, 1)  # the first step of a process takes some memory once
    return [peak_bytes(model, size) for size in sizes]


def peak_bytes(model: "Classifier", size: int) -> int:
    """Return the most memory that a step held at once, in bytes above what was held before it."""
    from pathlib import Path

    import torch

    from dlintro.memory import on_accelerator, ram_peak_bytes

    images_BCHW, labels_B = batch_of(model, size)
    if on_accelerator(model.device):
        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        model.loss(model(images_BCHW), labels_B).backward()
        return int(torch.accelerator.max_memory_allocated() - before)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts from what is held now
    before = ram_peak_bytes()
    model.loss(model(images_BCHW), labels_B).backward()
    return ram_peak_bytes() - before


def draw(bench: "Bench") -> None:
    from dlintro.claims.figures import COLOURS, panel, panels

    figure, axes = panel("Epochs take longer with smaller batches", "batch size", f"seconds for {IMAGES:,} images")
    times = [bench.measurements.values("seconds of an epoch", arm("none", "epochs", size)) for size in SIZES]
    for size, values in zip(SIZES, times, strict=True):
        axes.loglog([size] * len(values), values, "o", color=COLOURS[0], alpha=0.5)
    axes.loglog(SIZES, [values.mean() for values in times], color=COLOURS[0])
    axes.set_xticks(SIZES, [str(size) for size in SIZES])
    axes.minorticks_off()
    bench.show("seconds", "Training time of one epoch. Each dot is one seed, and the line joins the means.", figure)

    title = "Which batch size fits worse depends on what is held equal"
    figure, (plots,) = panels(1, 2, title, size=(9, 3.8), share=True)
    for plot, budget in zip(plots, BUDGETS, strict=True):
        for rule, colour in zip(RULES, COLOURS, strict=False):
            losses = [bench.measurements.values("training loss", arm(rule, budget, size)).mean() for size in SIZES]
            plot.loglog(SIZES, losses, "o-", color=colour, label=RULES[rule])
        plot.set(title=f"equal {budget}", xlabel="batch size")
        plot.set_xticks(SIZES, [str(size) for size in SIZES])
        plot.tick_params(axis="x", which="minor", bottom=False)
        plot.grid(alpha=0.25)
    plots[0].set_ylabel("training loss at the end")
    plots[0].legend(frameon=False)
    bench.show("underfitting", "Loss on all training images in evaluation mode, averaged over the seeds.", figure)
