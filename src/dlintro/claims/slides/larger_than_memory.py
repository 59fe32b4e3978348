"""A data set three times as large as the memory that a process may have: it can't be loaded whole, and it trains.

    python -m dlintro.claims.slides.larger_than_memory FILE LIMIT whole|batches SEED STEPS

is the process whose memory is limited; the experiment starts several of them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact, Within

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

LIMIT = 1_400 * 2**20  # bytes of data, of which Python with PyTorch takes 1.0 to 1.1 GB
SIDE = 128  # CIFAR-10's images, each pixel enlarged to 4 × 4
COPIES = 2  # as they are, and mirrored
NUM_IMAGES = COPIES * 50_000
NUM_BYTES = NUM_IMAGES * 3 * SIDE**2
VAL_IMAGES = 1_000
BATCH_SIZE = 64

CLAIM = Claim(
    number=21,
    title="Larger than memory",
    slide="Datasets",
    says="The whole data set can't fit into RAM; so it is split into batches, and only a batch is loaded.",
    kind="identity, measured",
    seconds=70,
    statements=(
        Within("the set is three times as large as the memory allowed", "set over limit", low=3, unit="times"),
        Exact("to load it whole fails for want of memory", "loaded whole"),
        Exact("an epoch in batches is trained to its end", "steps of the epoch, in batches"),
        Within("its peak stays below the limit", "peak over limit, in batches", high=1, unit="times"),
        Exact("with the same losses, step by step, as without a limit", "largest difference of losses", tolerance=1e-6),
    ),
    student=Student(
        predict="Does it cost accuracy to read the images from disk batch by batch?",
        change="LIMIT in src/dlintro/claims/slides/larger_than_memory.py, to 8_000 * 2**20",
        expected="Loaded whole it fits, too: the second statement no longer holds. The losses stay the same numbers.",
    ),
    notes=(
        "CIFAR-10's 50,000 training images and their mirror images, enlarged to 128 × 128: 4.9 GB on disk. The limit "
        "is Linux's RLIMIT_DATA: what a process must hold in RAM (or swap). Pages of the file that the system keeps while "
        "there is room are not the process's; they are dropped when somebody wants it. Elsewhere it is not measured.",
    ),
)


def measure(bench: "Bench") -> None:
    run(bench, limit=LIMIT, how="batches", seeds=(0, 0))


def falsify(bench: "Bench") -> None:
    """No limit but the machine's memory, everything loaded whole, not a whole epoch, and another seed."""
    run(bench, limit=0, how="whole", seeds=(0, 1), most_steps=20)


def run(bench: "Bench", limit: int, how: str, seeds: tuple[int, int], most_steps: int = -1) -> None:
    import shutil
    import tempfile

    import psutil

    if sys.platform != "linux" or shutil.disk_usage(bench.folder).free < 2 * NUM_BYTES:
        return  # not measured here
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        path = Path(folder, "images.bin")
        bench.progress("writing the images")
        write_images(bench, path)
        bench.record("set over limit", path.stat().st_size / (limit or psutil.virtual_memory().total))
        bench.progress("loading them whole")
        bench.record("loaded whole", "losses" in train(path, limit, "whole", 0, most_steps), expected=0)
        bench.progress("an epoch in batches")
        limited = train(path, limit, how, seeds[0], most_steps)
        bench.progress("the same without a limit")
        free = train(path, 0, "batches", seeds[1], most_steps)
    steps = -(-(NUM_IMAGES - VAL_IMAGES) // BATCH_SIZE)
    bench.record("steps of the epoch, in batches", len(limited["losses"]), expected=steps)
    bench.record("peak over limit, in batches", limited["peak"] / LIMIT)
    pairs = zip(limited["losses"], free["losses"], strict=True)
    bench.record("largest difference of losses", max(abs(one - other) for one, other in pairs), expected=0)
    draw(bench, limited["peak"])


def write_images(bench: "Bench", path: Path) -> None:
    images_NCHW = bench.data("cifar10").source.load(in_ram=True)["train"][0]
    with path.open("wb") as file:
        for copy in range(COPIES):
            for part in images_NCHW.split(1_000):
                part = part.flip(3) if copy % 2 else part
                factor = SIDE // 32
                file.write(part.repeat_interleave(factor, 2).repeat_interleave(factor, 3).numpy().data)


def train(path: Path, limit: int, how: str, seed: int, most_steps: int) -> dict[str, Any]:
    """What the limited process says: its losses and its peak, or its error."""
    words = [sys.executable, "-m", __name__, str(path), str(limit), how, str(seed), str(most_steps)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    if not lines:
        raise RuntimeError(f"the limited process ended with {done.returncode}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def limited_process(path: str, limit: int, how: str, seed: int, most_steps: int) -> dict[str, Any]:
    import resource

    import torch

    from dlintro import bare_loop
    from dlintro.data import ImageDataModule
    from dlintro.models import FlatNet

    torch.set_num_threads(1)  # each thread takes memory of its own
    torch.manual_seed(seed)
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    data = ImageDataModule("cifar10", BATCH_SIZE, val_size=VAL_IMAGES, in_ram=how == "whole", seed=seed)
    data.source = OnDisk(path)
    data.image_shape, data.num_train = data.source.facts.image_shape, NUM_IMAGES - VAL_IMAGES
    losses, peak = [], 0
    try:
        model = FlatNet(data.image_shape, optim={"lr": 1e-4})
        for step, loss in enumerate(bare_loop.train(model, data, 1, "cpu")):
            losses.append(loss)
            if step % 50 == 0:
                peak = max(peak, held_bytes())
            if len(losses) == most_steps:
                break
    except (MemoryError, RuntimeError) as error:  # PyTorch's allocator raises the latter
        return {"error": str(error)}
    return {"losses": losses, "peak": max(peak, held_bytes())}


class OnDisk:
    """The project's Source of a file of pixels; labels go round."""

    def __init__(self, path: str) -> None:
        from dataclasses import replace

        from dlintro.data.sources import make_source

        cifar10 = make_source("cifar10").facts
        sizes = {"train": NUM_IMAGES, "test": 10}
        self.facts = replace(cifar10, image_shape=(3, SIDE, SIDE), sizes=sizes, val_size=VAL_IMAGES)
        self.path = path

    def prepare(self) -> None: ...

    def load(self, in_ram: bool) -> dict[str, Any]:
        import numpy as np
        import torch

        if in_ram:
            pixels = torch.from_numpy(np.fromfile(self.path, np.uint8))
        else:
            pixels = torch.from_file(self.path, shared=True, size=NUM_BYTES, dtype=torch.uint8)
        images_NCHW = pixels.view(NUM_IMAGES, *self.facts.image_shape)
        labels_N = torch.arange(NUM_IMAGES) % len(self.facts.class_names)
        return {"train": (images_NCHW, labels_N), "test": (images_NCHW[:10], labels_N[:10])}


def held_bytes() -> int:
    """What this process holds in RAM beside files."""
    import psutil

    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def draw(bench: "Bench", peak: int) -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("The set, the limit and the peak", "gigabytes", size=(6.4, 2.4))
    bars = axes.barh(
        ["the set on disk", "memory allowed", "peak of an epoch in batches"],
        [NUM_BYTES / 1e9, LIMIT / 1e9, peak / 1e9],
        color=COLOURS[:3],
    )
    axes.bar_label(bars, fmt=" %.2f GB")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    bench.show("memory", "Most of the peak is Python with PyTorch, before the first image.", figure)


if __name__ == "__main__":
    print(json.dumps(limited_process(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
