"""Divides the images of a folder among training, validation and test, where the user has not done it."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from dlintro.data import split as splits
from dlintro.data.layout import SPLITS, Labelled, Listing, within
from dlintro.errors import UsageError
from dlintro.text import printable

log = logging.getLogger(__name__)

FEW_CLASSES = 10  # up to this many are named one by one
TEST_SHARE = 0.1  # for a folder without a test part of its own
DEAL = f"test: the first 8 bytes of SHA-256 of CLASS/NAME, as a share of 2**64, are below {TEST_SHARE}"


def divide(root: Path, listing: Listing, val_size: int | None) -> dict[str, list[Labelled]]:
    """Return the files of each split, also of those that the user did not make. With a test part and no val, the data
    module makes val. Raises UsageError if a class has no image left to train or to test on."""
    files, folders, names = listing.files, listing.folders, listing.class_names
    divided = dict(files)
    if "test" not in files:
        split, folder = next(iter(folders.items()))
        rest, test = deal_test(folder, files[split])
        refuse_class_without_test_image(root, listing, test)
        divided = {"train": rest, **({"val": files["val"]} if "val" in files else {}), "test": test}
        said = f"{len(test)} of the {len(files[split])} images are test images ({counts_said(names, test)})"
        if split == "all":
            num = ten_percent(files[split]) if val_size is None else val_size
            divided["train"], divided["val"] = take(rest, num)
            said += f", {len(divided['val'])} of the others are validation images"
        log.info(
            "%s: no test folder with labels, so the names of the images decide: %s. Adding images later doesn't "
            "change which of these are test images.",
            printable(folder), printable(said),
        )  # fmt: skip
        divided = {name: divided[name] for name in SPLITS}
    if val_size is not None and "val" in files:
        if val_size > len(files["val"]):
            raise UsageError(
                f"data.val_size={val_size}: {printable(folders['val'])} has {len(files['val'])} "
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


def deal_test(folder: Path, labelled: Sequence[Labelled]) -> tuple[list[Labelled], list[Labelled]]:
    """Return (the other images, the test images) of the class folders in `folder`, each in the old order."""
    dealt: tuple[list[Labelled], list[Labelled]] = ([], [])
    for path, label in labelled:
        dealt[is_test(within(folder, path))].append((path, label))
    return dealt


def refuse_class_without_test_image(root: Path, listing: Listing, test: Sequence[Labelled]) -> None:
    names = listing.class_names
    if without := sorted(set(range(len(names))) - {label for _, label in test}):
        others = f" and {len(without) - 1} more" if len(without) > 1 else ""
        remedy = (
            f"add images of it, or put test images of every class into {printable(root / 'test')}, as CLASS/IMAGE, "
            f"and the others into {printable(root / 'train')}"
        )
        if listing.labels is not None:
            remedy = f"give {printable(listing.labels)} a column split with train and test in it"
        raise UsageError(
            f"data.path={printable(root)}: without a test part the names of the images decide which of them are test "
            f"images, and none is in the class {printable(names[without[0]])}{others}; {remedy}"
        )


def counts_said(names: Sequence[str], labelled: Sequence[Labelled]) -> str:
    """Say how many images each class has. Of many classes, name only the smallest and the largest."""
    counts = Counter(label for _, label in labelled)
    if len(names) <= FEW_CLASSES:
        return ", ".join(f"{name} {counts[label]}" for label, name in enumerate(names))
    smallest, largest = (choose(range(len(names)), key=counts.__getitem__) for choose in (min, max))
    return f"the smallest class {names[smallest]} {counts[smallest]}, the largest {names[largest]} {counts[largest]}"


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
