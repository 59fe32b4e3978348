"""Measures where a training step's time goes: reading a batch, moving it, computing, bringing the result back."""

import time
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.callbacks.pipeline import Stopwatches
    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

BATCH_SIZE = 128
MODELS = ("FlatNet", "MnistCNN")
WARM_UP = 20  # steps that are not timed, while memory is taken and kernels are chosen
STEPS = 200  # timed by parts; as many between them are timed only as a whole
SUM = "sum of the parts over the wall time"

CLAIM = Claim(
    title="The pipeline of a training step",
    slide="Deep Learning Pipeline; Deep Learning Pipeline (cont.)",
    says="Data are read into RAM and moved to the device's memory, where the model is. The device computes, and the "
    "results are moved back. Data and model must be on the same device.",
    kind="identity, measured, picture missing",
    seconds=32,
    seeds=5,
    core=Exact("A model and data on different devices raise an error", "error on different devices"),
    more=tuple(
        Count(
            f"The parts of {name}'s step add up to its total time within 5 % (median of {STEPS} steps)",
            SUM, name, beyond=0.95, below=1.05,
        )
        for name in MODELS
    ),
    checks=(
        Exact("On the same device they raise none", "error on the same device"),
        Exact("A batch as float32 has four times the bytes to move as one of uint8", "float32 bytes over uint8 bytes"),
    ),
    student=Student(
        predict="How much of a step of the MNIST CNN on this machine is computing, and how much is everything else?",
        change="Set BATCH_SIZE in src/dlintro/claims/slides/pipeline.py to 8.",
        expected="Computing shrinks and the rest hardly does: the rest grows from a twentieth of the step to a seventh.",
    ),
    notes=(
        "The picture of the slide before this one is missing from the text of the course. The picture here shows measured "
        "times.",
        "The check tries this machine's devices and `meta`, which is no GPU. Tensors on `meta` have a shape and no numbers, "
        "but PyTorch still refuses to mix them with others. A single number (a tensor without dimensions) may be mixed.",
        "On a CPU, data and model are already in the RAM, so step 2 moves nothing.",
        "Timing takes time. Every other step is timed by parts and the steps between them only as a whole; "
        "measurements.csv has both. FlatNet's short step takes several percent longer when its parts are timed. On a GPU "
        "the difference is larger, because Python must wait for each part and can't prepare the next one.",
        "Each step brings back its loss, as in src/dlintro/bare_loop.py, which has each line of the slide.",
    ),
)  # fmt: skip


def measure(bench: "Bench") -> None:
    import torch

    mix_devices(bench, shift=0)
    weigh(bench, torch.float32)
    watch(bench)


def falsify(bench: "Bench") -> None:
    """Mix devices where they must agree and the other way round, take float64 for float32, and leave backward out."""
    import torch

    mix_devices(bench, shift=1)
    weigh(bench, torch.float64)
    watch(bench, left_out="backward")


def mix_devices(bench: "Bench", shift: int) -> None:
    """Try each pair of this machine's devices; the data go `shift` devices further than the arm's name tells."""
    from itertools import product

    import torch

    devices = list(dict.fromkeys([torch.device("cpu").type, bench.device.kind, "meta"]))
    put_on = dict(zip(devices, devices[shift:] + devices[:shift], strict=True))
    images_BCHW, _ = bench.data("mnist").train.__getitems__(list(range(4)))
    for name, model_on, data_on in product(MODELS, devices, devices):
        error = raises(model_of(name).to(model_on), images_BCHW.to(put_on[data_on]))
        quantity = "error on the same device" if model_on == data_on else "error on different devices"
        arm = f"{name} on {model_on}, data on {data_on}"
        bench.record(quantity, error, arm=arm, expected=model_on != data_on)


def raises(model: "Classifier", images_BCHW: "torch.Tensor") -> bool:
    try:
        model(images_BCHW)
    except RuntimeError:  # PyTorch: "expected all tensors to be on the same device"
        return True
    return False


def weigh(bench: "Bench", kind: "torch.dtype") -> None:
    """Compare the bytes of a batch from the loader with those after the model's first layer."""
    images_BCHW, _ = next(iter(bench.data("mnist", batch_size=BATCH_SIZE).train_dataloader()))
    pixels_BCHW = model_of("FlatNet").pixels(images_BCHW).to(kind)
    bench.record("float32 bytes over uint8 bytes", pixels_BCHW.nbytes / images_BCHW.nbytes, expected=4)


def model_of(name: str) -> "Classifier":
    from dlintro.models import model_classes

    return model_classes()[name](optim={"lr": 1e-3, "schedule": "none"})


def watch(bench: "Bench", left_out: str = "") -> None:
    """Record the medians of the steps' parts and of whole steps, in ms."""
    from statistics import median

    from lightning.pytorch.callbacks import LambdaCallback

    from dlintro.callbacks.pipeline import PARTS, Stopwatches

    for cell in bench.cells(MODELS):
        clock = StepClock(Stopwatches())
        data = bench.data("mnist", batch_size=BATCH_SIZE, seed=cell.seed)
        callback = LambdaCallback(on_train_start=clock.start, on_train_batch_end=clock.end_of_step)
        steps = bench.pick(STEPS, 50)
        bench.train(model_of(cell.arm), data, steps=WARM_UP + 2 * steps, callbacks=[callback])
        sums = [sum(seconds for part, seconds in parts.items() if part != left_out) for parts, _ in clock.timed]
        cell.record(SUM, median(total / whole for total, (_, whole) in zip(sums, clock.timed, strict=True)))
        cell.record("step, its parts timed", 1000 * median(whole for _, whole in clock.timed))
        cell.record("step, timed as a whole", 1000 * median(clock.wholes))
        for part in PARTS:
            cell.record(part, 1000 * median(parts.get(part, 0.0) for parts, _ in clock.timed))
    draw(bench)


class StepClock:
    """Times every other step by parts and the steps between them only as a whole, in seconds. A step lasts from one call
    of `end_of_step` to the next."""

    def __init__(self, watches: "Stopwatches") -> None:
        self.watches = watches
        self.timed: list[tuple[dict[str, float], float]] = []  # parts, whole
        self.wholes: list[float] = []
        self.since = 0.0

    def start(self, trainer: Any, model: Any) -> None:
        from dlintro.memory import on_accelerator

        trainer.profiler = self.watches  # the Trainer tells its profiler what it does
        self.watches.synchronizes = on_accelerator(model.device)

    def end_of_step(self, trainer: Any, model: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        from dlintro.callbacks.pipeline import ACTIONS

        with self.watches.profile("results"):
            outputs["loss"].item()  # the slide's fourth step; it waits for the device
        parts = dict(self.watches.end()) if self.watches.actions else {}
        whole = time.perf_counter() - self.since
        if batch_idx >= WARM_UP and parts:
            self.timed.append((parts, whole))
        elif batch_idx >= WARM_UP:
            self.wholes.append(whole)
        self.since = time.perf_counter()
        if not parts:
            self.watches.begin(ACTIONS)


def draw(bench: "Bench") -> None:
    from dlintro.callbacks.pipeline import PARTS
    from dlintro.claims.figures import panel

    title = "Where a training step's time goes"
    figure, axes = panel(title, "share of the step (%)", size=(9, 3.6))
    axes.set_xlim(0, 100)
    axes.grid(visible=False)
    labels = []
    for row, name in enumerate(MODELS):
        times = {part: float(bench.measurements.values(part, name).mean()) for part in PARTS}
        whole, left = sum(times.values()), 0.0
        labels.append(f"{name}\n{whole:.2g} ms")
        for part, (words, colour) in PARTS.items():
            share = 100 * times[part] / whole
            if share:
                axes.barh(row, share, left=left, color=colour, label=words.strip() if row == 0 else None)
            left += share
    axes.set_yticks(range(len(MODELS)), labels)
    axes.invert_yaxis()
    axes.legend(bbox_to_anchor=(1.01, 1), loc="upper left", frameon=False, fontsize=9)
    bench.show(
        "pipeline", f"The parts of a step with a batch of {BATCH_SIZE}: medians, averaged over the runs.", figure
    )
