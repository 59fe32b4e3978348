"""Random images of any shape, for timing and tests. They need no download, and a network can learn their classes."""

import math
from collections.abc import Iterator, Sequence

import torch

from dlintro.data.pixels import PixelArray, stack
from dlintro.data.source import Facts, Split
from dlintro.errors import UsageError

SEEDS = {"train": 1, "test": 2}


class Synthetic:
    """Noise images. Each class has its own stretch of bright pixels. Image i has the class i modulo `num_classes`."""

    names = ("synthetic",)

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        num_train: int = 10_000,
        num_test: int = 2_000,
    ) -> None:
        if len(shape) != 3 or not all(isinstance(side, int) and side >= 1 for side in shape):
            raise UsageError(
                f"data.shape={list(shape)}: type three positive numbers (channels, height, width), such as [3,32,32]"
            )
        if num_classes < 2 or num_train < num_classes or num_test < 1:
            raise UsageError(
                f"synthetic: {num_classes} classes, {num_train} training and {num_test} test images are too few: use "
                f"at least 2 classes, a training image for each and a test image"
            )
        channels, height, width = shape
        self.facts = Facts(
            name="synthetic",
            image_shape=(channels, height, width),
            class_names=tuple(f"class {label}" for label in range(num_classes)),
            sizes={"train": num_train, "test": num_test},
        )

    def prepare(self) -> None:
        """Do nothing: the images are computed."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        return {split: self._load_split(split, num, in_ram) for split, num in self.facts.sizes.items()}

    def _load_split(self, split: str, num: int, in_ram: bool) -> Split:
        labels_N = torch.arange(num) % len(self.facts.class_names)
        images_NCHW = stack(self._parts(labels_N, SEEDS[split]), (num, *self.facts.image_shape), in_ram)
        return images_NCHW, labels_N

    def _parts(self, labels_N: torch.Tensor, seed: int) -> Iterator[PixelArray]:
        generator = torch.Generator().manual_seed(seed)
        channels, height, width = self.facts.image_shape
        num_pixels = height * width
        starts_K = torch.arange(len(self.facts.class_names)) * num_pixels // len(self.facts.class_names)
        stretch = torch.arange(math.ceil(num_pixels / len(self.facts.class_names)))
        for labels_n in labels_N.split(1000):
            size = (len(labels_n), channels, num_pixels)
            noise_nCP = torch.randint(256, size, generator=generator, dtype=torch.uint8)
            bright_np = (starts_K[labels_n, None] + stretch).clamp_max(num_pixels - 1)
            where_nCp = bright_np[:, None].expand(-1, channels, -1)
            noise_nCP.scatter_(2, where_nCp, noise_nCP.gather(2, where_nCp) // 2 + 128)
            yield noise_nCP.reshape(-1, channels, height, width).numpy()
