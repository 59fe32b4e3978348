"""Downloads with limits: every wait has a time-out, and no more bytes are taken than the file can have."""

import base64
import errno
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from dlintro.errors import one_line
from dlintro.terminal import Field, Live, time_left

TIMEOUT_S = 10  # for an answer; a host that drops packets would otherwise hold a run for ever
PATIENCE_S = 20  # for which a download may be slower than LEAST_RATE
LEAST_RATE = 5_000  # bytes a second
LONGEST_S = 3600  # per file, however fast it is
CHUNK = 1 << 16


class Transfer(threading.Thread):
    """Downloads into the file `part`, beside `target`, and stops soon after `most` bytes: its size then shows that the
    file is too long. It runs in a thread because one byte every two seconds stays within every time-out of a socket, in
    the headers as well as between the parts of the body. It is a daemon, so that no process waits for it."""

    def __init__(self, request: urllib.request.Request, target: Path, most: int) -> None:
        super().__init__(daemon=True)
        self.request, self.most = request, most
        self.part = target.with_name(f"{target.name}.{id(self)}")  # an abandoned transfer may still write to its own
        self.num_bytes = 0
        self.error: Exception | None = None
        self.ended, self.given_up = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            with urllib.request.urlopen(self.request, timeout=TIMEOUT_S) as answer:
                if self.given_up.is_set():
                    return
                with self.part.open("wb") as file:
                    self._copy(answer, file)
        except Exception as error:  # download() raises it again
            self.error = error
        finally:
            self.ended.set()

    def _copy(self, answer: Any, file: BinaryIO) -> None:
        while not self.given_up.is_set() and self.num_bytes <= self.most and (chunk := answer.read1(CHUNK)):
            file.write(chunk)
            self.num_bytes += len(chunk)


def download(url: str, target: Path, most: int) -> None:
    """Download `url` to `target`, at most a little more than `most` bytes. Raises what urllib raises, and TimeoutError
    if the download is too slow."""
    transfer = Transfer(request(url), target, most)
    transfer.start()
    began = since = time.monotonic()
    before = 0
    try:
        with Live() as live:
            while not transfer.ended.wait(0.2):
                now = time.monotonic()
                megabytes = f"{transfer.num_bytes / 1e6:,.1f}/{most / 1e6:,.1f} MB"
                share = transfer.num_bytes / most
                fields = [Field(f"fetching {target.name}", megabytes, 0), time_left(now - began, share)]
                live.show_fields(fields, share)
                if now - began > LONGEST_S:
                    raise TimeoutError(f"timed out: not done in {LONGEST_S} s")
                if now - since > PATIENCE_S:
                    if transfer.num_bytes - before < LEAST_RATE * PATIENCE_S:
                        raise TimeoutError(f"timed out: under {LEAST_RATE:,} bytes a second for {PATIENCE_S} s")
                    since, before = now, transfer.num_bytes
        if transfer.error is not None:
            raise transfer.error
        transfer.part.replace(target)
    finally:
        transfer.given_up.set()
        transfer.part.unlink(missing_ok=True)


def download_from_any(urls: Sequence[str], target: Path, most: int, is_right: Callable[[Path], bool]) -> None:
    """Download from the first address that has the right file. Raises ConnectionError, which says why each has failed,
    or OSError if the disk is full."""
    reasons = []
    for url in urls:
        why = "the file is corrupted or a different one"
        try:
            download(url, target, most)
            if is_right(target):
                return
        except Exception as error:  # the next one may work
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            why = one_line(error)
        reasons.append(f"{without_secrets(url)}: {why}")
    raise ConnectionError("; ".join(reasons))


def at_mirror(path: str) -> str:
    """Return the address of a file on your own server, $DLINTRO_MIRROR, which has a copy of a filled cache folder; ""
    without such a server."""
    address, question, secret = os.environ.get("DLINTRO_MIRROR", "").partition("?")
    return f"{address.rstrip('/')}/{path}{question}{secret}" if address else ""


def request(url: str) -> urllib.request.Request:
    """Make a request. A name and password go into a header, which no message shows and no other host receives."""
    parts = split(url)
    asked = urllib.request.Request(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    if "@" in parts.netloc:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        asked.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return asked


def without_secrets(url: str) -> str:
    """Return the URL as a message may show it: without the password and without the part after the question mark."""
    parts = split(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def split(url: str) -> SplitResult:
    """Split a URL. Raises ValueError, whose message hides the URL, if a sign in the password ends the host's name."""
    try:
        parts = urlsplit(url)
        if any(character <= " " or character == "\x7f" for character in url):
            raise ValueError
        parts.port  # noqa: B018  # raises ValueError if it isn't a number
    except ValueError:
        raise ValueError("not a valid address; in a password, type / ? # @ as %2F %3F %23 %40") from None
    return parts
