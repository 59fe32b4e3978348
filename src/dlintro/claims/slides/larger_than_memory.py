"""Trains on a data set three times as large as the memory that the process may use.

    python -m dlintro.claims.slides.larger_than_memory FILE LIMIT whole|batches SEED STEPS

runs in a process whose memory is limited; the experiment starts several of them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

LIMIT = 1_400 * 2**20  # bytes; Python with PyTorch takes 1.0 to 1.1 GB of them
SIDE = 128  # CIFAR-10's images, each pixel enlarged to 4 × 4
COPIES = 2  # the images and their mirror images
NUM_IMAGES = COPIES * 50_000
NUM_BYTES = NUM_IMAGES * 3 * SIDE**2
VAL_IMAGES = 1_000
BATCH_SIZE = 64
CHUNK = 1_000  # images written at a time

CLAIM = Claim(
    title="Larger than memory",
    slide="Datasets",
    says="The whole data set can't fit into RAM; so it is split into batches, and only a batch is loaded.",
    kind="identity, measured",
    seconds=70,
    core=Count(
        "All that training in batches holds in RAM, libraries and images, stays below the limit",
        "peak over limit, in batches",
        below=1,
    ),
    stated=(
        Exact("Loading the set whole fails for lack of memory", "loaded whole"),
        Exact("Training in batches reaches the end of the epoch", "steps of the epoch, in batches"),
    ),
    checks=(
        Count("The data set is three times as large as the allowed memory", "set over limit", beyond=3),
        Exact(
            "The losses are the same as without a limit, step by step", "largest difference of losses", tolerance=1e-6
        ),
    ),
    student=Student(
        predict="Does it cost accuracy to read the images from disk batch by batch?",
        change="Set LIMIT in src/dlintro/claims/slides/larger_than_memory.py to 8_000 * 2**20.",
        expected="The data set is now smaller than the limit and fits whole, so loading it whole succeeds, and the check of its size fails. "
        "The losses stay the same numbers.",
    ),
    notes=(
        "The data set holds CIFAR-10's 50,000 training images and their mirror images, enlarged to 128 × 128 pixels: "
        "4.9 GB on disk. Their labels are made up (image i has class i modulo 10), because memory is measured and not "
        "accuracy.",
        "The limit is Linux's RLIMIT_DATA, the memory that belongs to the process alone. It doesn't count mapped files, so "
        "the images are read from the file batch by batch. The peak is everything resident (VmHWM), mapped files included. "
        "With a mapped file the losses are the same, but the whole set ends up in RAM if there is room.",
        "The system's own cache of the file is not counted; the system drops it when a program needs the memory.",
        "This runs only on Linux, and only with 10 GB free on the disk. Elsewhere it is not measured.",
    ),
)


def measure(bench: "Bench") -> None:
    run(bench, NUM_IMAGES, limit=LIMIT, how="batches", seeds=(0, 0))


def falsify(bench: "Bench") -> None:
    """Use fewer images, no limit, everything loaded whole, less than an epoch, and another seed."""
    run(bench, NUM_IMAGES // 4, limit=0, how="whole", seeds=(0, 1), most_steps=20)


def run(bench: "Bench", num_images: int, limit: int, how: str, seeds: tuple[int, int], most_steps: int = -1) -> None:
    import shutil
    import tempfile

    import psutil

    if sys.platform != "linux" or shutil.disk_usage(bench.folder).free < 2 * NUM_BYTES:
        return  # not measured here
    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        path = Path(folder, "images.bin")
        bench.progress("writing the images")
        write_images(bench, path, num_images)
        bench.record("set over limit", path.stat().st_size / (limit or psutil.virtual_memory().total))
        bench.progress("loading all images at once")
        bench.record("loaded whole", "losses" in train(path, limit, "whole", 0, most_steps), expected=0)
        bench.progress("training an epoch in batches")
        limited = train(path, limit, how, seeds[0], most_steps)
        bench.progress("training the same without a limit")
        free = train(path, 0, "batches", seeds[1], most_steps)
    steps = -(-(NUM_IMAGES - VAL_IMAGES) // BATCH_SIZE)
    bench.record("steps of the epoch, in batches", len(limited["losses"]), expected=steps)
    bench.record("peak over limit, in batches", limited["peak"] / LIMIT)
    pairs = zip(limited["losses"], free["losses"], strict=True)
    bench.record("largest difference of losses", max(abs(one - other) for one, other in pairs), expected=0)
    draw(bench, limited["peak"])


def write_images(bench: "Bench", path: Path, num_images: int) -> None:
    images_NCHW = bench.data("cifar10").source.load(in_ram=True)["train"][0]
    factor = SIDE // 32
    with path.open("wb") as file:
        for start in range(0, num_images, CHUNK):
            first = start % len(images_NCHW)
            part = images_NCHW[first : first + CHUNK]
            if start >= len(images_NCHW):
                part = part.flip(3)
            file.write(part.repeat_interleave(factor, 2).repeat_interleave(factor, 3).numpy().data)


def train(path: Path, limit: int, how: str, seed: int, most_steps: int) -> dict[str, Any]:
    """Return what the limited process prints: its losses and its peak, or its error."""
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
    from dlintro.memory import ram_peak_bytes
    from dlintro.models import FlatNet

    torch.set_num_threads(1)  # each thread takes memory of its own
    torch.manual_seed(seed)
    if limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    data = ImageDataModule("cifar10", BATCH_SIZE, val_size=VAL_IMAGES, in_ram=how == "whole", seed=seed)
    data.source = OnDisk(path)
    data.image_shape = data.source.facts.image_shape
    losses = []
    try:
        model = FlatNet(data.image_shape, optim={"lr": 1e-4, "schedule": "none"})
        for loss in bare_loop.train(model, data, 1, "cpu"):
            losses.append(loss)
            if len(losses) == most_steps:
                break
    except MemoryError as error:
        return {"error": str(error)}
    return {"losses": losses, "peak": ram_peak_bytes()}


class OnDisk:
    """A Source that reads a file of pixels; image i has class i modulo 10."""

    def __init__(self, path: str) -> None:
        from dataclasses import replace

        from dlintro.data.sources import make_source

        self.path = Path(path)
        self.num_images = self.path.stat().st_size // (3 * SIDE**2)
        sizes = {"train": self.num_images, "test": 10}
        self.facts = replace(
            make_source("cifar10").facts, image_shape=(3, SIDE, SIDE), sizes=sizes, val_size=VAL_IMAGES
        )

    def prepare(self) -> None: ...

    def load(self, in_ram: bool) -> dict[str, Any]:
        import numpy as np
        import torch

        labels_N = torch.arange(self.num_images) % len(self.facts.class_names)
        images_NCHW: Any = PixelsOnDisk(self.path)
        if in_ram:
            images_NCHW = torch.from_numpy(np.fromfile(self.path, np.uint8)).view(-1, *self.facts.image_shape)
        return {"train": (images_NCHW, labels_N), "test": (images_NCHW, labels_N[:10])}


class PixelsOnDisk:
    """Replaces the tensor of all images, and reads only the rows that a batch asks for from the file."""

    def __init__(self, path: Path) -> None:
        import torch

        self.file = path.open("rb", buffering=0)
        self.device = torch.device("cpu")

    def index_select(self, dim: int, rows_B: "torch.Tensor") -> "torch.Tensor":
        import torch

        assert dim == 0
        images_BCHW = torch.empty(len(rows_B), 3, SIDE, SIDE, dtype=torch.uint8)
        for image_CHW, row in zip(images_BCHW.numpy(), rows_B.tolist(), strict=True):
            self.file.seek(row * image_CHW.nbytes)
            self.file.readinto(image_CHW.data)
        return images_BCHW


def draw(bench: "Bench", peak: int) -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("The data set, the limit and the peak", "gigabytes", size=(6.4, 2.4))
    bars = axes.barh(
        ["data set on disk", "limit of memory", "peak, in batches"],
        [NUM_BYTES / 1e9, LIMIT / 1e9, peak / 1e9],
        color=COLOURS[:3],
    )
    axes.bar_label(bars, fmt=" %.2f GB")
    axes.margins(x=0.15)
    axes.invert_yaxis()
    bench.show("memory", "Python with PyTorch takes most of the peak, before the first image is read.", figure)


if __name__ == "__main__":
    print(json.dumps(limited_process(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
