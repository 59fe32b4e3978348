"""Images that are decoded anew each time they are used, in the loader's workers if there are any.

Evaluation sees the middle of an image, and training may see another part of it each time (`resized_crop`), both as in
torchvision's references. torchvision's decoder gives the same pixels as Pillow's, faster; Pillow resizes.
Shapes: N images in the set, B in a batch, C channels, H height, W width.
"""

import contextlib
import io
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch.utils.data import DistributedSampler, get_worker_info

from dlintro.data.augment import mixed, random_windows
from dlintro.data.image_file import MAX_SIDE, BrokenImage, open_image, read_file
from dlintro.data.loader import Batch, EpochOrder, Images
from dlintro.data.pixels import PixelArray, Rows
from dlintro.data.shards import Shards
from dlintro.errors import RunError, one_line

RESIZED, CROPPED = 256, 224  # evaluation resizes the shorter side to 256 for a crop of 224, and so on in proportion
LONGEST = 64  # times as long as wide; of a longer strip, the ends are never seen
# Decoders and Pillow's resizing release Python's lock. There are few threads, as each may hold a large image.
NUM_THREADS = min(4, os.cpu_count() or 1)


def middle(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resize (bilinear, antialiased) and cut out the middle (height, width), as Resize(256) and CenterCrop(224) do."""
    height, width = size
    across, along = min(image.size), max(image.size)
    if along > LONGEST * across:  # a strip of 1 x 10,000 pixels would become a picture of gigabytes
        image = ImageOps.crop(image, tuple(max(0, side - LONGEST * across) // 2 for side in image.size))
    shorter = round(min(size) * RESIZED / CROPPED)
    wide, tall = (shorter * side // min(image.size) for side in image.size)
    image = image.resize((wide, tall), Image.Resampling.BILINEAR)
    left, top = round((wide - width) / 2), round((tall - height) / 2)
    return image.crop((left, top, left + width, top + height))


def part(image: Image.Image, size: tuple[int, int], seed: int) -> Image.Image:
    """Cut out a part at random, of 8 to 100 % of the area, and resize it to (height, width): RandomResizedCrop."""
    generator = torch.Generator().manual_seed(seed)
    [[top, left, tall, wide]] = random_windows(image.height, image.width, 1, generator).tolist()
    return image.crop((left, top, left + wide, top + tall)).resize(size[::-1], Image.Resampling.BILINEAR)


class EncodedRows(Rows):
    """Images as the bytes of files. A subclass reads them and may decode what is no JPEG.

    `index_select` gives the middle of each image, and `random_parts` another part each time.
    """

    def __init__(self, num: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__((num, *image_shape))

    @abstractmethod
    def content(self, row: int) -> bytes | bytearray:
        """Read the bytes of an image."""

    @abstractmethod
    def decoded(self, row: int) -> Image.Image:
        """Decode an image in its full size, L or RGB as the shape's channels have it. Raises RunError."""

    def image(self, row: int) -> PixelArray:
        """Return an image as evaluation sees it: uint8 (C, H, W)."""
        return channels_first(middle(self.decoded(row), self._size))

    def index_select(self, dim: int, rows_B: torch.Tensor) -> torch.Tensor:
        return self._batch(self.image, rows_B.tolist())

    def random_parts(self, rows_B: torch.Tensor, seeds: Sequence[int]) -> torch.Tensor:
        """Return a random part of each image, uint8 (B, C, H, W), by its own seed."""
        return self._batch(
            lambda row, seed: channels_first(part(self.decoded(row), self._size, seed)), rows_B.tolist(), seeds
        )

    @property
    def _size(self) -> tuple[int, int]:
        return self.shape[2], self.shape[3]

    def _batch(self, image: Callable[..., PixelArray], *arguments: Sequence[int]) -> torch.Tensor:
        """Put images into one tensor as they become ready. A few threads make them, as decoders release Python's lock;
        in a worker of a loader, which shares the cores with the other workers, there is one."""
        images_BCHW = np.empty((len(arguments[0]), *self.shape[1:]), np.uint8)
        if get_worker_info() is not None or len(images_BCHW) == 1:
            for place, pixels in enumerate(map(image, *arguments)):
                images_BCHW[place] = pixels
        else:
            with ThreadPoolExecutor(NUM_THREADS) as pool:
                for place, pixels in enumerate(pool.map(image, *arguments)):
                    images_BCHW[place] = pixels
        return torch.from_numpy(images_BCHW)


def channels_first(image: Image.Image) -> PixelArray:
    """Return the pixels of an L or RGB image as uint8 (C, H, W)."""
    pixels: PixelArray = np.array(image).reshape(image.height, image.width, -1).transpose(2, 0, 1)
    return pixels


def is_plain_jpeg(content: bytes | bytearray) -> bool:
    """Return whether this is a JPEG of moderate size, grey or in colour, that is stored upright. Reads no pixel."""
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as header:
            upright = header.getexif().get(ExifTags.Base.Orientation, 1) == 1
            return upright and header.mode in ("L", "RGB") and max(header.size) <= MAX_SIDE
    except Exception:  # foreign bytes may fail anywhere in the reader
        return False


def decode_jpeg(content: bytes | bytearray, channels: int) -> Image.Image:
    """Decode a plain JPEG to L or RGB. Raises ValueError for anything else."""
    from torchvision.io import ImageReadMode
    from torchvision.io import decode_jpeg as decode

    if not is_plain_jpeg(content):
        raise ValueError("not a JPEG that a pack has")
    mode = ImageReadMode.GRAY if channels == 1 else ImageReadMode.RGB
    try:
        pixels_CHW = decode(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode)
    except RuntimeError as error:
        raise ValueError(one_line(error)) from error
    pixels = pixels_CHW.permute(1, 2, 0).numpy()
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


class ImageFiles(EncodedRows):
    """Images as files of any format that dlintro reads."""

    def __init__(self, paths: Sequence[Path], image_shape: tuple[int, int, int]) -> None:
        super().__init__(len(paths), image_shape)
        self.paths = paths

    def content(self, row: int) -> bytes:
        return read_file(self.paths[row])

    def decoded(self, row: int) -> Image.Image:
        channels = self.shape[1]
        try:
            content = self.content(row)
            with contextlib.suppress(ValueError):  # Pillow reads other files, and says what is wrong with a damaged one
                return decode_jpeg(content, channels)
            return open_image(self.paths[row], "L" if channels == 1 else "RGB", content)
        except BrokenImage as error:
            raise BrokenImage(f"{error.what}; mend or remove it") from error


class PackedJpegs(EncodedRows):
    """The images of a JPEG pack's split."""

    def __init__(self, shards: Shards, image_shape: tuple[int, int, int]) -> None:
        super().__init__(len(shards), image_shape)
        self.shards = shards

    def content(self, row: int) -> bytearray:
        return self.shards.read(row)

    def decoded(self, row: int) -> Image.Image:
        try:
            return decode_jpeg(self.content(row), self.shape[1])
        except ValueError as error:
            raise RunError(
                f"image {row} of the pack can't be decoded ({one_line(error)}); pack the set again"
            ) from error


class RandomParts(Images):
    """Training images of which another part is seen in each epoch. Its indices are those of `EpochDraws`."""

    def __init__(self, images: Images, seed: int) -> None:
        super().__init__(images.images_NCHW, images.labels_N, images.indices)
        self.seed = seed

    def __getitems__(self, batch: list[int]) -> Batch:
        epochs, places = zip(*(divmod(draw, len(self)) for draw in batch), strict=True)
        seeds = [mixed((self.seed, epoch, place)) for epoch, place in zip(epochs, places, strict=True)]
        rows_B = torch.tensor(places)
        if self.indices is not None:
            rows_B = self.indices.index_select(0, rows_B)
        return self.images_NCHW.random_parts(rows_B, seeds), self.labels_N.index_select(0, rows_B)


class EpochDraws(EpochOrder):
    """Yields epoch * N + index, so that a worker, which doesn't know the epoch, draws by (seed, epoch, index)."""

    def __iter__(self) -> Iterator[int]:
        indices = super().__iter__()
        first = self.epoch * len(self.data_source)
        return (first + index for index in indices)


class DistributedDraws(DistributedSampler[Any]):
    """The part of `EpochDraws` that one of several processes has. Lightning would put its own sampler in the place of
    `EpochDraws`, whose indices don't tell the epoch: each image would have the same part in all epochs."""

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * len(self.dataset)  # type: ignore[arg-type]  # Images have a length
        return (first + index for index in super().__iter__())
