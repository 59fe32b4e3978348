"""The cache of published files. Each file is verified at every start; a new one is renamed into place as a whole."""

import errno
import hashlib
import logging
import os
import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

import filelock
import platformdirs

from dlintro.data.fetch import FETCHERS, NotHere
from dlintro.data.published import CacheFile, Published
from dlintro.errors import RunError, one_line

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    return Path(os.environ.get("DLINTRO_DATA") or platformdirs.user_cache_dir("dlintro")).expanduser().absolute()


def problem_with(file: CacheFile, folder: Path) -> str | None:
    """Say what is wrong with the copy in `folder`; None if it is the published file, byte for byte."""
    path = folder / file.name
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        return "is not an ordinary file"
    try:
        with path.open("rb") as stream:
            num_bytes = os.fstat(stream.fileno()).st_size
            if num_bytes != file.num_bytes:
                page = " and is a web page (from a proxy or a login?)" if stream.read(100).lstrip()[:1] == b"<" else ""
                return f"has {num_bytes} bytes instead of {file.num_bytes}{page}"
            good = hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return None if good else "has a wrong SHA-256"


def wrong_files(data: Published, folder: Path) -> dict[CacheFile, str]:
    """Return the files in `folder` that can't be used, and what is wrong with each."""
    return {file: problem for both in data.files.values() for file in both if (problem := problem_with(file, folder))}


def fill_cache(data: Published, folder: Path) -> None:
    """Get the files that `folder` lacks from the first source that has them. Raises RunError if none has."""
    wrong = wrong_files(data, folder)
    if not wrong:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        file, problem = next(iter(wrong.items()))
        raise RunError(
            f"{folder / file.name} {problem} and can't be replaced here ({error.strerror}): set DLINTRO_DATA to a "
            f"folder that you can write to, or have {data.by_hand} put into {folder}"
        ) from None
    with locked(folder):
        wrong = wrong_files(data, folder)  # another process may have filled the cache while this one waited
        for file, problem in wrong.items():
            if problem != "is missing":
                log.warning("%s %s, so it is fetched again", folder / file.name, problem)
        incoming = folder / ".incoming"
        shutil.rmtree(incoming, ignore_errors=True)  # a killed process may have left one
        try:
            incoming.mkdir(exist_ok=True)
            missing = _try_sources(data, list(wrong), incoming)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
    if missing:
        raise RunError(
            f"{data.name}: no source could deliver it (the log gives the reasons); put {data.by_hand} into {folder}, "
            f"or set DLINTRO_DATA to a folder whose {data.name}/ has them"
        )


def locked(folder: Path) -> AbstractContextManager[object]:
    """Lock the folder for writing, after any other process that fills it."""
    lock = filelock.FileLock(folder / ".lock")
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        log.info("waiting for another process that is filling %s", folder)
        return lock.acquire()


def _try_sources(data: Published, wanted: list[CacheFile], incoming: Path) -> list[CacheFile]:
    """Move verified files from `incoming` into the cache, and return those that no source had."""
    for source, get in FETCHERS.items():
        if not wanted:
            break
        try:
            get(data, wanted, incoming)
        except NotHere as reason:
            log.debug("%s: %s: %s", data.name, source, reason)
        # A source may fail in any way (network, npm, archives, pictures): log the reason and try the next one.
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RunError(f"{incoming.parent}: {error.strerror}; set DLINTRO_DATA to another folder") from None
            log.warning("%s: %s: %s", data.name, source, one_line(error))
        for file in list(wanted):
            problem = problem_with(file, incoming)
            if problem is None:  # no fsync: the next start verifies it, and so notices damage by a power cut
                (incoming / file.name).replace(incoming.parent / file.name)
                wanted.remove(file)
            elif problem != "is missing":
                log.warning("%s: the %s from %s %s", data.name, file.name, source, problem)
                (incoming / file.name).unlink()  # else the next source would be blamed for it
    return wanted
