"""Counts the operators that a training step launches, each a small program that works on whole tensors."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

SMALL, LARGE = 8, 64  # batch sizes

CLAIM = Claim(
    title="Kernels",
    slide="GPU Basics",
    says="Kernels are small programs that run on the processor's cores in parallel; PyTorch launches them for us.",
    kind="identity, measured",
    seconds=3,
    core=Count(
        "A training step of FlatNet, two lines of mathematics, launches at least ten operators",
        "operators, FlatNet",
        beyond=10,
    ),
    more=(Count("A training step of VGG16 launches hundreds of operators", "operators, VGG16", beyond=100),),
    checks=(
        Exact(
            "A step launches as many for 64 images as for 8, because an operator works on the whole batch",
            "operators for a larger batch",
        ),
    ),
    student=Student(
        predict="A batch holds eight times as many images. How many times as many operators does a step launch?",
        change="Set LARGE in src/dlintro/claims/slides/kernels.py to 512.",
        expected="The step still launches as many. That is why a large batch wastes less time on launching.",
    ),
    notes=(
        "PyTorch's profiler counts the operators of forward, backward and optimizer that launch work themselves. On a GPU "
        "each of them launches one kernel or a few. On a CPU an operator runs in this process's threads.",
    ),
)


def measure(bench: "Bench") -> None:
    run(bench, batches=1)


def falsify(bench: "Bench") -> None:
    """Work through the larger batch in small ones, and count no step at all."""
    run(bench, batches=LARGE // SMALL, steps=0)


def run(bench: "Bench", batches: int, steps: int = 1) -> None:
    from dlintro.models import VGG16, FlatNet, MnistCNN

    found = {}
    for model in (FlatNet(), MnistCNN(), VGG16((1, 28, 28))):
        name = type(model).__name__
        found[name] = operators(bench, model, SMALL, 1) * steps
        bench.record(f"operators, {name}", found[name])
        larger = operators(bench, model, LARGE // batches, batches)
        bench.record("operators for a larger batch", larger, arm=name, expected=operators(bench, model, SMALL, 1))
    draw(bench, found)


def operators(bench: "Bench", model: "Classifier", batch_size: int, batches: int) -> int:
    """Count the kernels that an accelerator ran in `batches` training steps. Where the profiler doesn't tell, count the
    operators that don't hand on to another operator."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]  # exists in PyTorch 2.14
    from torch.profiler import profile

    step = bench.training_step(model, batch_size)
    step()  # the first step also creates the optimizer's state
    with profile() as profiler:
        for _ in range(batches):
            step()
    kernels = sum(int(event.device_type != DeviceType.CPU) for event in profiler.events())
    if kernels:
        return kernels
    events = [event for event in profiler.events() if event.name.startswith("aten::")]
    return sum(not any(child.name.startswith("aten::") for child in event.cpu_children) for event in events)


def draw(bench: "Bench", found: dict[str, int]) -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("Operators of one training step", "", "operators", size=(5.6, 3.6))
    axes.bar_label(axes.bar(list(found), list(found.values()), color=COLOURS[0]))
    bench.show(
        "operators",
        "Operators of forward, backward and optimizer together. The batch size doesn't change them.",
        figure,
    )
