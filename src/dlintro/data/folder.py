"""Reads a user's own images, DIR/CLASS/*.png, as a data set.

Shapes: N images, C channels, H height, W width.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from dlintro.data.deal import DEAL, counts_said, divide, warn_of_copies
from dlintro.data.encoded import NUM_THREADS, ImageFiles
from dlintro.data.image_file import (
    BrokenImage,
    Greys,
    Header,
    content_hash,
    decode,
    grey_values,
    open_image,
    read_file,
    read_header,
)
from dlintro.data.labels_file import list_labelled
from dlintro.data.layout import Labelled, Listing, list_images, refuse_empty_class, skipped_said, within
from dlintro.data.pixels import PixelArray, stack
from dlintro.data.source import Facts, Split
from dlintro.errors import RunError
from dlintro.terminal import track
from dlintro.text import printable

log = logging.getLogger(__name__)

MIXED_SIZE = 64  # side of images that come in several sizes, unless data.image_size says another


@dataclass(frozen=True)
class Look:
    """The facts that the first look at a file tells. `values` are the smallest and the largest value of an image whose
    greys have more than 8 bits."""

    header: Header
    digest: str
    values: tuple[int, int] | None


class ImageFolder:
    """The images DIR/CLASS/*.png, or DIR/train/CLASS, DIR/val/CLASS and DIR/test/CLASS where these exist.

    Labels follow the sorted class names. Images are ordered by their name within the class folder, then by class.
    Without DIR/test, only the path of an image decides whether it is a test image (`is_test`). Images that are added
    later therefore move no other image between the training part and the test part.

    `image_size` is the side of the square that images are resized to. None keeps their size if all have the same, and
    else takes 64. `val_size` is the number of validation images. None takes all of DIR/val or, without it, 10 % of each
    class. `labels` is a CSV file of file,label (labels_file.py). DIR then has the images without class folders, and
    their names within DIR decide which are test images.

    The constructor reads and hashes all files. It decodes only greys of more than 8 bits, because the values of all of
    them decide how they become pixels (`Facts.greys`). Raises UsageError if the folder has another layout, and RunError
    for a file that isn't an image.
    """

    names = ("image_folder",)

    def __init__(
        self,
        path: str | Path,
        image_size: int | None = None,
        val_size: int | None = None,
        skip_broken: bool = False,
        labels: str | Path | None = None,
    ) -> None:
        self.root, self.skip_broken = Path(path).expanduser().absolute(), skip_broken
        csv_file = None if labels is None else Path(labels).expanduser().absolute()
        listing = list_images(self.root) if csv_file is None else list_labelled(self.root, csv_file)
        self.looks: dict[Path, Look] = {}
        listing = replace(listing, files=self._look_at(listing.files))
        refuse_empty_class(listing)
        self.files = divide(self.root, listing, val_size)
        values = self._deep_values()
        greys = Greys.of(min(values), max(values)) if values else None
        images = {
            split: {self._name(path): self.looks[path].digest for path, _ in some} for split, some in self.files.items()
        }
        self.facts = Facts(
            name="image_folder",
            image_shape=self._common_shape(image_size),
            class_names=tuple(name.encode(errors="replace").decode() for name in listing.class_names),
            sizes={split: len(labelled) for split, labelled in self.files.items()},
            greys=greys,
            fingerprint=self._fingerprint(listing, greys),
            images=images,
        )
        log.info("%s: %s", printable(self.root), printable(self._what_was_read(listing, values)))
        if cut := sum(look.header.cut for look in self.looks.values()):
            log.warning(
                "%s: %d images have colours of 16 bits, of which the upper 8 are read; if they use fewer bits, they "
                "look black: scale them first",
                printable(self.root), cut,
            )  # fmt: skip
        warn_of_copies(self.root, images)

    def _name(self, path: Path) -> str:
        """Return the path as a record holds it, with bytes that are not text escaped."""
        return within(self.root, path).encode(errors="backslashreplace").decode()

    def _fingerprint(self, listing: Listing, greys: Greys | None) -> str:
        """Hash the path and the bytes of every image and the rules that select test images and scale greys. Class
        folders are in the paths; labels from a file count apart."""
        listed = sorted((self._name(path), look.digest) for path, look in self.looks.items())
        rules = [DEAL]
        if greys is not None:
            rules.append(f"greys from {greys.black} to {greys.white}")
        if listing.labels is not None:
            names, files = listing.class_names, listing.files
            rules.append(repr(sorted((self._name(p), names[k], split) for split in files for p, k in files[split])))
        return hashlib.sha256(repr((*rules, listed)).encode()).hexdigest()

    def _look_at(self, files: dict[str, list[Labelled]]) -> dict[str, list[Labelled]]:
        """Note what each file holds, and return the files that are images."""
        broken: list[str] = []
        good: dict[str, list[Labelled]] = {split: [] for split in files}
        everything = [(split, item) for split, labelled in files.items() for item in labelled]
        for split, item in track(everything, "reading images"):
            path, _ = item
            try:
                content = read_file(path)
                header = read_header(path, content)
                values = grey_values(path, content) if header.deep else None
            except BrokenImage as error:
                if not self.skip_broken:
                    raise
                broken.append(error.what)
                continue
            self.looks[path] = Look(header, content_hash(content), values)
            good[split].append(item)
        say_left_out(broken)
        return good

    def _deep_values(self) -> list[int]:
        """Return the extreme values of the greys of more than 8 bits. Those of test images only count if there are no
        others."""
        tested = {path for path, _ in self.files["test"]}
        ranges = {path: look.values for path, look in self.looks.items() if look.values is not None}
        learnt = [values for path, values in ranges.items() if path not in tested] or list(ranges.values())
        return [value for values in learnt for value in values]

    def _common_shape(self, image_size: int | None) -> tuple[int, int, int]:
        """Return the (C, H, W) that all images get."""
        channels = 1 if all(look.header.grey for look in self.looks.values()) else 3
        sizes = {look.header.size for look in self.looks.values()}
        if image_size is not None:
            return channels, image_size, image_size
        if len(sizes) == 1:
            return channels, *sizes.pop()
        log.info(
            "%s: the images have %d different sizes, so they are resized to %d x %d (data.image_size=N changes that)",
            printable(self.root), len(sizes), MIXED_SIZE, MIXED_SIZE,
        )  # fmt: skip
        return channels, MIXED_SIZE, MIXED_SIZE

    def _what_was_read(self, listing: Listing, values: Sequence[int]) -> str:
        """Say how many images there are of which classes, what was skipped, and what the images look like."""
        names = listing.class_names
        said = f"{len(self.looks)} images of {len(names)} classes read"
        if listing.skipped:
            said += f", {skipped_said(listing.skipped)}"
        sizes = sorted({look.header.size for look in self.looks.values()}, key=lambda size: (size[0] * size[1], size))
        small, large = (f"{width} x {height}" for height, width in (sizes[0], sizes[-1]))
        wide = f"{small} pixels" if len(sizes) == 1 else f"{len(sizes)} sizes from {small} to {large} pixels"
        greys = self.facts.greys
        colour = f"{'grey' if self.facts.image_shape[0] == 1 else 'colour'} of 8 bits"
        if greys is not None:
            colour = (
                f"greys of more than 8 bits with values from {min(values)} to {max(values)}, of which {greys.black} "
                f"becomes black (0) and {greys.white} white (255)"
            )
        parts = {"train": "to train", "val": "to validate", "test": "to test"}
        if "val" not in self.files:
            parts["train"] += " and validate"
        divided = ", ".join(f"{len(labelled)} {parts[split]}" for split, labelled in self.files.items())
        everything = [item for labelled in self.files.values() for item in labelled]
        return f"{said}: {counts_said(names, everything)}; {wide}, {colour}; {divided}"

    def prepare(self) -> None:
        """Do nothing: the images are already on this machine."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        if not in_ram:
            return {
                split: (FolderRows(self, [path for path, _ in some]), torch.tensor([label for _, label in some]))
                for split, some in self.files.items()
            }
        num, (channels, height, width) = sum(self.facts.sizes.values()), self.facts.image_shape
        log.info(
            "%s: %d images of %d x %d x %d take %.1f MB of memory",
            printable(self.root), num, channels, height, width, self.facts.num_bytes / 1e6,
        )  # fmt: skip
        broken: list[str] = []
        self._extremes = (255, 0)  # of the pixels
        loaded = {split: self._load_split(split, broken) for split in self.files}
        say_left_out(broken)
        self.facts = replace(self.facts, sizes={split: len(labels_N) for split, (_, labels_N) in loaded.items()})
        log.info("%s: the pixels use the values from %d to %d, of 0 to 255", printable(self.root), *self._extremes)
        return loaded

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
                            broken.append(image.what)
                            continue
                        labels.append(label)
                        low, high = self._extremes
                        self._extremes = min(low, int(image.min())), max(high, int(image.max()))
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
        if content_hash(content) != self.looks[path].digest:
            raise RunError(f"{printable(path)}: changed while the images were being read; start again")
        return content

    def pixels(self, path: Path) -> PixelArray:
        """Return the image as training sees it, uint8 (C, H, W). Raises BrokenImage."""
        return decode(path, self.facts.image_shape, self.content(path), self.facts.greys)

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

    def decoded(self, row: int) -> Image.Image:
        mode = "L" if self.shape[1] == 1 else "RGB"
        return open_image(self.paths[row], mode, self.content(row), self.source.facts.greys)

    def image(self, row: int) -> PixelArray:
        try:
            return self.source.pixels(self.paths[row])
        except BrokenImage as error:
            if not self.source.skip_broken:
                raise
            raise BrokenImage(
                f"{error.what}; remove it, or pack the set with data.skip_broken=true, as images that stay on disk "
                f"can't be left out any more"
            ) from error


def say_left_out(broken: Sequence[str]) -> None:
    if broken:
        images = "1 broken image is" if len(broken) == 1 else f"{len(broken)} broken images are"
        log.warning("%s left out; the first is %s", images, broken[0])
