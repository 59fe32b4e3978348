"""Writes a pack, shard by shard. A packing that was stopped goes on after the last whole shard.

Shapes: N images in the set, C channels, H height, W width.
"""

import hashlib
import io
import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np
import torch

from dlintro.data.encoded import NUM_THREADS, channels_first, decode_jpeg, middle
from dlintro.data.loader import Images
from dlintro.data.shards import INDEX, NAMES, ROW, SPLITS, VERSION, Encoding, Index, Shard, read_index, shard_file
from dlintro.data.source import Facts
from dlintro.data.statistics import OWN_STATISTICS, PUBLISHED_STATISTICS, histogram, mean_and_std
from dlintro.errors import RunError, UsageError, disk_trouble
from dlintro.reader import read_json
from dlintro.terminal import track
from dlintro.text import printable

PROGRESS = "progress.json"  # the shards that are whole; gone when the pack is
SHARD_BYTES = 2**30  # a shard ends with the image that reaches this size
CHUNK = 64  # images that are decoded together, and wait in memory to be written
QUALITY = 95  # of JPEGs that are made of other files

Entry = tuple[bytes, "torch.Tensor | None"]  # an image as it is stored, and its pixels where they are counted


@dataclass
class Progress:
    """The shards of each split, the images that they took, those that were left out as broken, and the counts of the
    training pixels' values."""

    made_of: str
    shards: dict[str, list[Shard]]
    taken: dict[str, int]
    left_out: list[str]
    counts: list[list[int]]


class ShardWriter:
    """Writes one shard. Its files get their names when they are whole and on the disk."""

    def __init__(self, folder: Path, split: str, number: int) -> None:
        self.paths = [shard_file(folder, split, number, ending) for ending in ("images", "rows")]
        self.file = self.paths[0].with_suffix(".images.partial").open("wb")
        self.sha256, self.rows = hashlib.sha256(), list[tuple[int, int, int, int]]()

    @property
    def num_bytes(self) -> int:
        return self.file.tell()

    def add(self, content: bytes, label: int) -> None:
        self.rows.append((self.num_bytes, len(content), zlib.crc32(content), label))
        self.sha256.update(content)
        self.file.write(content)

    def close(self) -> Shard:
        rows, num_bytes = np.array(self.rows, ROW).tobytes(), self.num_bytes
        settle(self.file)
        self.paths[0].with_suffix(".images.partial").replace(self.paths[0])
        write_whole(self.paths[1], rows)
        return Shard(len(self.rows), num_bytes, self.sha256.hexdigest(), hashlib.sha256(rows).hexdigest())


def write_pack(
    folder: Path, encoding: Encoding, facts: Facts, parts: Mapping[str, Images], skip_broken: bool = False
) -> tuple[Index, list[str]]:
    """Pack the images of each part into `folder`, and return the index and what was left out, a line for each image.

    `facts` are those of the source, and `parts` holds its training, validation and test images. An image that can't be
    decoded raises RunError, or is left out with `skip_broken`. Raises UsageError if the folder holds something else.
    """
    images_of = {split: len(parts[split]) for split in SPLITS}
    identity = [VERSION, encoding, facts.name, facts.fingerprint, facts.image_shape, facts.class_names, images_of]
    made_of = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock").acquire(timeout=0):
            if (folder / INDEX).is_file():
                index, _ = read_index(folder)
                if index.made_of != made_of:
                    raise UsageError(f"-o {printable(folder)}: another set is packed there; choose another folder")
                return index, []
            progress = begun(folder, made_of)
            write_shards(folder, encoding, facts, parts, progress, skip_broken)
            return finished(folder, encoding, facts, progress), progress.left_out
    except filelock.Timeout:
        raise UsageError(f"-o {printable(folder)}: another process is packing there; wait for it to end") from None
    except OSError as error:
        if not (why := disk_trouble(error)):
            raise
        raise RunError(f"{printable(folder)}: {why}; the same command goes on once that is mended") from error


def begun(folder: Path, made_of: str) -> Progress:
    """Return how far an earlier packing came. Raises UsageError if the folder holds anything else."""
    path = folder / PROGRESS
    if not path.is_file():
        if others := sorted(entry.name for entry in folder.iterdir() if entry.name != ".lock"):
            raise UsageError(
                f"-o {printable(folder)}: this folder has other files ({printable(others[0])}); choose a new one"
            )
        progress = Progress(made_of, {split: [] for split in SPLITS}, dict.fromkeys(SPLITS, 0), [], [])
        save(folder, progress)
        return progress
    try:
        content = read_json(path, 2**27)
        shards = {split: [Shard(**shard) for shard in content["shards"][split]] for split in SPLITS}
        progress = Progress(**content | {"shards": shards})
    except (TypeError, KeyError, AttributeError) as error:
        raise RunError(f"{path}: damaged; remove {printable(folder)} and pack again") from error
    if progress.made_of != made_of:
        raise UsageError(
            f"-o {printable(folder)}: the packing that was begun there had other images or settings; choose another "
            f"folder, or remove this one"
        )
    return progress


def write_shards(
    folder: Path, encoding: Encoding, facts: Facts, parts: Mapping[str, Images], progress: Progress, skip_broken: bool
) -> None:
    chunks = [
        (split, torch.arange(first, min(first + CHUNK, len(parts[split]))))
        for split in SPLITS
        for first in range(progress.taken[split], len(parts[split]), CHUNK)
    ]
    writer, left_out = None, list[str]()
    counted = torch.tensor(progress.counts or [[0] * 256] * facts.image_shape[0])
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for split, places in track(chunks, "packing"):
            images = parts[split]
            rows = places if images.indices is None else images.indices[places]
            writer = writer or ShardWriter(folder, split, len(progress.shards[split]))
            counts = split == "train" and facts.mean is None
            started = [pool.submit(encoded, images.images_NCHW, row, encoding, counts) for row in rows.tolist()]
            counted_images = []
            for image, label in zip(started, images.labels_N[rows].tolist(), strict=True):
                try:
                    content, pixels_CHW = image.result()
                except RunError as error:
                    if not skip_broken:
                        raise
                    left_out.append(reason(error))
                    continue
                writer.add(content, label)
                if pixels_CHW is not None:
                    counted_images.append(pixels_CHW)
            if counted_images:
                counted += histogram(torch.stack(counted_images))
            progress.taken[split] = int(places[-1]) + 1
            if writer.num_bytes >= SHARD_BYTES or progress.taken[split] == len(images):
                if writer.rows:
                    progress.shards[split].append(writer.close())
                progress.left_out += left_out
                progress.counts = counted.tolist()
                save(folder, progress)
                writer, left_out = None, []


def encoded(images_NCHW: Any, row: int, encoding: Encoding, counts: bool) -> Entry:
    """Return an image as it is stored and, if its pixels are counted, these pixels as evaluation sees them."""
    if encoding == "uint8":
        image_CHW = images_NCHW[row]
        return image_CHW.contiguous().numpy().tobytes(), image_CHW if counts else None
    content, channels = bytes(images_NCHW.content(row)), images_NCHW.shape[1]
    try:  # each image is decoded once, so that no broken one gets into the pack
        image = decode_jpeg(content, channels)
    except ValueError:  # no plain JPEG, or one that only Pillow reads
        stored = io.BytesIO()
        images_NCHW.decoded(row).save(stored, "JPEG", quality=QUALITY, subsampling=0)
        content = stored.getvalue()
        image = decode_jpeg(content, channels)
    return content, torch.from_numpy(channels_first(middle(image, images_NCHW.shape[2:]))) if counts else None


def reason(error: RunError) -> str:
    """Return what is wrong with a broken image, without what to do about it."""
    cause = error.__cause__ if isinstance(error.__cause__, RunError) else error
    return str(cause).partition("; mend")[0]


def finished(folder: Path, encoding: Encoding, facts: Facts, progress: Progress) -> Index:
    """Write the index, which makes the shards a pack."""
    if empty := [split for split in SPLITS if not progress.shards[split]]:
        raise RunError(f"{printable(folder)}: no {empty[0]} image can be decoded: {progress.left_out[0]}")
    names = ""
    if facts.images:
        content = json.dumps({split: dict(some) for split, some in facts.images.items()}).encode()
        write_whole(folder / NAMES, content)
        names = hashlib.sha256(content).hexdigest()
    own = mean_and_std(torch.tensor(progress.counts))
    index = Index(
        encoding=encoding,
        source=facts.name,
        made_of=progress.made_of,
        image_shape=facts.image_shape,
        class_names=facts.class_names,
        mean=own[0] if facts.mean is None else facts.mean,
        std=own[1] if facts.std is None else facts.std,
        statistics=facts.statistics or (OWN_STATISTICS if facts.mean is None else PUBLISHED_STATISTICS),
        greys=None if facts.greys is None else (facts.greys.black, facts.greys.white),
        names=names,
        splits={split: tuple(shards) for split, shards in progress.shards.items()},
    )
    write_whole(folder / INDEX, index.text().encode())
    (folder / PROGRESS).unlink()
    return index


def save(folder: Path, progress: Progress) -> None:
    write_whole(folder / PROGRESS, json.dumps(asdict(progress)).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that has its name only once it is whole and on the disk."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        settle(file)
    partial.replace(path)


def settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
    file.close()
