"""What every data set answers: its facts before a pixel is read, and its pixels. See official, folder, synthetic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

Split = tuple[torch.Tensor, torch.Tensor]  # images uint8 (N, C, H, W), labels int64 (N,)


@dataclass(frozen=True)
class Facts:
    """Known before any pixel is decoded, so that impossible settings can stop a run early."""

    name: str
    image_shape: tuple[int, int, int]  # (C, H, W)
    class_names: tuple[str, ...]
    sizes: Mapping[str, int]  # images per split: "train" and "test" always, "val" where the set brings its own
    val_size: int | None = None  # the last val_size training images are validation; None: 10 % of each class
    mean: tuple[float, ...] | None = None  # per channel, published, of pixels in [0, 1]; None: computed when loaded
    std: tuple[float, ...] | None = None
    fingerprint: str = ""  # of the contents, where they may change between two sittings of a run; "" where they can't
    # split -> each image's name -> the hash of its bytes, where every image is a file of the user's
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        channels, height, width = self.image_shape
        return sum(self.sizes.values()) * channels * height * width


class Source(Protocol):
    """A data set. Its constructor's arguments are keys of data.*; it raises UsageError for a wrong one and decodes
    nothing. The class attribute `names` says behind which data=NAME it stands."""

    facts: Facts

    def prepare(self) -> None:
        """Brings the data to this machine's disk and verifies it (network, locks). RunError if that can't be done."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        """The splits named in `facts.sizes`: held in RAM, or behind a read-only memory map where `in_ram` is false."""
