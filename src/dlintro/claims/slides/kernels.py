"""What a training step launches: hundreds of small programs, each for one operation on whole tensors."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact, Within

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench
    from dlintro.models import Classifier

SMALL, LARGE = 8, 64  # batch sizes

CLAIM = Claim(
    title="Kernels",
    slide="GPU Basics",
    says="Kernels are small programs that run on the processor's cores in parallel; PyTorch launches them for us.",
    kind="identity, measured",
    seconds=12,
    statements=(
        Within(
            "a step of FlatNet, two lines of mathematics, launches ten operators or more", "operators, FlatNet", low=10
        ),
        Within("a step of VGG16 launches hundreds", "operators, VGG16", low=100),
        Exact("as many for 64 images as for 8: an operator works on the whole batch", "operators for a larger batch"),
    ),
    student=Student(
        predict="Eight times as many images in a batch: how many times as many operators does a step launch?",
        change="LARGE in src/dlintro/claims/slides/kernels.py, to 512",
        expected="Still as many: that is why a large batch wastes less time on launching.",
    ),
    notes=(
        "Operators that PyTorch's profiler counts: those that launch work themselves (on a GPU each launches one kernel or "
        "a few), of forward, backward and optimizer. On a CPU an operator runs in this process's threads.",
    ),
)


def measure(bench: "Bench") -> None:
    run(bench, batches=1)


def falsify(bench: "Bench") -> None:
    """Image by image where the larger batch is said; and an empty step."""
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
    """Of a training step (or of several small ones): the kernels that an accelerator ran, where its profiler tells;
    else the operators, less the names that only hand on to another one."""
    from torch.autograd import DeviceType  # type: ignore[attr-defined]  # it is there (PyTorch 2.14)
    from torch.profiler import profile

    step = bench.training_step(model, batch_size)
    step()  # the first one also makes the optimizer's state
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
    bench.show("operators", "Forward, backward and optimizer together, whatever the batch size.", figure)
