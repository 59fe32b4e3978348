"""Times a training step with and without the library of tuned kernels."""

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

    Switch = Callable[[bool], AbstractContextManager[None]]

CLAIM = Claim(
    title="cuDNN, and oneDNN",
    slide="PyTorch",
    says="PyTorch uses cuDNN, NVIDIA's library of deep-learning kernels.",
    kind="identity, measured",
    seconds=6,
    seeds=7,
    core=Effect(
        "A training step of the MNIST CNN is faster with cuDNN", "seconds, cuDNN", "cuDNN off", "cuDNN on", ratio=True
    ),
    more=(
        Effect(
            "On a CPU, the step is faster with oneDNN, Intel's counterpart",
            "seconds, oneDNN", "oneDNN off", "oneDNN on", ratio=True,
        ),
    ),
    checks=(
        Exact("The library changes no result: the logits agree", "largest difference of logits", tolerance=1e-4),
    ),
    student=Student(
        predict="Does a library of tuned kernels make a step twice as fast, or ten times as fast?",
        change="Set BATCH_SIZE in src/dlintro/claims/slides/cudnn.py to 1.",
        expected="The ratio shrinks: with one image there is little to compute and much to call.",
    ),
    notes=(
        "cuDNN needs an NVIDIA GPU; without one, its statement is not measured. PyTorch uses oneDNN on a CPU. Without "
        "oneDNN, PyTorch's own convolutions run.",
    ),
)  # fmt: skip

BATCH_SIZE = 128
STEPS = 8


def measure(bench: "Bench") -> None:
    compare(bench, off=False)


def falsify(bench: "Bench") -> None:
    """Both arms use the library, and the logits are a little off."""
    compare(bench, off=True, error=1e-3)


def compare(bench: "Bench", off: bool, error: float = 0.0) -> None:
    """Time both arms. `off` is what the switch is set to in the arm called off."""
    import torch

    from dlintro.claims.figures import dots

    libraries: dict[str, Switch] = {}
    if bench.device.kind == torch.device("cpu").type:
        if torch.backends.mkldnn.is_available():
            libraries["oneDNN"] = lambda on: torch.backends.mkldnn.flags(enabled=on)
    elif torch.backends.cudnn.is_available():
        libraries["cuDNN"] = lambda on: torch.backends.cudnn.flags(enabled=on)
    for name, switch in libraries.items():
        for cell in bench.cells([f"{name} off", f"{name} on"]):
            with switch(cell.arm.endswith("on") or off):
                cell.record(f"seconds, {name}", seconds_of_a_step(bench))
        difference = (logits(bench, switch, on=True) - logits(bench, switch, on=False)).abs().max().item()
        bench.record("largest difference of logits", difference + error, arm=name, expected=0)
        title = f"A training step of the MNIST CNN, batch {BATCH_SIZE}"
        bench.show(
            name.lower(),
            "Each dot is one run, and the line is their mean.",
            dots(bench.measurements, f"seconds, {name}", title, "milliseconds", 1e3),
        )


def seconds_of_a_step(bench: "Bench") -> float:
    """Return the median time of a bare loop's step on MNIST images."""
    import time
    from statistics import median

    from dlintro import bare_loop
    from dlintro.models import MnistCNN

    data = bench.data("mnist", batch_size=BATCH_SIZE, train_size=BATCH_SIZE * (STEPS + 1))
    model = MnistCNN(optim={"lr": 1e-3, "schedule": "none"})
    times = [time.perf_counter()]
    for _ in bare_loop.train(model, data, 1, bench.device.kind):
        times.append(time.perf_counter())
    return median(later - earlier for earlier, later in itertools.pairwise(times))


def logits(bench: "Bench", switch: "Switch", on: bool) -> "torch.Tensor":
    import torch

    from dlintro.models import MnistCNN

    torch.manual_seed(0)
    with switch(on):
        return bench.logits(MnistCNN(), bench.data("mnist").test.images_NCHW[:256])
