"""Times the same training step on each processor of this machine, with one or two threads and in two precisions."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlintro.claims.bench import Bench

ONE, TWO = "1 thread", "2 threads"
FLOAT32, BF16 = "CPU, float32", "CPU, bf16"
CPU, DEVICE = "the CPU", "the accelerator"
NAMES = {"vgg16": "VGG16", "flatnet": "FlatNet"}


def faster(name: str, more: str, less: str, words: str) -> Effect:
    """The arm `more` trains more images of the model in a second than `less`."""
    return Effect(words.format(name), f"images per second, {name}, {more}", more, less, ratio=True)


CLAIM = Claim(
    title="Hardware accelerators",
    slide="Deep Learning Introduction; GPU Basics; Other GPGPU Alternatives",
    says="Hardware accelerators (GPU, TPU, tensor processors) with their many cores make deep learning fast.",
    kind="measured",
    seconds=65,
    seeds=7,
    core=faster("VGG16", DEVICE, CPU, "{} trains faster on the accelerator than on the CPU (batch size 32)"),
    more=(
        faster("FlatNet", DEVICE, CPU, "{} trains faster on the accelerator than on the CPU (batch size 32)"),
        *(
            faster(name, more, less, words)
            for more, less, words in (
                (TWO, ONE, "{} trains faster with two threads than with one (batch size 32)"),
                (
                    BF16,
                    FLOAT32,
                    "{} trains faster in bf16 than in float32 where the processor multiplies bf16 (batch size 32)",
                ),
            )
            for name in NAMES.values()
        ),
    ),
    student=Student(
        predict="FlatNet has only 7,850 parameters. Does it gain as much from a second core as VGG16 does?",
        change="Set BATCH_SIZE in src/dlintro/claims/slides/accelerators.py to 512.",
        expected="FlatNet gains more than with batches of 32: many cores need a large batch to be busy.",
    ),
    notes=(
        "Only the devices of this machine are measured. Without a GPU, the GPU is not compared with the CPU. TPUs, OpenCL "
        "and Intel's GPUs are never measured.",
        "The slide's picture of a GPU's cores beside a CPU's is missing from the text of the course. `scripts/devices` "
        "lists the cores of this machine.",
        "A batch of 32 is small for a GPU, so FlatNet may be slower there than on the CPU.",
    ),
)

BATCH_SIZE = 32
STEPS = {"vgg16": 4, "flatnet": 200}


def measure(bench: "Bench") -> None:
    run(bench, alike=False)


def falsify(bench: "Bench") -> None:
    """All arms use one thread, the CPU and float32."""
    run(bench, alike=True)


def run(bench: "Bench", alike: bool) -> None:
    import torch

    from dlintro.accelerators import Kind, has_native_bf16

    cpu: Kind = "cpu"
    device = bench.device.kind
    threads = torch.get_num_threads()
    pairs: dict[tuple[str, str], tuple[Way, Way]] = {}
    if device != cpu:
        pairs[DEVICE, CPU] = (Way(cpu if alike else device, threads), Way(cpu, threads))
    if threads >= 2:
        pairs[TWO, ONE] = (Way(cpu, 1 if alike else 2), Way(cpu, 1))
    if has_native_bf16(cpu, 0):
        pairs[BF16, FLOAT32] = (Way(cpu, threads, "32-true" if alike else "bf16-mixed"), Way(cpu, threads))
    ways = {arm: way for arms, both in pairs.items() for arm, way in zip(arms, both, strict=True)}
    for cell in bench.cells(ways):
        for model, name in NAMES.items():
            more = next(more for more, less in pairs if cell.arm in (more, less))
            speed = images_per_second(bench, model, ways[cell.arm])
            cell.record(f"images per second, {name}, {more}", speed)
    torch.set_num_threads(threads)
    draw(bench, list(pairs))


@dataclass(frozen=True)
class Way:
    """A way of training: on which device, with how many threads, and in which precision."""

    device: str
    threads: int
    precision: str = "32-true"


def images_per_second(bench: "Bench", model: str, way: Way) -> float:
    """Trains with the bare loop, which waits for each step's loss. The first step warms up and is not counted."""
    import time
    from statistics import median

    import torch

    from dlintro import bare_loop
    from dlintro.models import VGG16, Classifier, FlatNet

    kinds: dict[str, Callable[..., Classifier]] = {"vgg16": VGG16, "flatnet": FlatNet}
    torch.set_num_threads(way.threads)
    steps = bench.pick(STEPS[model], 3 if model == "vgg16" else 50)
    name = "cifar10" if model == "vgg16" else "mnist"
    data = bench.data(name, batch_size=BATCH_SIZE, train_size=BATCH_SIZE * steps)
    network = kinds[model](optim={"lr": 1e-3, "schedule": "none"})
    times = []
    for _ in bare_loop.train(network, data, 1, way.device, way.precision):
        times.append(time.perf_counter())
    return BATCH_SIZE / median(later - earlier for earlier, later in itertools.pairwise(times))


def draw(bench: "Bench", pairs: list[tuple[str, str]]) -> None:
    import numpy as np

    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("How many times as fast is it?", "times as fast", size=(6.4, 1.4 + 0.8 * len(pairs)))
    for row, (more, less) in enumerate(pairs):
        for offset, name, colour in ((-0.15, "VGG16", COLOURS[0]), (0.15, "FlatNet", COLOURS[1])):
            quantity = f"images per second, {name}, {more}"
            fast, slow = (bench.measurements.values(quantity, arm)[: bench.seeds] for arm in (more, less))
            axes.plot(
                fast / slow,
                np.full(len(fast), row + offset),
                "o",
                color=colour,
                alpha=0.6,
                label=name if not row else None,
            )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(pairs)), [f"{more}\ncompared with {less}" for more, less in pairs])
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    axes.legend(frameon=False)
    bench.show(
        "ratios",
        f"Each dot is one run: how many times as many images per second the first way trains (batch size {BATCH_SIZE}).",
        figure,
    )
