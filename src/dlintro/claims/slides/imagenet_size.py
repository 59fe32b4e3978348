"""Compares ImageNet's decoded images with the other data sets and with this machine's memory."""

import contextlib
import math
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

CLAIM = Claim(
    title="ImageNet does not fit",
    slide="Datasets",
    says="Large data sets such as ImageNet, about 150 GB, can't be loaded whole into RAM or VRAM.",
    kind="identity, measured",
    seconds=2,
    core=Count("ImageNet as float32 is larger than this machine's memory", "times the RAM", beyond=1),
    stated=(Count("ImageNet is larger than the accelerator's memory", "times the accelerator's memory", beyond=1),),
    more=(
        Count(
            "MNIST and CIFAR-10 together are smaller than this machine's memory",
            "others, times the RAM",
            below=1,
        ),
    ),
    checks=(
        Exact("ImageNet's training images at 224 × 224 take 193 GB as uint8", "ImageNet as uint8, GB", tolerance=0.5),
        Exact("They take 771 GB as float32", "ImageNet as float32, GB", tolerance=0.5),
        Exact("MNIST's training images take 47 MB", "MNIST as uint8, MB", tolerance=0.5),
        Exact("CIFAR-10's 60,000 images take 184 MB", "CIFAR-10 as uint8, MB", tolerance=0.5),
    ),
    student=Student(
        predict="How many of ImageNet's images fit into the memory of your computer as float32?",
        change="Set SIDE in src/dlintro/claims/slides/imagenet_size.py to 32, the size of CIFAR-10's images.",
        expected="ImageNet then takes only 3.9 GB as uint8. The size of its images matters as much as their number.",
    ),
    notes=(
        "ImageNet has 1,281,167 training images (Russakovsky et al. 2015, arXiv 1409.0575). The slide's 150 GB are "
        "compressed JPEG files. The numbers here are decoded pixels at the size that VGG16 takes.",
    ),
)

IMAGENET_IMAGES, SIDE = 1_281_167, 224
BYTES = {"uint8": 1, "float32": 4}


def measure(bench: "Bench") -> None:
    count(bench, IMAGENET_IMAGES, ("mnist", "cifar10"))


def falsify(bench: "Bench") -> None:
    """Count a thousandth of ImageNet, and a million times as many images of the small sets."""
    count(bench, IMAGENET_IMAGES // 1000, ("mnist", "cifar10"), repeated=1_000_000)


def count(bench: "Bench", num_images: int, others: tuple[str, ...], repeated: int = 1) -> None:
    import psutil
    import torch

    from dlintro.data import ImageDataModule
    from dlintro.memory import on_accelerator

    sizes = {f"ImageNet, {kind}": num_images * 3 * SIDE * SIDE * each for kind, each in BYTES.items()}
    bench.record("ImageNet as uint8, GB", sizes["ImageNet, uint8"] / 1e9, expected=193)
    bench.record("ImageNet as float32, GB", sizes["ImageNet, float32"] / 1e9, expected=771)
    mnist, cifar10 = (ImageDataModule(name).source.facts for name in others)
    sizes["MNIST, uint8"] = repeated * mnist.sizes["train"] * math.prod(mnist.image_shape)
    sizes["CIFAR-10, uint8"] = repeated * cifar10.num_bytes
    bench.record("MNIST as uint8, MB", sizes["MNIST, uint8"] / 1e6, expected=47)
    bench.record("CIFAR-10 as uint8, MB", sizes["CIFAR-10, uint8"] / 1e6, expected=184)

    memory = {"this machine's RAM": psutil.virtual_memory().total}
    device = torch.device(bench.device.kind)
    if on_accelerator(device):
        with contextlib.suppress(RuntimeError):  # Apple's backend can't tell; its memory is the machine's
            memory["its accelerator's memory"] = torch.accelerator.get_memory_info(device)[1]
    for num_bytes in list(memory.values())[1:]:
        bench.record("times the accelerator's memory", sizes["ImageNet, float32"] / num_bytes)
    bench.record("times the RAM", sizes["ImageNet, float32"] / memory["this machine's RAM"])
    bench.record(
        "others, times the RAM", (mnist.num_bytes + cifar10.num_bytes) * repeated / memory["this machine's RAM"]
    )
    draw(bench, sizes | memory)


def draw(bench: "Bench", sizes: dict[str, int]) -> None:
    from dlintro.claims.figures import COLOURS, panel

    figure, axes = panel("Decoded data sets beside this machine's memory", "gigabytes (logarithmic)", size=(6.4, 3.2))
    colours = [COLOURS[1] if "memory" in name or "RAM" in name else COLOURS[0] for name in sizes]
    bars = axes.barh(list(sizes), [size / 1e9 for size in sizes.values()], color=colours)
    axes.bar_label(bars, [f" {size / 1e9:,.3g} GB" for size in sizes.values()])
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.invert_yaxis()
    bench.show("sizes", "The pixels of ImageNet, MNIST and CIFAR-10, and the memory of this machine.", figure)
