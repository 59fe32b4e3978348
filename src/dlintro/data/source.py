"""The interface of a data set: its facts, known before a pixel is read, and its pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from dlintro.data.image_file import Greys

# Images uint8 (N, C, H, W), a tensor in RAM or `dlintro.data.pixels.Rows` on disk, and labels int64 (N,).
Split = tuple[Any, torch.Tensor]


@dataclass(frozen=True)
class Facts:
    """The facts that are known before a pixel is decoded, so that impossible settings stop a run early."""

    name: str
    image_shape: tuple[int, int, int]  # (C, H, W)
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]  # images per split: "train", "test", and "val" if the set has its own
    val_size: int | None = None  # the last `val_size` training images validate; None: 10 % of each class
    mean: tuple[float, ...] | None = None  # published, per channel, for pixels in [0, 1]; None: computed when loaded
    std: tuple[float, ...] | None = None
    statistics: str | None = None  # which images `mean` and `std` come from; None: published, of all training images
    on_disk: bool = False  # the set is made to be read from disk, so data.in_ram=auto leaves it there
    encoded: bool = False  # images are decoded anew each time they are used, so they can't be kept in RAM
    greys: Greys | None = None  # how greys of more than 8 bits become pixels; None: the set has none
    fingerprint: str = ""  # hash of contents that may change before a run is resumed; "" if they can't
    # split -> name of an image -> hash of its bytes, for images that are files of the user's
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        channels, height, width = self.image_shape
        return sum(self.sizes.values()) * channels * height * width


class Source(Protocol):
    """A data set. The arguments of its constructor are keys data.*; it raises UsageError for a wrong one and decodes
    no image. The class attribute `names` lists the NAMEs of data=NAME that select it."""

    facts: Facts

    def prepare(self) -> None:
        """Bring the data to this machine's disk and verify it (network, locks). Raises RunError if that fails."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        """Return the splits of `facts.sizes`, in RAM or, if `in_ram` is false, as Rows that are read batch by batch."""
