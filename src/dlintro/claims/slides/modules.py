"""Checks that modules contain modules and parameters, and that a parameter is a tensor."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    from types import ModuleType

    from dlintro.claims.bench import Bench

COUNTS = {"FlatNet": 7_850, "MnistCNN": 207_178, "VGG16": 14_728_266}

CLAIM = Claim(
    title="Modules, parameters, tensors",
    slide="PyTorch Hierarchy",
    says="nn.Module is the base class of everything; modules contain modules, these parameters, and these tensors.",
    kind="identity, measured",
    seconds=2,
    core=Exact("Every layer of torch.nn is an nn.Module", "torch.nn: modules of layers"),
    stated=(
        Exact(
            "Everything in torch.optim and torch.utils.data is an nn.Module",
            "elsewhere: modules of classes", falsified="holds",
        ),
        Exact("Each parameter is itself a tensor (a subclass) and doesn't just hold one", "parameters that are tensors"),
    ),
    checks=(
        Exact("The parameters of all modules inside a model add up to the model's", "sum over modules"),
        Exact("Their number follows from the layers' sizes", "parameters"),
    ),
    student=Student(
        predict="How many parameters does nn.Linear(784, 10) have?",
        change="Change FlatNet's number in COUNTS of src/dlintro/claims/slides/modules.py to 7_840.",
        expected="A check fails, so the claim gets no verdict: there are 784 · 10 = 7,840 weights and 10 biases.",
    ),
    notes=(
        "Optimizers, data sets and loaders are no modules: nn.Module is the base of what computes with parameters, not "
        "of everything. A module holds parameters, and a parameter is a tensor that the module's parameters() finds.",
    ),
)  # fmt: skip


def measure(bench: "Bench") -> None:
    import torch

    count_parameters(bench, torch.nn.Parameter)
    census(bench, base_of_layers=torch.nn.Module, base_of_others=torch.nn.Module)


def falsify(bench: "Bench") -> None:
    """Leave the biases out, take a class that is no tensor, a base that few layers share, and one that all share."""
    import torch

    count_parameters(bench, torch.nn.Module, without="bias")
    census(bench, base_of_layers=torch.nn.Conv2d, base_of_others=object)


def count_parameters(bench: "Bench", kind: type, without: str = "nothing") -> None:
    import torch

    from dlintro.models import VGG16, FlatNet, MnistCNN

    for model in (FlatNet(), MnistCNN(), VGG16()):
        name = type(model).__name__
        total = sum(parameter.numel() for parameter in model.parameters())
        inside = sum(
            parameter.numel()
            for module in model.modules()
            for own, parameter in module.named_parameters(recurse=False)
            if own != without
        )
        bench.record("sum over modules", inside, arm=name, expected=total)
        bench.record("parameters", inside, arm=name, expected=COUNTS[name])
        tensors = sum(isinstance(p, torch.Tensor) and isinstance(p, kind) for p in model.parameters())
        bench.record("parameters that are tensors", tensors, arm=name, expected=len(list(model.parameters())))


def census(bench: "Bench", base_of_layers: type, base_of_others: type) -> None:
    """Count the public classes that have this base. A layer is a class with a method forward."""
    import torch

    layers = [kind for kind in classes(torch.nn) if hasattr(kind, "forward")]
    modules = sum(issubclass(kind, base_of_layers) for kind in layers)
    bench.record("torch.nn: modules of layers", modules, expected=len(layers))
    others = [*classes(torch.optim), *classes(torch.utils.data)]
    modules = sum(issubclass(kind, base_of_others) for kind in others)
    bench.record("elsewhere: modules of classes", modules, expected=len(others))
    draw(bench, [torch.nn, torch.optim, torch.utils.data])


def classes(package: "ModuleType") -> list[type]:
    found = [getattr(package, name) for name in dir(package) if not name.startswith("_")]
    return sorted({kind for kind in found if isinstance(kind, type)}, key=lambda kind: kind.__name__)


def draw(bench: "Bench", packages: "list[ModuleType]") -> None:
    import torch

    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("nn.Module is the base of the layers, not of everything", "public classes", size=(6.4, 2.6))
    names = [package.__name__ for package in packages]
    modules = [sum(issubclass(kind, torch.nn.Module) for kind in classes(package)) for package in packages]
    others = [len(classes(package)) - num for package, num in zip(packages, modules, strict=True)]
    axes.barh(names, modules, color=COLOURS[0], label="are nn.Modules")
    axes.barh(names, others, left=modules, color=COLOURS[4], label="are not")
    axes.invert_yaxis()
    axes.legend(frameon=False)
    bench.show("census", "Public classes of three packages, with and without nn.Module as their base.", figure)
