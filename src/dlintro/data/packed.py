"""Reads a pack, a set that scripts/pack wrote once, however much larger than memory it is."""

from pathlib import Path
from typing import Any

import torch

from dlintro.data.encoded import PackedJpegs
from dlintro.data.image_file import Greys
from dlintro.data.shards import PackedPixels, Shards, read_index, read_names
from dlintro.data.source import Facts, Split
from dlintro.errors import UsageError


class Packed:
    """The images of a pack in `path`, with the split, the mean and the std that they were packed with.

    `image_size` is the side of the square that each image of a JPEG pack is resized and cut to. None takes the side
    that was packed. Raises UsageError if `path` is no pack, or if other pixels or another split are asked for than it
    has, and RunError if it is damaged.
    """

    names = ("packed",)

    def __init__(self, path: str | Path, image_size: int | None = None, val_size: int | None = None) -> None:
        self.root = Path(path).expanduser().absolute()
        self.index, fingerprint = read_index(self.root)
        index, again = self.index, "pack the set again, with this key"
        channels, height, width = index.image_shape
        size = (height, width) if image_size is None else (image_size, image_size)
        if index.encoding == "uint8" and size != (height, width):
            raise UsageError(f"data.image_size={image_size}: the images were packed with {height} x {width}; {again}")
        sizes = {split: sum(shard.images for shard in shards) for split, shards in index.splits.items()}
        if val_size not in (None, sizes["val"]):
            raise UsageError(f"data.val_size={val_size}: the pack has {sizes['val']} validation images; {again}")
        self.facts = Facts(
            name="packed",
            image_shape=(channels, *size),
            class_names=index.class_names,
            sizes=sizes,
            mean=index.mean,
            std=index.std,
            statistics=index.statistics,
            greys=None if index.greys is None else Greys(*index.greys),
            on_disk=True,
            encoded=index.encoding == "jpeg",
            fingerprint=fingerprint,
            images=read_names(self.root, index),
        )

    def prepare(self) -> None:
        """Do nothing: the pack is already on this machine."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        return {split: self._load_split(split, in_ram) for split in self.index.splits}

    def _load_split(self, split: str, in_ram: bool) -> Split:
        shards = Shards(self.root, self.index, split)
        kind: Any = PackedJpegs if self.facts.encoded else PackedPixels
        rows = kind(shards, self.facts.image_shape)
        return rows.index_select(0, torch.arange(len(rows))) if in_ram else rows, shards.labels_N
