"""Downloads that end: nothing is waited for without a limit, and no more is taken than a file can have."""

import base64
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from dlintro.terminal import Field, Live, time_left

TIMEOUT_S = 10  # without an answer; a host that swallows packets would hold a run for ever
PATIENCE_S = 20  # so long a download may be slower than LEAST_RATE
LEAST_RATE = 5_000  # bytes a second
LONGEST_S = 3600  # of one file, at any rate
CHUNK = 1 << 16


class Transfer(threading.Thread):
    """Fetches `request` into the file `part`, beside `target`, and ends soon after `most` bytes: a longer file is found
    out by its size. In a thread, as one byte in two seconds comes within every time-out that a socket has: in an
    answer's headers, in the lines between its parts. A daemon, as no process waits for it to end."""

    def __init__(self, request: urllib.request.Request, target: Path, most: int) -> None:
        super().__init__(daemon=True)
        self.request, self.most = request, most
        self.part = target.with_name(f"{target.name}.{id(self)}")  # its own: one given up may still write
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
        except Exception as error:  # whatever it is, it is raised where the file was asked for
            self.error = error
        finally:
            self.ended.set()

    def _copy(self, answer: Any, file: BinaryIO) -> None:
        while not self.given_up.is_set() and self.num_bytes <= self.most and (chunk := answer.read1(CHUNK)):
            file.write(chunk)
            self.num_bytes += len(chunk)


def download(url: str, target: Path, most: int) -> None:
    """The file at `url`, little more than `most` bytes of it. Raises what urllib raises, and TimeoutError where it
    comes too slowly."""
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


def request(url: str) -> urllib.request.Request:
    """A name and a password in the URL go into a header, which no message shows and no other host is sent."""
    parts = split(url)
    asked = urllib.request.Request(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])))
    if "@" in parts.netloc:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        asked.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    return asked


def without_secrets(url: str) -> str:
    """As a message may show it: without a password, and without what follows a question mark."""
    parts = split(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def split(url: str) -> SplitResult:
    """ValueError, which doesn't show it, for an address whose password ends the host's name."""
    try:
        parts = urlsplit(url)
        if any(character <= " " or character == "\x7f" for character in url):
            raise ValueError
        parts.port  # noqa: B018  # a ValueError where it is no number
    except ValueError:
        raise ValueError("no address; in a password / ? # @ are typed %2F %3F %23 %40") from None
    return parts
