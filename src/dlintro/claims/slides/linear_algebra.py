"""Measures how much of a training step is linear algebra: matrix products and convolutions."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Within

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

LINEAR = ("mm", "matmul", "linear", "conv")  # parts of operators' names

CLAIM = Claim(
    title="Lots of linear algebra",
    slide="Deep Learning Introduction",
    says="Deep learning is lots of differential and linear algebra operations.",
    kind="measured",
    seconds=18,
    seeds=5,
    core=Within("More than half of a VGG16 step is linear algebra", "share of the step", "VGG16", low=0.5, unit="%"),
    stated=(
        Within(
            "More than half of an MNIST CNN step is linear algebra", "share of the step", "MNIST CNN", low=0.5, unit="%"
        ),
        Within("More than half of a FlatNet step is linear algebra", "share of the step", "FlatNet", low=0.5, unit="%"),
    ),
    student=Student(
        predict="Which of the three models spends the largest share of its time on matrix products and convolutions?",
        change="Set BATCH_SIZE in src/dlintro/claims/slides/linear_algebra.py to 2_048.",
        expected="FlatNet's share changes most: with small batches the rest of the step takes longer than its products.",
    ),
    notes=(
        "PyTorch's profiler measures the time in all operators of forward, backward and optimizer. The share is the time "
        "in matrix products and convolutions. The Python code around the operators is not counted.",
    ),
)

BATCH_SIZE = 64
STEPS = 3


def measure(bench: "Bench") -> None:
    run(bench, LINEAR)


def falsify(bench: "Bench") -> None:
    """Count the activations instead."""
    run(bench, ("relu", "threshold"))


def run(bench: "Bench", parts_of_names: tuple[str, ...]) -> None:
    from dlintro.claims.figures import dots
    from dlintro.models import VGG16, FlatNet, MnistCNN

    models = {"FlatNet": FlatNet, "MNIST CNN": MnistCNN, "VGG16": VGG16}
    for cell in bench.cells(models):
        vgg16 = cell.arm == "VGG16"
        model = models[cell.arm]((3, 32, 32) if vgg16 else (1, 28, 28))
        cell.record(
            "share of the step", share(bench, model, bench.pick(BATCH_SIZE, 16 if vgg16 else 64), parts_of_names)
        )
    figure = dots(
        bench.measurements, "share of the step", "Linear algebra in a training step", "share of the time (%)", 100
    )
    figure.axes[0].set_ylim(0, 100)
    bench.show("share", "The share of time in matrix products and convolutions. Each dot is one repetition.", figure)


def share(bench: "Bench", model: "Classifier", batch_size: int, parts_of_names: tuple[str, ...]) -> float:
    import torch
    from torch.profiler import profile

    from dlintro.memory import on_accelerator

    on_device = on_accelerator(torch.device(bench.device.kind))
    step = bench.training_step(model, batch_size)
    step()  # the first step also chooses kernels and creates the optimizer's state
    with profile() as profiler:
        for _ in range(STEPS):
            step()
    times = {
        event.key: event.self_device_time_total if on_device else event.self_cpu_time_total
        for event in profiler.key_averages()
        if event.key.startswith("aten::")
    }
    linear = sum(time for name, time in times.items() if any(part in name for part in parts_of_names))
    return float(linear / sum(times.values()))
