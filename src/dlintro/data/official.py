"""The published data sets: MNIST, Fashion-MNIST, CIFAR-10, and the cats and dogs of CIFAR-10.

Shapes: N images, C channels, H height, W width.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from dlintro.data.cache import cache_folder, fill_cache
from dlintro.data.pixels import FileRows, OpenFile, PixelArray, stack
from dlintro.data.published import PUBLISHED, CacheFile
from dlintro.data.source import Facts, Split
from dlintro.errors import UsageError

PART = 1000  # images that are read at a time


def _read(path: Path, file: CacheFile, kept_N: NDArray[np.bool_]) -> Iterator[PixelArray]:
    """Read the kept images part by part. Mapped pages of the file would stay in memory beside the copy."""
    with path.open("rb") as pixels:
        pixels.seek(file.header)
        for kept_n in np.split(kept_N, range(PART, len(kept_N), PART)):
            part = np.fromfile(pixels, np.uint8, len(kept_n) * math.prod(file.shape[1:]))
            yield part.reshape(-1, *file.shape[1:])[kept_n]


class Official:
    """A published data set with its official test set, by name: mnist, fashion_mnist or cifar10.

    `image_size` is the side of the square that images are resized to. Raises UsageError for an unknown name.
    """

    names = tuple(PUBLISHED)
    kept_classes: tuple[int, ...] = tuple(range(10))

    def __init__(self, name: str, image_size: int | None = None, val_size: int = 5_000) -> None:
        if name not in PUBLISHED:
            raise UsageError(f"data={name}: use one of {', '.join(PUBLISHED)}")
        self.published = published = PUBLISHED[name]
        channels, height, width = published.files["train"][0].shape[1:]
        size = (height, width) if image_size is None else (image_size, image_size)
        self._resized = size != (height, width)
        self.facts = Facts(
            name=name,
            image_shape=(channels, *size),
            class_names=published.class_names,
            sizes={split: images.shape[0] for split, (images, _) in published.files.items()},
            val_size=val_size,
            mean=None if self._resized else published.mean,  # smaller images have a smaller standard deviation
            std=None if self._resized else published.std,
        )
        self._verified = False

    @property
    def folder(self) -> Path:
        return cache_folder() / self.published.name

    def prepare(self) -> None:
        """Verify the cache by SHA-256, at every start, and get what is missing or wrong."""
        if not self._verified:
            fill_cache(self.published, self.folder)
            self._verified = True

    def load(self, in_ram: bool) -> dict[str, Split]:
        self.prepare()  # even if another process has: this one must not trust a file that it did not verify
        return {split: self._load_split(files, in_ram) for split, files in self.published.files.items()}

    def _load_split(self, files: tuple[CacheFile, CacheFile], in_ram: bool) -> Split:
        pixels_file, labels_file = files
        labels_N = np.fromfile(self.folder / labels_file.name, np.uint8, offset=labels_file.header)
        kept_N = np.isin(labels_N, self.kept_classes)
        labels = torch.from_numpy(np.searchsorted(self.kept_classes, labels_N[kept_N]))
        path = self.folder / pixels_file.name
        if not in_ram and not self._resized and kept_N.all():
            file = OpenFile(path.open("rb", buffering=0), str(path))
            return FileRows(file, pixels_file.shape, pixels_file.header), labels
        parts = _read(path, pixels_file, kept_N)
        if self._resized:
            resize = partial(interpolate, size=self.facts.image_shape[1:], mode="bilinear", antialias=True)
            parts = (resize(torch.from_numpy(part)).numpy() for part in parts)
        return stack(parts, (len(labels), *self.facts.image_shape), in_ram), labels


class CatsDogs(Official):
    """CIFAR-10's cats (0) and dogs (1) in their order there: 10,000 training images and 2,000 test images."""

    names = ("cats_dogs",)
    kept_classes = (3, 5)

    def __init__(self, image_size: int | None = None) -> None:
        super().__init__("cifar10", image_size)
        sizes = {split: num // 5 for split, num in self.facts.sizes.items()}
        self.facts = replace(
            self.facts, name="cats_dogs", class_names=("cat", "dog"), sizes=sizes, val_size=None, mean=None, std=None
        )
