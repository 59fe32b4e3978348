"""A tiny substitute for MNIST, an empty cache, and the servers and archives that can fill it."""

import hashlib
import http.server
import io
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlintro.data.published import PUBLISHED, CacheFile

CLOSED_PORT = "http://127.0.0.1:9"  # nobody listens there, so connections are refused at once


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that no source can fill."""
    monkeypatch.setenv("DLINTRO_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("DLINTRO_MIRROR", CLOSED_PORT)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [CLOSED_PORT + "/"])
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", CLOSED_PORT + "/cifar-10-python.tar.gz")
    return tmp_path / "cache" / "mnist"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publish a tiny set as MNIST. Return the folder of its files, in a mirror's layout."""
    pixels, files = np.random.default_rng(0), {}
    folder = tmp_path / "origin" / "mnist"
    folder.mkdir(parents=True)
    for split, (images, labels) in PUBLISHED["mnist"].files.items():
        both = []
        for file, top in ((images, 256), (labels, 10)):
            shape = (20, *file.shape[1:])
            data = bytes(file.header) + pixels.integers(top, size=shape, dtype=np.uint8).tobytes()
            (folder / file.name).write_bytes(data)
            both.append(CacheFile(file.name, file.header, shape, hashlib.sha256(data).hexdigest()))
        files[split] = (both[0], both[1])
    monkeypatch.setitem(PUBLISHED, "mnist", replace(PUBLISHED["mnist"], files=files))
    return folder


@pytest.fixture
def filled(cache: Path, tiny: Path) -> Path:
    """A cache that holds the whole tiny set."""
    return shutil.copytree(tiny, cache)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder and notes the requests. With `html`, it answers each one with status 200 and a page."""

    daemon_threads = True

    def __init__(self, root: Path, html: bool = False) -> None:
        self.asked: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                if not html:
                    return super().do_GET()
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>Please log in to this network.</html>")

            def translate_path(self, path: str) -> str:
                return str(root / path.partition("?")[0].lstrip("/"))

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(root: Path, html: bool = False) -> Server:
        servers.append(Server(root, html))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def pack(path: Path, members: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return path
