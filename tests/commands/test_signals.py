"""Ctrl-C and SIGTERM at any moment of a start, and standard streams that nobody reads: no traceback, nothing left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL

ENTRY = [sys.executable, "-m", "dlintro.commands.train"]
LONG = (*SMALL, "model=flatnet", "trainer.max_epochs=100000", "optim.schedule=none")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long training, just started from a terminal: a shell has what it starts in the background ignore Ctrl-C."""
    environment = os.environ | {"DLINTRO_OUTPUTS": str(tmp_path / "outputs")}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*ENTRY, *LONG], cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def wait_for(process: subprocess.Popen[str], mapped: str) -> None:
    """Until the process has loaded a library: the machine's load decides when that is."""
    while process.poll() is None and mapped not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.005)


def leaves_nothing(process: subprocess.Popen[str], folder: Path, signum: int) -> None:
    process.send_signal(signum)
    out, said = process.communicate(timeout=60)
    status = process.returncode
    if status == -signal.SIGINT:  # Python ends so where Ctrl-C came within an exec(), as a dataclass is made by:
        status = 128 + signal.SIGINT  # the same to a shell
    assert status == 128 + signum, said
    records = list(folder.rglob("record.json"))  # it had begun by then: interrupted as any run
    assert (said, bool(out)) == ("", bool(records))
    assert records or not list(folder.rglob("outputs/runs/*"))
    assert all(json.loads(path.read_text())["status"] == "interrupted" for path in records)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc, to see what a process has loaded")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("library", ["_yaml", "libtorch_cpu", "libtorch_python"])
def test_a_signal_while_libraries_load_leaves_nothing(
    library: str, signum: int, started: subprocess.Popen[str], tmp_path: Path
) -> None:
    wait_for(started, library)
    leaves_nothing(started, tmp_path, signum)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc, to see what a process has loaded")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("library", ["_yaml", "libtorch_python"])
@pytest.mark.parametrize("seconds", [0.02, 0.08, 0.3, 0.9, 2.0])
def test_a_signal_at_any_moment_leaves_nothing(
    seconds: float, library: str, signum: int, started: subprocess.Popen[str], tmp_path: Path
) -> None:
    wait_for(started, library)
    time.sleep(seconds)
    leaves_nothing(started, tmp_path, signum)


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`train` in the line is the command."""
    environment = os.environ | {"DLINTRO_OUTPUTS": str(folder / "outputs")}
    script = f'train() {{ "{sys.executable}" -m dlintro.commands.train "$@"; }}\n{line}'
    return subprocess.run(
        ["bash", "-c", script, "bash", *SMALL, "model=flatnet", "trainer.max_epochs=2"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "status", "last"),
    [
        ('train "$@" >&- 2>&-', 0, ""),
        ('train -m seed=0,1 "$@" >&- 2>&-', 0, ""),
        ('train "$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}', 0, ""),
        ('train "$@" >/dev/full', 1, "dlintro: standard output: No space left on device"),
        ("train --help | head -1; exit ${PIPESTATUS[0]}", 0, ""),
        ("train --help >&-", 0, ""),
        ("train optim.lr=-1 >&- 2>&-", 2, ""),
        ("train optim.lr=-1 2>/dev/full", 2, ""),
    ],
)
def test_a_command_that_nobody_listens_to_ends_as_any_other(line: str, status: int, last: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert (done.returncode, done.stderr.strip()) == (status, last)
    if '"$@"' in line:
        for record in (found := list(tmp_path.rglob("record.json"))):
            assert json.loads(record.read_text())["status"] == "ok"
            assert (record.parent / "train.log").stat().st_size < 5_000, "no traceback"
        assert len(found) == (2 if "-m" in line else 1)
