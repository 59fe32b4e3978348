"""The workers of a loader. On Linux they are forked even with Python 3.14, which by default uses a server process."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest

from dlintro.data.loader import go_with

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the workers start as Python has it")

# A script without a main guard, as in the README. With a server, each worker would first run it again.
SCRIPT = """
import multiprocessing
multiprocessing.set_start_method("forkserver", force=True)  # Python 3.14's default
print("begins", flush=True)
import lightning as L
from dlintro.data import ImageDataModule
from dlintro.models import FlatNet

data = ImageDataModule("synthetic", num_workers=2, batch_size=32, shape=(1, 8, 8), train_size=200)
L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False).fit(FlatNet((1, 8, 8), 10), data)
"""


def test_a_script_without_a_main_guard_may_have_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and done.stdout.count("begins") == 1, done.stdout + done.stderr


@pytest.fixture
def server_by_default() -> Iterator[None]:
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("forkserver", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


def work(parent: int | None, ready: Connection) -> None:
    """A worker that watches its parent and does nothing else. Without `parent`, that is its real parent."""
    go_with(parent or os.getppid(), 0)
    ready.send(os.getpid())
    time.sleep(3 if parent else 60)


def start_worker_and_wait(ready: Connection) -> None:
    multiprocessing.get_context("fork").Process(target=work, args=(None, ready)).start()
    time.sleep(60)


@pytest.mark.parametrize(("how", "mine", "status"), [("fork", True, 0), ("fork", False, 1), ("forkserver", True, 0)])
@pytest.mark.usefixtures("server_by_default")
def test_a_worker_that_was_adopted_before_it_began_ends(how: str, mine: bool, status: int) -> None:
    """Its parent is not the process that it was told, as if that one had been killed. This doesn't count if a server
    started the worker."""
    pipe = multiprocessing.Pipe()
    process = multiprocessing.get_context(how).Process(target=work, args=(os.getpid() if mine else 1, pipe[1]))
    process.start()
    process.join(60)
    assert process.exitcode == status


@pytest.mark.usefixtures("server_by_default")
def test_a_worker_whose_parent_is_killed_once_it_has_begun_ends() -> None:
    """It ends before PyTorch's own watchdog starts."""
    said, ready = multiprocessing.Pipe(duplex=False)
    parent = multiprocessing.get_context("fork").Process(target=start_worker_and_wait, args=(ready,))
    parent.start()
    worker = psutil.Process(said.recv())
    parent.kill()
    until = time.monotonic() + 10
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:  # its new parent may be slow to collect it
        assert time.monotonic() < until
        time.sleep(0.1)
