"""Fingerprints what a run reads besides its settings: the images of a user's folder, the user's file of code, and the
weights that it starts from.

The fingerprints are in the record, in the checkpoints and in a sweep's sweep.json. The run's folder also has the hash
of each image, so that a message can count the images that were added, are gone or have changed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlintro.data import ImageDataModule
from dlintro.errors import RunError
from dlintro.reader import read_json
from dlintro.run.record import write_json

IMAGES = "images.json"  # in a run's folder: split -> an image's name -> the hash of its bytes
LARGEST = 2**27  # bytes; images.json may not be larger, which is enough for a million images

Images = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Inputs:
    """`images` is the data set's fingerprint, or "" if the set can't change. `code` is the SHA-256 of the user's file,
    or None without one, and `weights` that of the file of weights. `each` has the hash of each image if the images are
    files."""

    images: str
    code: str | None
    weights: str | None
    each: Images

    @classmethod
    def of(cls, data: ImageDataModule, code: str | None, weights: Path | None) -> "Inputs":
        facts = data.source.facts
        return cls(facts.fingerprint, file_fingerprint(code), file_fingerprint(weights), facts.images)

    @property
    def noted(self) -> dict[str, str | None]:
        """Return the fingerprints that a checkpoint notes."""
        return {"images": self.images, "code": self.code, "weights": self.weights}


def file_fingerprint(path: str | Path | None) -> str | None:
    if not path or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_images(folder: Path, each: Images) -> None:
    if each:
        write_json(folder / IMAGES, each)


def read_images(folder: Path) -> Images | None:
    """Return None if the folder has no list of images, or a damaged one."""
    path = folder / IMAGES
    try:
        content = read_json(path, LARGEST)
    except RunError:
        return None
    whole = isinstance(content, dict) and all(
        isinstance(split, dict) and all(isinstance(digest, str) for digest in split.values())
        for split in content.values()
    )
    return content if whole else None


def other_images(folder: Path, record: Mapping[str, Any], images: str, each: Images) -> str | None:
    """Say in a few words how the images of the run in `folder` differ from these, or return None if they don't."""
    recorded = record.get("images_fingerprint")
    if not images or recorded == images:
        return None
    if recorded is None:  # without files, a checkpoint of an earlier version has the fingerprint
        if not each:
            return None
        return "an earlier version made the run, chose its test images differently, and noted no contents"
    return counted(read_images(folder), each)


def counted(old: Images | None, new: Images) -> str:
    """Count what differs: "2 added, 1 gone, 0 changed"."""
    if not old or not new:
        return "it is not known how many, because the run has no list of its images"
    before, now = ({name: digest for part in each.values() for name, digest in part.items()} for each in (old, new))
    changed = sum(before[name] != now[name] for name in before.keys() & now.keys())
    if before == now:
        return "the same files, but their labels, their parts, the range of their greys or their packing differ"
    return f"{len(now.keys() - before)} added, {len(before.keys() - now)} gone, {changed} changed"


def learnt_from(images: Images) -> set[str]:
    """Return the hashes of the images that a run was trained or validated on."""
    return {digest for split in ("train", "val") for digest in images.get(split, {}).values()}


def num_trained_on(old: Images, new: Images) -> int:
    """Count the test images that are, byte for byte, among those that a run was trained or validated on."""
    known = learnt_from(old)
    return sum(digest in known for digest in new.get("test", {}).values())
