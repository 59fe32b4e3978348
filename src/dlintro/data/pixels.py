"""Stores the pixels of a split in memory, or in a mapped file that has no name.

Shapes: N images, C channels, H height, W width.
"""

import math
import tempfile
from collections.abc import Iterable
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray

from dlintro.data.cache import cache_folder
from dlintro.errors import RunError

PixelArray = NDArray[np.uint8]


def stack(parts: Iterable[PixelArray], shape: tuple[int, ...], in_ram: bool) -> torch.Tensor:
    """Join parts (n, C, H, W) into one uint8 tensor. There may be fewer images than `shape` has room for.

    Without `in_ram`, the pixels are written to a file without a name and mapped. The system frees the space when the
    process ends. Raises RunError if the disk has no room.
    """
    if in_ram:
        images, num = np.empty(shape, np.uint8), 0
        for part in parts:
            images[num : num + len(part)] = part
            num += len(part)
        return torch.from_numpy(images[:num])
    try:
        with _nameless_file() as file:
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
            file.flush()
            num = file.tell() // math.prod(shape[1:])
            if num == 0:  # an empty file can't be mapped
                return torch.empty(0, *shape[1:], dtype=torch.uint8)
            return torch.from_numpy(np.memmap(file, np.uint8, "c", shape=(num, *shape[1:])))
    except OSError as error:  # the end of `with` may raise it too, as it writes the rest
        raise RunError(
            f"the images' copy on disk needs {math.prod(shape) / 1e6:.0f} MB ({error.strerror}): "
            f"set DLINTRO_DATA to a folder with that much room"
        ) from None


def _nameless_file() -> IO[bytes]:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_folder())
    except OSError:  # a shared cache may be read-only
        return tempfile.TemporaryFile()
