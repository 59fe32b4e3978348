"""Counts the batches of 10,000 images: 312 of 32 images and a last one of 16, which drop_last leaves out."""

from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

CLAIM = Claim(
    title="Batches, and the last one",
    slide="Dataset Batching",
    says="10,000 images in batches of 32 are 312 full batches and a last one of 16; drop_last leaves that one out.",
    kind="identity",
    seconds=5,
    core=Exact("MNIST's 10,000 test images make 313 batches of up to 32", "batches"),
    stated=(
        Exact("312 of these batches hold 32 images", "batches of 32"),
        Exact("The last batch holds 16 images", "size of the last batch"),
        Exact("drop_last leaves out exactly those 16 images", "images left out by drop_last"),
    ),
    checks=(
        Exact(
            "N images in batches of B make ceil(N / B) batches, or floor(N / B) with drop_last (N to 500, B to 600)",
            "numbers of images that agree",
        ),
    ),
    student=Student(
        predict="How many batches of 64 are there in 10,000 images, and how large is the last one?",
        change="Set BATCH_SIZE in src/dlintro/claims/slides/batching.py to 64.",
        expected="There are 157 batches, and the last one has 16 images again: 10,000 = 156 · 64 + 16.",
    ),
    notes=(
        "MNIST's 60,000 training images divide evenly by 32, which hides the last batch. The 55,000 images left after "
        "the validation split do not divide evenly.",
    ),
)

BATCH_SIZE = 32
MOST_IMAGES, LARGEST_BATCH = 500, 600


def measure(bench: "Bench") -> None:
    run(bench, batch_size=BATCH_SIZE, one_more=0)


def falsify(bench: "Bench") -> None:
    """Batches of 33, and a formula that gives one batch too many."""
    run(bench, batch_size=BATCH_SIZE + 1, one_more=1)


def run(bench: "Bench", batch_size: int, one_more: int) -> None:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    from dlintro.data.loader import one_batch

    test = bench.data("mnist").test
    sizes, full_sizes = (
        [len(labels_B) for _, labels_B in DataLoader(test, batch_size, drop_last=drop_last, collate_fn=one_batch)]
        for drop_last in (False, True)
    )
    bench.record("batches", len(sizes), expected=10_000 // 32 + 1)
    bench.record("batches of 32", sizes.count(32), expected=10_000 // 32)
    bench.record("size of the last batch", sizes[-1], expected=10_000 % 32)
    bench.record("images left out by drop_last", len(test) - sum(full_sizes), expected=16)

    numbers = [TensorDataset(torch.arange(num)) for num in range(MOST_IMAGES + 1)]
    for size in range(1, LARGEST_BATCH + 1):
        lengths = [
            (len(DataLoader(numbers[num], size)), len(DataLoader(numbers[num], size, drop_last=True)))
            for num in range(1, MOST_IMAGES + 1)
        ]
        formulas = [(-(-num // size) + one_more, num // size) for num in range(1, MOST_IMAGES + 1)]
        agreeing = sum(length == formula for length, formula in zip(lengths, formulas, strict=True))
        bench.record("numbers of images that agree", agreeing, arm=f"B = {size}", expected=MOST_IMAGES)
    draw(bench, sizes)


def draw(bench: "Bench", sizes: list[int]) -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("The last ten batches of MNIST's test set", "batch", "images")
    last = range(len(sizes) - 9, len(sizes) + 1)
    bars = axes.bar([str(number) for number in last], sizes[-10:], color=[COLOURS[0]] * 9 + [COLOURS[1]])
    axes.bar_label(bars)
    bench.show("sizes", "The last batch holds the rest: 10,000 mod 32 = 16 images. drop_last leaves it out.", figure)
