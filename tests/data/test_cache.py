"""Only the published bytes are ever loaded, whatever happens to the cache folder."""

import contextlib
import errno
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import dlintro
from dlintro.data import fetch
from dlintro.data.official import Official
from dlintro.errors import RunError
from tests.data.conftest import Serve

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
    mnist = Official("mnist")  # the real set in the user's cache, which the server serves
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
    filled: Path,
    tiny: Path,
    serve: Serve,
    damage: Callable[[bytes], bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = filled / "train-images-idx3-ubyte"
    bad.write_bytes(damage(bad.read_bytes()))
    server = serve(tiny.parent)
    monkeypatch.setenv("DLINTRO_MIRROR", server.url)
    Official("mnist").prepare()
    assert server.asked == ["/mnist/train-images-idx3-ubyte"], "the other three were good"
    assert bad.read_bytes() == (tiny / bad.name).read_bytes()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING and str(bad) in r.getMessage()]) == 1


@pytest.fixture
def shared(cache: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A filled cache that the reader can't write to."""
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # tmp_path is closed to other users
        monkeypatch.setenv("DLINTRO_DATA", root)
        yield shutil.copytree(tiny, Path(root, "mnist"))
        Path(root, "mnist").chmod(0o755)


@contextlib.contextmanager
def may_only_read(folder: Path) -> Iterator[None]:
    """Make the folder read-only. Root may write anywhere, so the test acts as another user."""
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
        on_disk, in_ram = (Official("mnist").load(in_ram)["train"] for in_ram in (False, True))
        resized, _ = Official("mnist", image_size=8).load(in_ram=False)["train"]
    assert torch.equal(on_disk[0][:], in_ram[0]) and resized.shape == (20, 1, 8, 8)
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

    monkeypatch.setitem(fetch.FETCHERS, "the mirror", full)
    with pytest.raises(RunError, match="No space left on device"):
        Official("mnist").prepare()
