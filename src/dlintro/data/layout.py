"""Finds the images of a folder and their classes by the names of folders and files alone. No file is opened.

DIR/CLASS/*.png, or DIR/train/CLASS/*.png with DIR/val and DIR/test beside it.
"""

import logging
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dlintro.data.image_file import NEEDS_PILLOW_HEIF, SUFFIXES
from dlintro.errors import UsageError
from dlintro.text import printable, typed

log = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SPELLINGS = {  # of a split's folder, in lower case; any case is read
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
SPLIT_OF = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}
SPLIT_WORDS = {*SPLIT_OF, "dev", "eval", "holdout"}  # a folder named training_set or dev looks like a split
NO_ENDING = "without an ending"
MOST_ENDINGS = 5  # of skipped files that are named

Labelled = tuple[Path, int]


@dataclass(frozen=True)
class Listing:
    """The images of a set and their labels. `files`: split -> (path, label) by name, then class; the split "all" is a
    set that the user did not divide. `folders`: split -> the folder that has its images. `skipped` counts the other
    files by the ending of their names. `labels`: the file that the labels come from, if not from class folders."""

    class_names: list[str]
    files: dict[str, list[Labelled]]
    folders: dict[str, Path]
    skipped: Counter[str]
    labels: Path | None = None


def list_images(root: Path) -> Listing:
    """List the images of the class folders in `root`. Labels follow the sorted class names. Raises UsageError for
    another layout, and for folders that can't be read."""
    folders = split_folders(root)
    names = shared_classes(folders)
    skipped: Counter[str] = Counter()
    files = {split: class_files(folder, names, skipped) for split, folder in folders.items()}
    listing = Listing(names, files, folders, skipped)
    refuse_empty_class(listing)
    return listing


def split_folders(root: Path) -> dict[str, Path]:
    """Return {split: its folder of class folders}, with the split "all" if the user made none. A class may have the
    name of a split: these are splits only if there is a folder of class folders for training."""
    refuse_no_folder(root)
    inner = {name: subfolders(root / name) for name in subfolders(root)}
    spelt = {name: SPLIT_OF[name.casefold()] for name in inner if name.casefold() in SPLIT_OF}
    if not any(split == "train" and inner[name] for name, split in spelt.items()):
        refuse_splits_without_train(root, inner, spelt)
        return {"all": root}
    refuse_two_spellings(root, spelt)
    of_split = {split: name for name, split in spelt.items()}
    classes = set(inner[of_split["train"]])
    for name in inner.keys() - spelt.keys():
        if classes & set(inner[name]):
            raise UsageError(
                f"data.path={printable(root)}: the folder {printable(name)} beside {printable(of_split['train'])} has "
                f"class folders too, but is called neither val nor test; rename it or move it away"
            )
    if others := sorted(inner.keys() - spelt.keys()):
        log.warning("%s: only train, val and test are read, not %s", printable(root), printable(", ".join(others)))
    found = {split: root / of_split[split] for split in SPLITS if split in of_split}
    if "test" in found and not inner[of_split["test"]]:
        say_unlabelled(found.pop("test"))
    return found if len(found) > 1 else {"all": found["train"]}


def refuse_no_folder(root: Path) -> None:
    if root.is_file():
        raise UsageError(f"data.path={printable(root)}: this is a file; name the folder above the class folders")
    if not root.is_dir():
        raise UsageError(f"data.path={printable(root)}: there is no such folder")


def refuse_splits_without_train(root: Path, inner: Mapping[str, Sequence[str]], spelt: Mapping[str, str]) -> None:
    """Raise UsageError if these folders aren't classes but parts of a set, of which none is for training."""
    if inner and inner.keys() <= spelt.keys():
        train = next((name for name, split in spelt.items() if split == "train"), "train")
        raise UsageError(
            f"data.path={printable(root)}: there are no class folders in {printable(root / train)}; put the images "
            f"there, as CLASS/IMAGE"
        )
    looks_like = [name for name in inner if inner[name] and SPLIT_WORDS & set(re.split(r"[^a-z]+", name.casefold()))]
    if looks_like:
        raise UsageError(
            f"data.path={printable(root)}: {printable(', '.join(looks_like))}: this looks like a part of a set and not "
            f"like a class, because there are folders in it; name the parts train, val and test"
        )


def refuse_two_spellings(root: Path, spelt: Mapping[str, str]) -> None:
    for split in SPLITS:
        if len(names := [name for name, found in spelt.items() if found == split]) > 1:
            raise UsageError(
                f"data.path={printable(root)}: {printable(' and '.join(names))} are two names of one part; "
                f"put their images into one folder, {split}"
            )


def say_unlabelled(folder: Path) -> None:
    num = sum(is_image(path) for path in visible_files(folder))
    images = f"its {num} images have no labels" if num != 1 else "its image has no label"
    log.info(
        "%s has no class folders, so %s: a part of the other images becomes the test images, and after the training "
        "%s last %s classifies these",
        printable(folder), images, typed("predict"), shlex.quote(printable(folder)),
    )  # fmt: skip


def shared_classes(folders: Mapping[str, Path]) -> list[str]:
    (first, *_), classes = folders.values(), {folder: subfolders(folder) for folder in folders.values()}
    if len(classes[first]) < 2:
        found = f"only one folder ({printable(classes[first][0])})" if classes[first] else "no folders"
        table = min(first.glob("*.csv"), default=None)
        labels = f"; if {printable(table.name)} has the labels, add data.labels={printable(table)}" if table else ""
        raise UsageError(
            f"data.path: {printable(first)} has {found} in it; put the images of each class into a folder of its own, "
            f"for two classes at least, and name the folder above these{labels}"
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
        own = folder / name
        for path in visible_files(own, refuse_links=True):
            if is_image(path):
                found.append((within(own, path).split("/"), label, path))  # ordered as paths are, but sooner
            else:
                skipped[ending(path)] += 1
    return [(path, label) for _, label, path in sorted(found)]


def visible_files(folder: Path, refuse_links: bool = False) -> Iterator[Path]:
    """Yield the files in and below the folder, in any order. Names that begin with a dot are left out: macOS leaves
    ._a.png. Raises UsageError for a folder that can't be read and, with `refuse_links`, for a link to a folder,
    which would be left out in silence."""
    for parent, inner, files in os.walk(folder, onerror=unreadable):
        inner[:] = [entry for entry in inner if not entry.startswith(".")]
        links = [entry for entry in inner if Path(parent, entry).is_symlink()] if refuse_links else []
        if links:  # they may form a circle
            raise UsageError(
                f"data.path: {printable(Path(parent, links[0]))} is a link to a folder; copy the folder here"
            )
        here = Path(parent)  # made once, because a million images take a minute otherwise
        yield from (here / file for file in files if not file.startswith("."))


def is_image(path: Path) -> bool:
    """Return whether the file is an image by the ending of its name."""
    return path.suffix.lower() in SUFFIXES


def within(folder: Path, path: Path | str) -> str:
    """Return the path relative to the folder. `Path.relative_to` takes ten times as long."""
    return str(path).removeprefix(f"{folder}/")


def ending(path: Path) -> str:
    return path.suffix.lower() or NO_ENDING


def skipped_said(skipped: Counter[str]) -> str:
    """Say how many files were skipped, and their endings: "3 other files skipped (.heic 2, .txt 1)"."""
    ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    endings = ", ".join(f"{ending} {num}" for ending, num in ordered[:MOST_ENDINGS])
    others = ", ..." if len(ordered) > MOST_ENDINGS else ""
    hint = "; install pillow-heif to read .heic" if NEEDS_PILLOW_HEIF & skipped.keys() else ""
    return f"{skipped.total()} other file{'s' * (skipped.total() > 1)} skipped ({printable(endings)}{others}{hint})"


def unreadable(error: OSError) -> NoReturn:
    raise UsageError(f"{printable(error.filename)} can't be read ({error.strerror})")


def refuse_empty_class(listing: Listing) -> None:
    """Raise UsageError if a split has no image of one of the classes."""
    for split, labelled in listing.files.items():
        if empty := set(range(len(listing.class_names))) - {label for _, label in labelled}:
            name = listing.class_names[min(empty)]
            skipped = f"; {skipped_said(listing.skipped)}" if listing.skipped else ""
            if listing.labels is not None:
                of = "" if split == "all" else f" with the split {split}"
                raise UsageError(
                    f"data.labels={printable(listing.labels)}: no image of the class {printable(name)}{of}"
                )
            raise UsageError(
                f"data.path: no image in the class folder {printable(listing.folders[split] / name)} "
                f"(looked for {' '.join(sorted(SUFFIXES))}){skipped}"
            )
