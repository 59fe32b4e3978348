"""The files of a pack, which scripts/pack writes and data=packed reads.

A pack is a folder. `index.json` says what is in it: plain values, the shape of the images, the names of the classes,
mean and std of the training pixels, and for each split its shards with their sizes and SHA-256. The shard SPLIT-00000
has two files. `.images` holds the images one after the other: uint8 pixels (C, H, W), or JPEG files. `.rows` has an
entry for each image: where it lies, its CRC-32 and its label. `images.json` has the names of images that were files.

A pack may come from anybody. Nothing is unpickled, the names of its files are computed and never read, and sizes,
places and labels are checked before they are used. The CRC-32 is compared each time an image is read, so damage is
noticed however large the pack is; `check` compares every SHA-256.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dlintro.data.image_file import MAX_SIDE
from dlintro.data.pixels import OpenFile, Rows
from dlintro.errors import RunError, UsageError
from dlintro.reader import damaged, opened, read_json
from dlintro.text import printable

FORMAT, VERSION = "dlintro pack", 1
INDEX, NAMES = "index.json", "images.json"
SPLITS = ("train", "val", "test")
ROW = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc", "<u4"), ("label", "<u4")])
MOST_INDEX_BYTES = 2**24  # enough for a hundred thousand shards
MOST_NAMES_BYTES = 2**27  # of images.json, as of the one in a run's folder
MOST_SHARD_BYTES = 2**40
MOST_IMAGE_BYTES = 2**28
MOST_IMAGES = 2**31
MOST_CLASSES = 2**17
LONGEST_TEXT = 1_000  # characters; a run's record repeats some of the texts

Encoding = Literal["uint8", "jpeg"]


@dataclass(frozen=True)
class Shard:
    """A shard's facts: its images, and the size and SHA-256 of its file of images and the SHA-256 of its rows."""

    images: int
    bytes: int
    sha256: str
    rows_sha256: str


@dataclass(frozen=True)
class Index:
    """The content of `index.json`. `source` is the name of the set that was packed, and `made_of` identifies its images
    and the settings. `names` is the SHA-256 of images.json, or "" without one. `greys` are the values of greys of more
    than 8 bits that became 0 and 255."""

    encoding: Encoding
    source: str
    made_of: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    statistics: str
    greys: tuple[int, int] | None
    names: str
    splits: Mapping[str, tuple[Shard, ...]]

    def text(self) -> str:
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n"

    @property
    def image_bytes(self) -> int:
        """The bytes of an image's pixels."""
        return math.prod(self.image_shape)


def read_index(folder: Path) -> tuple[Index, str]:
    """Read and check `index.json`, and return it with the SHA-256 of its text, which identifies the whole pack. Raises
    UsageError if the folder is no pack or has another version's format, and RunError if the index is damaged."""
    path = folder / INDEX
    if not path.is_file():
        what = "no whole pack is in this folder" if folder.is_dir() else "there is no such folder"
        raise UsageError(f"data.path={printable(folder)}: {what}; scripts/pack data=NAME -o DIR makes one")
    content = read_json(path, MOST_INDEX_BYTES)
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise damaged(path, "it is not the index of a pack")
    if (version := content.pop("version", None)) != VERSION:
        raise UsageError(f"{path}: format {printable(version)}, but this dlintro reads format {VERSION}; pack again")
    try:
        index = _checked(content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged(path, printable(error)) from error
    return index, hashlib.sha256(path.read_bytes()).hexdigest()


def _checked(content: dict[str, Any]) -> Index:
    """Make an Index of plain values from anybody. Raises an error if one is not what a pack has."""
    _require(set(content) == {field.name for field in fields(Index)}, "other entries than a pack has")
    index = Index(
        **content
        | {name: tuple(content[name]) for name in ("image_shape", "class_names", "mean", "std")}
        | {"greys": None if content["greys"] is None else tuple(content["greys"])}
        | {"splits": {split: tuple(Shard(**shard) for shard in some) for split, some in content["splits"].items()}}
    )
    _require(index.encoding in ("uint8", "jpeg"), "the encoding is neither uint8 nor jpeg")
    texts = (index.source, index.made_of, index.statistics, *index.class_names)
    _require(all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in texts), "no text, or too long")
    _require(index.names == "" or _is_sha256(index.names), "names")
    _require(len(index.image_shape) == 3, "image_shape")
    _require(all(_is_whole(side, 1, MAX_SIDE) for side in index.image_shape), "image_shape")
    _require(index.encoding == "uint8" or index.image_shape[0] in (1, 3), "a JPEG has 1 or 3 channels")
    _require(2 <= len(index.class_names) <= MOST_CLASSES, "the number of classes")
    for values, least in ((index.mean, 0.0), (index.std, 1e-6)):
        _require(len(values) == index.image_shape[0], "mean and std need a value for each channel")
        _require(all(isinstance(v, float) and least <= v <= 1 for v in values), "mean and std are not those of pixels")
    if index.greys is not None:
        black, white = index.greys
        _require(_is_whole(black, -(2**31), 2**32) and _is_whole(white, black + 1, 2**32 - 1), "greys")
    _require(tuple(index.splits) == SPLITS, "the splits are not train, val and test")
    for split, shards in index.splits.items():
        for shard in shards:
            _require(_is_whole(shard.images, 1, MOST_IMAGES), "a shard's number of images")
            _require(_is_whole(shard.bytes, 1, MOST_SHARD_BYTES), "a shard's size")
            _require(_is_sha256(shard.sha256) and _is_sha256(shard.rows_sha256), "a shard's SHA-256")
        _require(1 <= sum(shard.images for shard in shards) <= MOST_IMAGES, f"the number of {split} images")
    return index


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def _is_whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def shard_file(folder: Path, split: str, number: int, ending: str) -> Path:
    return folder / f"{split}-{number:05}.{ending}"


class Shards:
    """The images of one split of a pack. `labels_N` is int64 (N,).

    The constructor reads and checks the rows, and checks the shards' sizes. Raises RunError if something is damaged.
    """

    def __init__(self, folder: Path, index: Index, split: str) -> None:
        self.files: list[OpenFile] = []
        tables = []
        for number, shard in enumerate(index.splits[split]):
            tables.append(_read_rows(folder, index, split, number))
            path = shard_file(folder, split, number, "images")
            file = opened(path, shard.bytes)
            if path.stat().st_size != shard.bytes:
                raise damaged(path, f"it has {path.stat().st_size:,} bytes instead of {shard.bytes:,}")
            self.files.append(OpenFile(file, str(path)))
        self.starts = np.cumsum([0, *map(len, tables)])
        self.rows_N = np.concatenate(tables)
        self.labels_N = torch.from_numpy(self.rows_N["label"].astype(np.int64))

    def __len__(self) -> int:
        return len(self.rows_N)

    def read_into(self, buffer: Any, row: int) -> None:
        """Fill the buffer, which has the image's length, with its bytes. Raises RunError for wrong ones."""
        number = int(np.searchsorted(self.starts, row, "right")) - 1
        entry, file = self.rows_N[row], self.files[number]
        file.read_into(buffer, int(entry["offset"]))
        if zlib.crc32(buffer) != entry["crc"]:
            raise RunError(
                f"{file.name}: damaged (image {row - self.starts[number]} has a wrong CRC-32); copy the pack again"
            )

    def read(self, row: int) -> bytearray:
        content = bytearray(int(self.rows_N[row]["length"]))
        self.read_into(content, row)
        return content


def _read_rows(folder: Path, index: Index, split: str, number: int) -> NDArray[Any]:
    """Read the rows of a shard. Raises RunError unless every image lies within the shard and has a legal label."""
    shard, path = index.splits[split][number], shard_file(folder, split, number, "rows")
    size = shard.images * ROW.itemsize
    with opened(path, size) as file:
        content = file.read(size + 1)
    if len(content) != size or hashlib.sha256(content).hexdigest() != shard.rows_sha256:
        raise damaged(path, "it has a wrong size or SHA-256")
    rows = np.frombuffer(content, ROW)
    longest = index.image_bytes if index.encoding == "uint8" else MOST_IMAGE_BYTES
    shortest = index.image_bytes if index.encoding == "uint8" else 1
    lengths = rows["length"].astype(np.uint64)
    if not ((shortest <= lengths) & (lengths <= longest)).all():
        raise damaged(path, "an image has an impossible length")
    if not (
        (lengths <= shard.bytes) & (rows["offset"] <= np.uint64(shard.bytes) - lengths.clip(max=shard.bytes))
    ).all():
        raise damaged(path, "an image lies outside its shard")
    if not (rows["label"] < len(index.class_names)).all():
        raise damaged(path, "a label belongs to no class")
    return rows


class PackedPixels(Rows):
    """The images of a uint8 pack's split."""

    def __init__(self, shards: Shards, image_shape: tuple[int, int, int]) -> None:
        super().__init__((len(shards), *image_shape))
        self.shards = shards

    def index_select(self, dim: int, rows_B: torch.Tensor) -> torch.Tensor:
        images_BCHW = torch.empty(len(rows_B), *self.shape[1:], dtype=torch.uint8)
        for image_CHW, row in zip(images_BCHW.numpy(), rows_B.tolist(), strict=True):
            self.shards.read_into(image_CHW, row)
        return images_BCHW


def read_names(folder: Path, index: Index) -> dict[str, dict[str, str]]:
    """Return the names of the images by split, with the hashes of their files; empty if they were no files."""
    if not index.names:
        return {}
    path = folder / NAMES
    content = read_json(path, MOST_NAMES_BYTES)
    whole = isinstance(content, dict) and all(
        isinstance(some, dict) and all(isinstance(digest, str) for digest in some.values()) for some in content.values()
    )
    if not whole or hashlib.sha256(path.read_bytes()).hexdigest() != index.names:
        raise damaged(path, "it has a wrong SHA-256 or other content")
    return dict(content)


def wrong_shards(folder: Path, index: Index) -> Iterator[str | None]:
    """Compare every byte of a pack with its SHA-256. Yields for each shard what is wrong with it, or None."""
    for split, shards in index.splits.items():
        for number, shard in enumerate(shards):
            path = shard_file(folder, split, number, "images")
            try:
                _read_rows(folder, index, split, number)
                with opened(path, shard.bytes) as file:
                    good = hashlib.file_digest(file, "sha256").hexdigest() == shard.sha256
                yield None if good else f"{path}: damaged (it has a wrong SHA-256)"
            except (RunError, OSError) as error:
                yield str(error)
