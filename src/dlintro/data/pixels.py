"""Stores the pixels of a split in memory, or in a file of which only the images of a batch are read.

Shapes: N images in the set, B in a batch, C channels, H height, W width.
"""

import math
import multiprocessing.reduction
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dlintro.data.cache import cache_folder
from dlintro.errors import RunError

PixelArray = NDArray[np.uint8]


class Rows(ABC):
    """Stands where a tensor of all images would, uint8 (N, C, H, W), and reads only the images that are asked for.

    Memory therefore stays flat however large the set is. A memory map would not do: the pages that it has read count as
    memory of the process.
    """

    device = torch.device("cpu")

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = torch.Size(shape)

    @abstractmethod
    def index_select(self, dim: int, rows_B: torch.Tensor) -> torch.Tensor:
        """Read the images of these rows: uint8 (B, C, H, W). `dim` is 0, as for a tensor. Raises RunError."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | torch.Tensor) -> torch.Tensor:
        if isinstance(rows, torch.Tensor):
            return self.index_select(0, torch.arange(len(self))[rows])
        chosen = range(len(self))[rows]  # takes no time, however many images there are
        if isinstance(chosen, int):
            return self.index_select(0, torch.tensor([chosen]))[0]
        return self.index_select(0, torch.tensor(chosen, dtype=torch.int64))


class OpenFile:
    """A file that is open for reading. It may have no name, so a worker that is not forked gets its number."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self.file, self.name = file, name

    def read_into(self, buffer: Any, offset: int) -> None:
        """Fill the buffer with the bytes from `offset` on. There is no shared position, so that forked workers can read
        at the same time. Raises RunError if the file ends too early or the disk fails."""
        try:
            num = os.preadv(self.file.fileno(), [buffer], offset)
        except OSError as error:
            raise RunError(f"{self.name}: can't be read ({error.strerror})") from error
        if num != memoryview(buffer).nbytes:
            raise RunError(f"{self.name}: damaged (it ends too early)")

    def __del__(self) -> None:
        self.file.close()

    def __getstate__(self) -> tuple[str, Any]:
        return self.name, multiprocessing.reduction.DupFd(self.file.fileno())

    def __setstate__(self, state: tuple[str, Any]) -> None:
        self.name, number = state
        self.file = os.fdopen(number.detach(), "rb", buffering=0)


class FileRows(Rows):
    """Images that lie one after the other in a file, from `offset` on."""

    def __init__(self, file: OpenFile, shape: tuple[int, ...], offset: int = 0) -> None:
        super().__init__(shape)
        self.file, self.offset, self.image_bytes = file, offset, math.prod(shape[1:])

    def index_select(self, dim: int, rows_B: torch.Tensor) -> torch.Tensor:
        images_BCHW = torch.empty(len(rows_B), *self.shape[1:], dtype=torch.uint8)
        for image_CHW, row in zip(images_BCHW.numpy(), rows_B.tolist(), strict=True):
            self.file.read_into(image_CHW, self.offset + row * self.image_bytes)
        return images_BCHW


def stack(parts: Iterable[PixelArray], shape: tuple[int, ...], in_ram: bool) -> torch.Tensor | Rows:
    """Join parts (n, C, H, W) into one uint8 tensor. There may be fewer images than `shape` has room for.

    Without `in_ram`, the pixels are written to a file without a name, from which they are read batch by batch. The
    system frees the space when the process ends. Raises RunError if the disk has no room.
    """
    if in_ram:
        images, num = np.empty(shape, np.uint8), 0
        for part in parts:
            images[num : num + len(part)] = part
            num += len(part)
        return torch.from_numpy(images[:num])
    file = _nameless_file()
    try:
        for part in parts:
            file.write(np.ascontiguousarray(part).data)
        file.flush()
    except OSError as error:
        raise RunError(
            f"the images' copy on disk needs {math.prod(shape) / 1e6:.0f} MB ({error.strerror}): "
            f"set DLINTRO_DATA to a folder with that much room"
        ) from None
    num = file.tell() // math.prod(shape[1:])
    return FileRows(OpenFile(file, "the images' copy on disk"), (num, *shape[1:]))


def _nameless_file() -> IO[bytes]:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_folder())
    except OSError:  # a shared cache may be read-only
        return tempfile.TemporaryFile()
