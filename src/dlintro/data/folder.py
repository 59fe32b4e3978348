"""Reads a user's own images, DIR/CLASS/*.png, as a data set.

Shapes: N images, C channels, H height, W width.
"""

import hashlib
import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from dlintro.data.deal import DEAL, divide, warn_of_copies, within
from dlintro.data.encoded import ImageFiles
from dlintro.data.image_file import BrokenImage, content_hash, decode, read_file, read_header
from dlintro.data.layout import Labelled, list_images, refuse_empty_class
from dlintro.data.pixels import PixelArray, stack
from dlintro.data.source import Facts, Split
from dlintro.errors import RunError
from dlintro.terminal import track
from dlintro.text import printable, typed

log = logging.getLogger(__name__)

MIXED_SIZE = 64  # side of images that come in several sizes, unless data.image_size says another
MOST_ENDINGS = 5  # of skipped files that are named
# PIL decodes and resizes without Python's lock. There are few threads, as each may hold a large image.
NUM_THREADS = min(4, os.cpu_count() or 1)


class ImageFolder:
    """The images DIR/CLASS/*.png, or DIR/train/CLASS, DIR/val/CLASS and DIR/test/CLASS where these exist.

    Labels follow the sorted class names. Images are ordered by their name within the class folder, then by class.
    Without DIR/test, only the path of an image decides whether it is a test image (`is_test`). Images that are added
    later therefore move no other image between the training part and the test part.

    `image_size` is the side of the square that images are resized to. None keeps their size if all have the same, and
    else takes 64. `val_size` is the number of validation images. None takes all of DIR/val or, without it, 10 % of each
    class. The constructor reads and hashes all files, and decodes none. Raises UsageError if the folder has another
    layout, and RunError for a file that isn't an image.
    """

    names = ("image_folder",)

    def __init__(
        self,
        path: str | Path,
        image_size: int | None = None,
        val_size: int | None = None,
        skip_broken: bool = False,
    ) -> None:
        self.root, self.skip_broken = Path(path).expanduser().absolute(), skip_broken
        listing = list_images(self.root)
        names = listing.class_names
        self.hashes: dict[Path, str] = {}  # of each image's bytes
        files, sizes, grey = self._read_headers(listing.files)
        say_what_was_read(self.root, len(names), len(self.hashes), listing.skipped)
        size = self._common_size(sizes) if image_size is None else (image_size, image_size)
        for split, labelled in files.items():
            refuse_empty_class(listing.folders[split], names, labelled)
        self.files = divide(self.root, replace(listing, files=files), val_size)
        images = {
            split: {self._name(path): self.hashes[path] for path, _ in some} for split, some in self.files.items()
        }
        warn_of_copies(self.root, images)
        self.facts = Facts(
            name="image_folder",
            image_shape=(1 if grey else 3, *size),
            class_names=tuple(name.encode(errors="replace").decode() for name in names),
            sizes={split: len(labelled) for split, labelled in self.files.items()},
            fingerprint=self._fingerprint(),
            images=images,
        )

    def _name(self, path: Path) -> str:
        """Return the path as a record holds it, with bytes that are not text escaped."""
        return within(self.root, path).encode(errors="backslashreplace").decode()

    def _fingerprint(self) -> str:
        """Hash the path and the bytes of every image and the rule that selects test images (SHA-256)."""
        listed = sorted((self._name(path), digest) for path, digest in self.hashes.items())
        return hashlib.sha256(repr((DEAL, listed)).encode()).hexdigest()

    def _read_headers(
        self, files: dict[str, list[Labelled]]
    ) -> tuple[dict[str, list[Labelled]], set[tuple[int, int]], bool]:
        """Return the files that are images, every (H, W) among them, and whether all are grey."""
        sizes, all_grey, broken = set(), True, []
        good: dict[str, list[Labelled]] = {split: [] for split in files}
        everything = [(split, item) for split, labelled in files.items() for item in labelled]
        for split, item in track(everything, "reading images"):
            try:
                content = read_file(item[0])
                header = read_header(item[0], content)
                self.hashes[item[0]] = content_hash(content)
            except BrokenImage as error:
                if not self.skip_broken:
                    raise
                broken.append(str(error))
                continue
            good[split].append(item)
            sizes.add(header.size)
            all_grey &= header.grey
        say_left_out(broken)
        return good, sizes, all_grey

    def _common_size(self, sizes: set[tuple[int, int]]) -> tuple[int, int]:
        """Return the (H, W) that all images get where none is asked for."""
        if len(sizes) == 1:
            return sizes.pop()
        log.info(
            "%s: the images have %d different sizes, so they are resized to %d x %d (data.image_size=N changes that)",
            printable(self.root), len(sizes), MIXED_SIZE, MIXED_SIZE,
        )  # fmt: skip
        return MIXED_SIZE, MIXED_SIZE

    def prepare(self) -> None:
        """Do nothing: the images are already on this machine."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        if not in_ram:
            return self._load_on_the_fly()
        num, (channels, height, width) = sum(self.facts.sizes.values()), self.facts.image_shape
        log.info(
            "%s: %d images of %d x %d x %d take %.1f MB of memory",
            printable(self.root), num, channels, height, width, self.facts.num_bytes / 1e6,
        )  # fmt: skip
        broken: list[str] = []
        loaded = {split: self._load_split(split, broken) for split in self.files}
        say_left_out(broken)
        self.facts = replace(self.facts, sizes={split: len(labels_N) for split, (_, labels_N) in loaded.items()})
        return loaded

    def _load_on_the_fly(self) -> dict[str, Split]:
        log.info(
            "%s: the images stay on disk, and each is decoded anew whenever it is used. It is faster to pack them "
            "once: %s data=image_folder data.path=%s data.image_size=%d -o PACK, and then data=packed data.path=PACK",
            printable(self.root), typed("pack"), shlex.quote(printable(self.root)), self.facts.image_shape[1],
        )  # fmt: skip
        return {
            split: (FolderRows(self, [path for path, _ in some]), torch.tensor([label for _, label in some]))
            for split, some in self.files.items()
        }

    def _load_split(self, split: str, broken: list[str]) -> Split:
        labelled, labels = self.files[split], []

        def parts() -> Iterator[PixelArray]:
            step = 4 * NUM_THREADS  # a few at a time, because decoded images wait in memory to be stored
            starts = range(0, len(labelled), step)
            with ThreadPoolExecutor(NUM_THREADS) as pool:
                for start in track(starts, f"decoding {split} images"):
                    chunk = labelled[start : start + step]
                    for (_, label), image in zip(chunk, pool.map(self._decode, chunk), strict=True):
                        if isinstance(image, BrokenImage):
                            broken.append(str(image))
                            continue
                        labels.append(label)
                        yield image[None]

        images_NCHW = stack(parts(), (len(labelled), *self.facts.image_shape), in_ram=True)
        if not labels:
            raise RunError(
                f"{printable(self.root)}: none of the {len(labelled)} {split} images can be decoded: {broken[0]}"
            )
        return images_NCHW, torch.tensor(labels, dtype=torch.int64)

    def content(self, path: Path) -> bytes:
        """Read the file again. Raises RunError if it has changed since the set was made."""
        content = read_file(path)
        if content_hash(content) != self.hashes[path]:
            raise RunError(f"{printable(path)}: changed while the images were being read; start again")
        return content

    def pixels(self, path: Path) -> PixelArray:
        """Return the image as training sees it, uint8 (C, H, W). Raises BrokenImage."""
        return decode(path, self.facts.image_shape, self.content(path))

    def _decode(self, item: Labelled) -> PixelArray | BrokenImage:
        path, _ = item
        try:
            return self.pixels(path)
        except BrokenImage as error:
            if not self.skip_broken:
                raise
            return error


class FolderRows(ImageFiles):
    """The images of a split, decoded as they would be into RAM, whenever they are used."""

    def __init__(self, source: ImageFolder, paths: list[Path]) -> None:
        super().__init__(paths, source.facts.image_shape)
        self.source = source

    def content(self, row: int) -> bytes:
        return self.source.content(self.paths[row])

    def image(self, row: int) -> PixelArray:
        try:
            return self.source.pixels(self.paths[row])
        except BrokenImage as error:
            if not self.source.skip_broken:
                raise
            raise BrokenImage(
                f"{printable(self.paths[row])}: it can't be decoded, and images that stay on disk can't be left out "
                f"then; remove it, or pack the set with data.skip_broken=true"
            ) from error


def say_what_was_read(root: Path, num_classes: int, num_images: int, skipped: Counter[str]) -> None:
    said = f"{num_images} images of {num_classes} classes read"
    if skipped:
        ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        endings = ", ".join(f"{ending} {num}" for ending, num in ordered[:MOST_ENDINGS])
        others = ", ..." if len(ordered) > MOST_ENDINGS else ""
        said += f", {skipped.total()} other file{'s' * (skipped.total() > 1)} skipped ({endings}{others})"
    log.info("%s: %s", printable(root), printable(said))


def say_left_out(broken: list[str]) -> None:
    if broken:
        images = "1 broken image is" if len(broken) == 1 else f"{len(broken)} broken images are"
        log.warning("%s left out; the first is %s", images, broken[0].partition("; mend")[0])
