"""Times a matrix product as one tensor operation and as the three Python loops that it replaces."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Effect, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

    Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

LOOPS, TENSORS = "three Python loops", "one tensor operation"

CLAIM = Claim(
    title="Tensor operations are efficient",
    slide="PyTorch",
    says="PyTorch computes with tensors efficiently.",
    kind="identity, measured",
    seconds=2,
    seeds=7,
    core=Effect(
        "The tensor operation is at least ten times as fast",
        "seconds",
        LOOPS,
        TENSORS,
        ratio=True,
        worth=9.0,
        because="efficient here means ten times as fast",
    ),
    checks=(Exact("Loops and tensor operation give the same numbers", "largest difference", tolerance=1e-9),),
    student=Student(
        predict="Two 96 × 96 matrices are multiplied. How many times as fast as the loops is one tensor operation?",
        change="Set SIDE in src/dlintro/claims/slides/tensors.py to 4, and then to 192.",
        expected="With 4 × 4 numbers the ratio is small, because calling an operation costs a microsecond, whatever it "
        "does.",
    ),
    notes=(
        "The loops run in Python. The comparison is not between two processors, but between one number at a time and all "
        "numbers at once.",
    ),
)

SIDE = 96
REPEATS = 200  # of the tensor operation, which is too short to time once


def measure(bench: "Bench") -> None:
    compare(bench, by_loops, by_tensors)


def falsify(bench: "Bench") -> None:
    """Both arms run the loops, and one product is a little off."""
    compare(bench, by_loops, lambda left, right: by_loops(left, right) + 1e-6)


def by_loops(left_NM: "torch.Tensor", right_MK: "torch.Tensor") -> "torch.Tensor":
    import torch

    left, right = left_NM.tolist(), right_MK.tolist()
    product = [[0.0] * len(right[0]) for _ in left]
    for n in range(len(left)):
        for k in range(len(right[0])):
            for m in range(len(right)):
                product[n][k] += left[n][m] * right[m][k]
    return torch.tensor(product, dtype=left_NM.dtype)


def by_tensors(left_NM: "torch.Tensor", right_MK: "torch.Tensor") -> "torch.Tensor":
    return left_NM @ right_MK


def compare(bench: "Bench", loops: "Product", tensors: "Product") -> None:
    import torch

    side = bench.pick(SIDE, 32)
    for cell in bench.cells([LOOPS, TENSORS]):
        left_NM, right_MK = torch.rand(2, side, side, dtype=torch.float64)
        product = loops if cell.arm == LOOPS else tensors
        repeats = REPEATS if product is by_tensors else 1
        cell.record("seconds", seconds_of(product, left_NM, right_MK, repeats))
    left_NM, right_MK = torch.rand(2, side, side, dtype=torch.float64)
    difference = (loops(left_NM, right_MK) - tensors(left_NM, right_MK)).abs().max().item()
    bench.record("largest difference", difference, expected=0)
    draw(bench, side)


def seconds_of(product: "Product", left_NM: "torch.Tensor", right_MK: "torch.Tensor", repeats: int) -> float:
    import time

    product(left_NM, right_MK)  # the first call may prepare something
    start = time.perf_counter()
    for _ in range(repeats):
        product(left_NM, right_MK)
    return (time.perf_counter() - start) / repeats


def draw(bench: "Bench", side: int) -> None:
    from dlintro.claims.figures import dots

    title = f"The product of two {side} × {side} matrices (logarithmic scale)"
    figure = dots(bench.measurements, "seconds", title, "milliseconds", scale=1e3)
    figure.axes[0].set_yscale("log")
    bench.show("seconds", "Time of one product. Each dot is one repetition, and the line is their mean.", figure)
