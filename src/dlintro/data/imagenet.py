"""Reads ImageNet (ILSVRC 2012) from the folders that everybody keeps it in, without a copy."""

import hashlib
import shlex
from collections import Counter
from pathlib import Path

import torch

from dlintro.data.cache import cache_folder
from dlintro.data.encoded import ImageFiles
from dlintro.data.layout import Listing, class_files, refuse_empty_class, shared_classes, within
from dlintro.data.source import Facts, Split
from dlintro.errors import UsageError
from dlintro.text import printable

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # those of torchvision's weights, of the training images


class ImageNet:
    """The images DIR/train/WNID/*.JPEG and, as the test set, DIR/val/WNID/*.JPEG, as ImageNet's own has no labels.

    An image is decoded each time it is used. Its shorter side is resized to 256 and the middle 224 x 224 is cut out, or
    in proportion for another `image_size`. Without `path`, DIR is the folder imagenet in $DLINTRO_DATA. A part of the
    images, or another set in these folders, will do. Raises UsageError for another layout.
    """

    names = ("imagenet",)

    def __init__(self, path: str | Path | None = None, image_size: int = 224) -> None:
        self.root = cache_folder() / "imagenet" if path is None else Path(path).expanduser().absolute()
        folders = {"train": self.root / "train", "test": self.root / "val"}
        if missing := [folder for folder in folders.values() if not folder.is_dir()]:
            raise UsageError(
                f"data=imagenet: there is no folder {printable(missing[0])}; put the images into train/WNID/*.JPEG and "
                f"val/WNID/*.JPEG in {printable(self.root)}, or type data.path=DIR for the folder above train and val. "
                f"{how_to_unpack(self.root)}"
            )
        wnids, skipped = shared_classes(folders), Counter[str]()
        self.files = {split: class_files(folder, wnids, skipped) for split, folder in folders.items()}
        refuse_empty_class(Listing(wnids, self.files, folders, skipped))
        self.facts = Facts(
            name="imagenet",
            image_shape=(3, image_size, image_size),
            class_names=named(wnids),
            sizes={split: len(labelled) for split, labelled in self.files.items()},
            mean=MEAN,
            std=STD,
            on_disk=True,
            encoded=True,
            fingerprint=self._fingerprint(),
        )

    def _fingerprint(self) -> str:
        """Hash the names and the sizes of the files (SHA-256). To read 150 GB at each start would take too long."""
        listed = sorted((within(self.root, p), p.stat().st_size) for some in self.files.values() for p, _ in some)
        return hashlib.sha256(repr(listed).encode(errors="backslashreplace")).hexdigest()

    def prepare(self) -> None:
        """Do nothing: the images are already on this machine."""

    def load(self, in_ram: bool) -> dict[str, Split]:
        assert not in_ram, "the data module refuses it"
        return {
            split: (
                ImageFiles([path for path, _ in labelled], self.facts.image_shape),
                torch.tensor([label for _, label in labelled]),
            )
            for split, labelled in self.files.items()
        }


def how_to_unpack(folder: Path) -> str:
    """Say what unpacks the archives of image-net.org, as a command if they lie in this folder."""
    if not (folder / "ILSVRC2012_img_train.tar").is_file():
        return "torchvision.datasets.ImageNet(DIR, split) unpacks the archives of image-net.org that way"
    unpack = "from torchvision.datasets import ImageNet; ImageNet('.', 'train'); ImageNet('.', 'val')"
    return f'This unpacks its archives: (cd {shlex.quote(str(folder))} && python -c "{unpack}")'


def named(wnids: list[str]) -> tuple[str, ...]:
    """Return "n01440764 tench" and so on for the 1000 classes of ImageNet, and the folders' names for others."""
    if len(wnids) != 1000 or wnids[0] != "n01440764":
        return tuple(wnids)
    from torchvision.models import VGG16_Weights

    return tuple(f"{wnid} {name}" for wnid, name in zip(wnids, VGG16_Weights.DEFAULT.meta["categories"], strict=True))
