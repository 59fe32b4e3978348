"""The files of `scripts/predict`: which images are read, and where it writes what the model saw of them."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dlintro.errors import RunError, UsageError
from dlintro.text import printable

if TYPE_CHECKING:
    import torch

SAVED_SIDE = 280  # pixels of a saved image's longer side, at least
MARK = ("Software", "dlintro predict --save")  # in each file that we write, so that it may be written again


@dataclass(frozen=True)
class Found:
    """`skipped`: how many files of the folders are no images by their names, by ending."""

    files: list[Path]
    skipped: Counter[str]
    in_folders: bool


def found_images(words: Sequence[str]) -> Found:
    """The files named, and of each folder all images in and below it, by name. Hidden files are not looked at."""
    from dlintro.data.image_file import SUFFIXES
    from dlintro.data.layout import ending, is_image, skipped_said, visible_files

    files: list[Path] = []
    skipped: Counter[str] = Counter()
    for word in words:
        path = Path(word)
        if path.is_file():
            files.append(path)
            continue
        if not path.is_dir():
            raise UsageError(f"{word}: there is no such file or folder")
        there = list(visible_files(path))
        here = [file for file in there if is_image(file)]
        others = Counter(ending(file) for file in there if not is_image(file))
        if not here:
            has = f"; {skipped_said(others)}" if others else ""
            raise UsageError(f"{word}: no images in this folder (looked for {' '.join(sorted(SUFFIXES))}){has}")
        files += sorted(here)
        skipped += others
    return Found(files, skipped, any(Path(word).is_dir() for word in words))


def save_targets(folder: Path, words: Sequence[str], files: Sequence[Path]) -> dict[str, Path]:
    """Return the file in which each image is saved as the model sees it. Raises UsageError, before anything is written,
    if another program's file would be overwritten, or if the next call would read the saved images."""
    folder = Path(os.path.expanduser(folder))  # noqa: PTH111
    for word in words:
        if Path(word).is_dir() and folder.resolve().is_relative_to(Path(word).resolve()):
            raise UsageError(f"--save {folder}: this is within {word}, whose images are read; name another folder")
    targets: dict[str, Path] = {}
    taken: set[str] = set()  # in lower case: some disks take A.png and a.png for one file
    for file in map(str, files):
        stem = printable(Path(file).stem)
        names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
        if file not in targets:
            name = next(name for name in names if name.casefold() not in taken)
            taken.add(name.casefold())
            targets[file] = folder / f"{name}.png"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--save {folder}: this is a file; name a folder")
    for target in targets.values():
        if os.path.lexists(target) and not is_ours(target):
            raise UsageError(f"--save {folder}: {target.name} is there already, and is not ours; name another folder")
    return targets


def is_ours(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG",)) as image:
            return not path.is_symlink() and image.info.get(MARK[0]) == MARK[1]
    except Exception:  # PIL's readers raise anything on a damaged file
        return False


def save_image(image_CHW: "torch.Tensor", path: Path) -> None:
    """Each pixel as a square, so that the image can be seen."""
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    pixels_HWC = image_CHW.permute(1, 2, 0).numpy()
    factor = max(1, -(-SAVED_SIDE // max(pixels_HWC.shape[:2])))
    enlarged = np.kron(pixels_HWC, np.ones((factor, factor, 1), np.uint8))
    mark = PngInfo()
    mark.add_text(*MARK)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(enlarged[..., 0] if enlarged.shape[2] == 1 else enlarged).save(partial, "PNG", pnginfo=mark)
        partial.replace(path)
    except OSError as error:
        raise RunError(f"{path}: can't be written ({error.strerror or error})") from error
