"""Finds the weights that torchvision's authors published for a network that they trained on ImageNet.

A file is looked for in `$DLINTRO_DATA/weights` (else the user's cache folder's `weights`) and in torch hub's cache, and
is downloaded otherwise. Its name holds the first digits of its SHA-256, which are checked at every start.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from dlintro.data.cache import cache_folder, locked
from dlintro.data.download import at_mirror, download_from_any, without_secrets
from dlintro.errors import UsageError, disk_trouble, one_line
from dlintro.models.weights import Statistics

log = logging.getLogger(__name__)

NUM_CLASSES = 1000
# With these weights, torchvision's own two networks bring normalised pixels back to the range from -1 to 1 first, as a
# flag of their constructor says. Pixels that are normalised to that range at once need no flag.
TO_ONE = ("googlenet", "inception_v3")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # further outputs of these two, which are only for training


@dataclass(frozen=True)
class Published:
    """A published file of weights. `digest` is how its SHA-256 begins; `statistics` are those of its training pixels;
    `side` is that of the images that it was trained on."""

    name: str
    url: str
    digest: str
    most_bytes: int
    statistics: Statistics
    side: int

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]

    def is_at(self, path: Path) -> bool:
        return path.is_file() and sha256(path).startswith(self.digest)


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def published(network: str) -> list[Published]:
    """Return the weights of torchvision.models.NETWORK, those that torchvision recommends first."""
    from torchvision.models import get_model_weights

    kinds = get_model_weights(network)
    return [of(network, kind) for kind in sorted(kinds, key=lambda kind: kind is not kinds.DEFAULT) if is_whole(kind)]


def is_whole(kind: object) -> bool:
    """Return whether a file has all layers; one of VGG16's has no classifier."""
    return len(kind.meta["categories"] or ()) == NUM_CLASSES  # type: ignore[attr-defined]  # torchvision's WeightsEnum


def of(network: str, kind: object) -> Published:
    url, transforms = kind.url, kind.transforms()  # type: ignore[attr-defined]
    digest = re.search(r"-([0-9a-f]{8,64})\.pth$", url)
    assert digest, f"{url} has no digest in its name"
    statistics = (tuple(transforms.mean), tuple(transforms.std))
    return Published(
        name=kind.name,  # type: ignore[attr-defined]
        url=url,
        digest=digest[1],
        most_bytes=round(1.1 * 2**20 * kind.meta["_file_size"]),  # type: ignore[attr-defined]
        statistics=((0.5,) * 3, (0.5,) * 3) if network in TO_ONE else statistics,
        side=transforms.crop_size[0],
    )


def recognised(network: str, path: str | Path) -> Published | None:
    """Return which of the published files lies at `path`, whatever its name is there; None if it is another file."""
    digest = sha256(Path(path))
    return next((one for one in published(network) if digest.startswith(one.digest)), None)


def weights_folder() -> Path:
    return cache_folder() / "weights"


def find(network: str) -> tuple[Path, Published]:
    """Return the file of weights for torchvision.models.NETWORK, and what is known about it. The recommended file comes
    first, but any file that is on this machine comes before a download. Raises UsageError, which says what to put
    where, if there is none."""
    folders = (weights_folder(), Path(torch.hub.get_dir()) / "checkpoints")
    there = [(folder / one.file, one) for one in published(network) for folder in folders]
    damaged = [path for path, one in there if path.is_file() and not one.is_at(path)]
    for path in damaged:
        log.warning("%s: damaged (its SHA-256 is wrong), so it isn't used", path)
    for path, one in there:
        if path.is_file() and path not in damaged:
            log.info("model.weights=imagenet: %s (%s)", path, one.name)
            return path, one
    best = published(network)[0]
    return fetch(best), best


def fetch(wanted: Published) -> Path:
    """Download the file into the cache. If that fails, raises UsageError with the address, the place and the digest."""
    target, incoming = (weights_folder() / name for name in (wanted.file, f".{wanted.file}.incoming"))
    urls = [url for url in (at_mirror(f"weights/{wanted.file}"), wanted.url) if url]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent):  # the jobs of a sweep may want the same file
            if not wanted.is_at(target):
                megabytes, shown = wanted.most_bytes / 1.1e6, " or ".join(map(without_secrets, urls))
                log.info("model.weights=imagenet: downloading %.0f MB from %s", megabytes, shown)
                try:
                    download_from_any(urls, incoming, wanted.most_bytes, wanted.is_at)
                    incoming.replace(target)
                finally:
                    incoming.unlink(missing_ok=True)
    except Exception as error:  # urllib may fail in any way
        why = disk_trouble(error) or one_line(error)
        raise UsageError(
            f"model.weights=imagenet: {wanted.file} can't be had ({why}): get {wanted.url}, whose SHA-256 begins with "
            f"{wanted.digest}, and put it into {target.parent}"
        ) from error
    log.info("model.weights=imagenet: %s (%s)", target, wanted.name)
    return target
