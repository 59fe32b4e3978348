"""Reads a user's own images, DIR/CLASS/*.png, as a data set.

Shapes: N images, C channels, H height, W width.
"""

import hashlib
import io
import logging
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from dlintro.data import split as splits
from dlintro.data.pixels import PixelArray, stack
from dlintro.data.source import Facts, Split
from dlintro.errors import RunError, UsageError, one_line
from dlintro.terminal import track
from dlintro.text import printable

log = logging.getLogger(__name__)

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm", ".pbm"}
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no others: for an EPS, PIL would run Ghostscript
SPLITS = ("train", "val", "test")
MAX_SIDE = 16_384
MIXED_SIZE = 64  # side of images that come in several sizes, unless data.image_size says another
MOST_ENDINGS = 5  # of skipped files that are named
FEW_CLASSES = 10  # up to this many are named one by one
TEST_SHARE = 0.1  # for a folder without a test part of its own
DEAL = f"test: the first 8 bytes of SHA-256 of CLASS/NAME, as a share of 2**64, are below {TEST_SHARE}"
# PIL decodes and resizes without Python's lock. There are few threads, as each may hold a large image.
NUM_THREADS = min(4, os.cpu_count() or 1)
Image.MAX_IMAGE_PIXELS = MAX_SIDE**2

Labelled = tuple[Path, int]


class BrokenImage(RunError):
    """A file that can't be decoded. data.skip_broken=true leaves it out."""


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
        folders = split_folders(self.root)
        names = shared_classes(folders)
        skipped: Counter[str] = Counter()
        files = {split: class_files(folder, names, skipped) for split, folder in folders.items()}
        self.hashes: dict[Path, str] = {}  # of each image's bytes
        files, size, grey = self._read_headers(files, image_size)
        say_what_was_read(self.root, len(names), len(self.hashes), skipped)
        for split, labelled in files.items():
            refuse_empty_class(folders[split], names, labelled)
        self.files = divide(self.root, folders, names, files, val_size)
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
        self, files: dict[str, list[Labelled]], image_size: int | None
    ) -> tuple[dict[str, list[Labelled]], tuple[int, int], bool]:
        """Return the files that are images, the (H, W) that they will have, and whether all are grey."""
        sizes, all_grey, broken = set(), True, []
        good: dict[str, list[Labelled]] = {split: [] for split in files}
        everything = [(split, item) for split, labelled in files.items() for item in labelled]
        for split, item in track(everything, "reading images"):
            try:
                size, grey = read_header(item[0])
                self.hashes[item[0]] = content_hash(read_file(item[0]))
            except BrokenImage as error:
                if not self.skip_broken:
                    raise
                broken.append(str(error))
                continue
            good[split].append(item)
            sizes.add(size)
            all_grey &= grey
        say_left_out(broken)
        if image_size is not None:
            return good, (image_size, image_size), all_grey
        if len(sizes) == 1:
            return good, sizes.pop(), all_grey
        log.info(
            "%s: the images have %d different sizes, so they are resized to %d x %d (data.image_size=N changes that)",
            printable(self.root), len(sizes), MIXED_SIZE, MIXED_SIZE,
        )  # fmt: skip
        return good, (MIXED_SIZE, MIXED_SIZE), all_grey

    def prepare(self) -> None:
        """Do nothing: the images are already on this machine."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        where = "memory" if in_ram else "a temporary file"
        num, (channels, height, width) = sum(self.facts.sizes.values()), self.facts.image_shape
        log.info(
            "%s: %d images of %d x %d x %d take %.1f MB of %s",
            printable(self.root), num, channels, height, width, self.facts.num_bytes / 1e6, where,
        )  # fmt: skip
        broken: list[str] = []
        loaded = {split: self._load_split(split, in_ram, broken) for split in self.files}
        say_left_out(broken)
        self.facts = replace(self.facts, sizes={split: len(labels_N) for split, (_, labels_N) in loaded.items()})
        return loaded

    def _load_split(self, split: str, in_ram: bool, broken: list[str]) -> Split:
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

        images_NCHW = stack(parts(), (len(labelled), *self.facts.image_shape), in_ram)
        if not labels:
            raise RunError(
                f"{printable(self.root)}: none of the {len(labelled)} {split} images can be decoded: {broken[0]}"
            )
        return images_NCHW, torch.tensor(labels, dtype=torch.int64)

    def _decode(self, item: Labelled) -> PixelArray | BrokenImage:
        path, _ = item
        try:
            content = read_file(path)
            if content_hash(content) != self.hashes[path]:
                raise RunError(f"{printable(path)}: changed while the images were being read; start again")
            return decode(path, self.facts.image_shape, content)
        except BrokenImage as error:
            if not self.skip_broken:
                raise
            return error


# The layout: only names are read.


def split_folders(root: Path) -> dict[str, Path]:
    """Return {split: its folder of class folders}, with the split "all" if the user made none."""
    if not root.is_dir():
        raise UsageError(f"data.path={printable(root)}: there is no such folder")
    names = subfolders(root)
    if "train" not in names or not subfolders(root / "train"):  # a class may be called train
        if names and set(names) <= set(SPLITS):
            raise UsageError(
                f"data.path={printable(root)}: there are no class folders in "
                f"{printable(root / 'train')}; put the images there, as CLASS/*.png"
            )
        return {"all": root}
    if others := [name for name in names if name not in SPLITS]:
        log.warning("%s: only train, val and test are read, not %s", printable(root), printable(", ".join(others)))
    found = {split: root / split for split in SPLITS if split in names}
    return found if len(found) > 1 else {"all": root / "train"}


def shared_classes(folders: dict[str, Path]) -> list[str]:
    (first, *_), classes = folders.values(), {folder: subfolders(folder) for folder in folders.values()}
    if len(classes[first]) < 2:
        raise UsageError(
            f"data.path: {printable(first)} has {len(classes[first])} class folders; put the images of each class "
            f"into a folder of its own, for two classes at least"
        )
    for folder, names in classes.items():
        if odd := sorted(set(names) ^ set(classes[first])):
            raise UsageError(
                f"data.path: only one of {printable(first)} and {printable(folder)} has the class "
                f"{printable(odd[0])}; give both the same class folders"
            )
    return classes[first]


def subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        unreadable(error)


def class_files(folder: Path, names: Sequence[str], skipped: Counter[str]) -> list[Labelled]:
    """List the images of all classes by name, then class, so that a set with numbered files keeps its order. Counts in
    `skipped` the other files by the ending of their names."""
    found = []
    for label, name in enumerate(names):
        for parent, inner, files in os.walk(folder / name, onerror=unreadable):
            inner[:] = [entry for entry in inner if not entry.startswith(".")]
            if links := [entry for entry in inner if Path(parent, entry).is_symlink()]:  # links may form a circle
                raise UsageError(
                    f"data.path: {printable(Path(parent, links[0]))} is a link to a folder; copy the folder here"
                )
            for path in (Path(parent, file) for file in files if not file.startswith(".")):  # macOS leaves ._a.png
                if path.suffix.lower() in SUFFIXES:
                    found.append((path.relative_to(folder / name), label, path))
                else:
                    skipped[path.suffix.lower() or "without an ending"] += 1
    refuse_empty_class(folder, names, [(path, label) for _, label, path in found])
    return [(path, label) for _, label, path in sorted(found)]


def unreadable(error: OSError) -> NoReturn:
    raise UsageError(f"data.path: {printable(error.filename)} can't be read ({error.strerror})")


def say_what_was_read(root: Path, num_classes: int, num_images: int, skipped: Counter[str]) -> None:
    said = f"{num_images} images of {num_classes} classes read"
    if skipped:
        ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
        endings = ", ".join(f"{ending} {num}" for ending, num in ordered[:MOST_ENDINGS])
        others = ", ..." if len(ordered) > MOST_ENDINGS else ""
        said += f", {skipped.total()} other file{'s' * (skipped.total() > 1)} skipped ({endings}{others})"
    log.info("%s: %s", printable(root), printable(said))


def refuse_empty_class(folder: Path, names: Sequence[str], labelled: list[Labelled]) -> None:
    if empty := set(range(len(names))) - {label for _, label in labelled}:
        name = names[min(empty)]
        raise UsageError(
            f"data.path: no image in the class folder {printable(folder / name)} "
            f"(looked for {' '.join(sorted(SUFFIXES))})"
        )


def divide(
    root: Path,
    folders: Mapping[str, Path],
    names: Sequence[str],
    files: dict[str, list[Labelled]],
    val_size: int | None,
) -> dict[str, list[Labelled]]:
    """Add the splits that the user's folders lack. With a test folder and no val, the data module makes val."""
    divided = dict(files)
    if "test" not in files:
        split, folder = next(iter(folders.items()))
        rest, test = deal_test(folder, files[split])
        refuse_class_without_test_image(root, names, test)
        divided = {"train": rest, **({"val": files["val"]} if "val" in files else {}), "test": test}
        said = f"{len(test)} of the {len(files[split])} images are test images ({counts_said(names, test)})"
        if split == "all":
            num = ten_percent(files[split]) if val_size is None else val_size
            divided["train"], divided["val"] = take(rest, num)
            said += f", {len(divided['val'])} of the others are validation images"
        log.info(
            "%s: there is no test folder, so the names of the images decide: %s. Images that you add later move no "
            "image into or out of the test images.",
            printable(folder), printable(said),
        )  # fmt: skip
        divided = {name: divided[name] for name in SPLITS}
    if val_size is not None and "val" in files:
        if val_size > len(files["val"]):
            raise UsageError(
                f"data.val_size={val_size}: {printable(root / 'val')} has {len(files['val'])} "
                f"images; use {len(files['val'])} or less"
            )
        divided["val"] = take(files["val"], val_size)[1]
    if too_few := {label for _, label in next(iter(files.values()))} - {label for _, label in divided["train"]}:
        raise UsageError(
            f"data.path={printable(root)}: no image is left to train on in {len(too_few)} of the classes; "
            f"add images, or type a smaller data.val_size"
        )
    return divided


def is_test(name: str) -> bool:
    """Return whether CLASS/NAME is a test image, in a folder without a test part. The SHA-256 of this name alone
    decides; it selects one image in ten."""
    share = int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") / 2**64
    return share < TEST_SHARE


def within(folder: Path, path: Path) -> str:
    """Return the path relative to the folder. `Path.relative_to` takes ten times as long."""
    return str(path).removeprefix(f"{folder}/")


def deal_test(folder: Path, labelled: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Return (the other images, the test images) of the class folders in `folder`, each in the old order."""
    dealt: tuple[list[Labelled], list[Labelled]] = ([], [])
    for path, label in labelled:
        dealt[is_test(within(folder, path))].append((path, label))
    return dealt


def refuse_class_without_test_image(root: Path, names: Sequence[str], test: Sequence[Labelled]) -> None:
    if without := sorted(set(range(len(names))) - {label for _, label in test}):
        others = f" and {len(without) - 1} other classes" if len(without) > 1 else ""
        raise UsageError(
            f"data.path={printable(root)}: without a test folder the names of the images decide which of them are test "
            f"images, and none is in the class {printable(names[without[0]])}{others}; put test images of every class "
            f"into {printable(root / 'test')}, as CLASS/*.png, and the others into {printable(root / 'train')}"
        )


def counts_said(names: Sequence[str], labelled: Sequence[Labelled]) -> str:
    """Say how many images each class has; for many classes, only the smallest and the largest number."""
    counts = Counter(label for _, label in labelled)
    if len(names) <= FEW_CLASSES:
        return ", ".join(f"{name} {counts[label]}" for label, name in enumerate(names))
    return f"{min(counts.values())} to {max(counts.values())} of each of the {len(names)} classes"


def warn_of_copies(root: Path, images: Mapping[str, Mapping[str, str]]) -> None:
    """Warn about test images that are also training or validation images under another name."""
    known = {digest: name for split in ("train", "val") for name, digest in images.get(split, {}).items()}
    if copies := [(name, known[digest]) for name, digest in images["test"].items() if digest in known]:
        log.warning(
            "%s: %d of the %d test images are also training or validation images, byte for byte (the first: %s is %s), "
            "so the test accuracy is too high; remove the copies",
            printable(root), len(copies), len(images["test"]), *map(printable, copies[0]),
        )  # fmt: skip


def ten_percent(labelled: list[Labelled]) -> int:
    """Return a tenth of the number of images, but at least one per class, so that no small class is left out."""
    return max(len({label for _, label in labelled}), round(0.1 * len(labelled)))


def take(labelled: list[Labelled], num: int) -> tuple[list[Labelled], list[Labelled]]:
    """Return (the others, `num` images in which each class has its share), each in the old order."""
    labels_N = torch.tensor([label for _, label in labelled])
    taken = splits.stratified(labels_N, num)
    left = splits.others(len(labelled), taken)
    return [labelled[row] for row in left.tolist()], [labelled[row] for row in taken.tolist()]


# The pixels.


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise broken_image(path, error) from None


def content_hash(content: bytes) -> str:
    """Return the first 128 bits of SHA-256, in hex."""
    return hashlib.sha256(content).hexdigest()[:32]


def read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """Return (height, width) of the decoded image, and whether it is grey."""
    if not path.is_file():  # opening a pipe would wait for ever
        raise broken_image(path, ValueError("not a file, or a link that leads nowhere"))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the error is handled below
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if image.format == "JPEG" and image.getexif().get(0x0112, 1) >= 5:  # a camera held upright
                    width, height = height, width
                if image.mode == "F":
                    raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits")
                grey = Image.getmodebase(image.mode) == "L"
    except Image.DecompressionBombError:
        raise RunError(f"{printable(path)}: larger than {MAX_SIDE} x {MAX_SIDE} pixels; make it smaller") from None
    except Exception as error:  # PIL's readers raise anything on a damaged file
        raise broken_image(path, error) from None
    if max(height, width) > MAX_SIDE:
        raise RunError(
            f"{printable(path)}: {width} x {height} pixels, but a side has {MAX_SIDE} at most; make it smaller"
        )
    return (height, width), grey


def decode(
    path: Path,
    shape: tuple[int, int, int],
    content: bytes | None = None,
    paper: Callable[[Image.Image], int] = lambda image: 255,
) -> PixelArray:
    """Decode to uint8 (C, H, W). An image of this shape is returned bit for bit. From any other, the middle part that
    has the shape's proportions is resized (bilinear, antialiased). `content` holds the file's bytes if they were read
    before. `paper` returns the grey that the transparent part of an RGBA image shows."""
    channels, height, width = shape
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=FORMATS) as file:
            image = eight_bits(ImageOps.exif_transpose(file), "L" if channels == 1 else "RGB", paper)
        if image.size != (width, height):
            image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
        pixels: PixelArray = np.asarray(image).reshape(height, width, channels).transpose(2, 0, 1)
        return pixels
    except MemoryError:
        raise
    except Exception as error:
        raise broken_image(path, error) from None


def eight_bits(image: Image.Image, mode: str, paper: Callable[[Image.Image], int]) -> Image.Image:
    """Convert to `mode`, L or RGB. 16-bit greys are scaled; transparent pixels show the grey of `paper`."""
    if image.mode.startswith("I"):
        grey_HW = np.asarray(image).clip(0, 65_535).astype(np.uint32)
        image = Image.fromarray(((grey_HW + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*[paper(rgba)] * 3, 255)), rgba)
    return image if image.mode == mode else image.convert(mode)


def broken_image(path: Path, error: Exception) -> BrokenImage:
    why = "not an image, or damaged" if isinstance(error, UnidentifiedImageError) else one_line(error)
    return BrokenImage(
        f"{printable(path)}: {why}; mend or remove it, or type data.skip_broken=true to leave such files out"
    )


def say_left_out(broken: list[str]) -> None:
    if broken:
        images = "1 broken image is" if len(broken) == 1 else f"{len(broken)} broken images are"
        log.warning("%s left out; the first is %s", images, broken[0].partition("; mend")[0])
