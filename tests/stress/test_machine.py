"""The command meets trouble with the machine: full disks, folders that can't be written, long runs.

Each run continues, or ends with one line that names the file. The files of earlier runs stay intact.
"""

import contextlib
import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dlintro.commands import hydra_call
from dlintro.commands import train as entry
from dlintro.run.restore import load_run
from dlintro.settings import conf
from tests.conftest import SMALL

Command = Callable[..., subprocess.CompletedProcess[str]]
FLAT = (*SMALL, "model=flatnet")
NOBODY = 65_534


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of a failure."""
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("dlintro: ")]
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return line


def sha_of_all(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a disk of this size, in memory."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True)
        if done.returncode:
            pytest.skip("may not mount a disk here (that takes root)")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("free", ["12k", "60k", "300k", "900k"])
def test_a_full_disk_is_one_line_and_earlier_results_are_intact(
    command: Command, disk: Callable[[str], Path], free: str
) -> None:
    """The disk is full at the first file, the first checkpoint, a later one, or when the curves are written."""
    outputs = disk("size=4m")
    assert command(*FLAT, DLINTRO_OUTPUTS=str(outputs)).returncode == 0
    before = sha_of_all(outputs)
    left = shutil.disk_usage(outputs).free - int(free.removesuffix("k")) * 1024
    (outputs / "ballast").write_bytes(bytes(left))
    long = (*FLAT, "model.hidden=[256]", "trainer.max_epochs=400", "optim.schedule=none")
    done = command(*long, DLINTRO_OUTPUTS=str(outputs))
    line = said(done)
    assert "No space left" in line or "no space left" in line, line
    assert {path: content for path, content in sha_of_all(outputs).items() if path in before} == before

    (outputs / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(outputs)], check=True)
    runs = [folder for folder in (outputs / "runs").iterdir() if (folder / "checkpoints" / "last.ckpt").is_file()]
    for folder in runs:
        load_run(folder / "checkpoints" / "last.ckpt")
        if json.loads((folder / "record.json").read_text())["status"] != "ok":
            done = command(f"resume={folder}", "trainer.max_epochs=401", DLINTRO_OUTPUTS=str(outputs))
            assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("make", ["read-only disk", "a file"])
def test_outputs_that_cant_be_written_are_one_line(
    command: Command, tmp_path: Path, disk: Callable[[str], Path], make: str
) -> None:
    outputs = disk("size=1m,ro") if make == "read-only disk" else tmp_path / "file"
    outputs.is_dir() or outputs.write_text("")
    assert str(outputs) in said(command(*FLAT, DLINTRO_OUTPUTS=str(outputs)))


def test_outputs_that_somebody_else_owns_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command runs in this process, as other users may not be allowed to start root's Python."""
    with tempfile.TemporaryDirectory(prefix="dlintro-test-") as shared:
        Path(shared).chmod(0o777)
        conf_of_all = shutil.copytree(conf.CONF, Path(shared, "conf"))  # others may not read the checkout's
        for module in (conf, hydra_call):
            monkeypatch.setattr(module, "CONF", conf_of_all)
        monkeypatch.setattr(sys, "argv", ["dlintro-train"])
        user = os.geteuid()
        for mode, status in ((0o777, 0), (0o555, 1)):
            Path(shared).chmod(mode)
            monkeypatch.setenv("DLINTRO_OUTPUTS", f"{shared}/outputs{status}")
            if user == 0 and status:
                os.seteuid(NOBODY)
            try:
                assert entry.main([*FLAT, "trainer.max_epochs=1"]) == status
            finally:
                os.seteuid(user)
        (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("dlintro: ")]
        assert f"{shared}/outputs1" in line and "Permission denied" in line
        Path(shared).chmod(0o777)


def test_the_cached_data_deleted_in_mid_run_disturbs_no_run(tmp_path: Path) -> None:
    """The data is in RAM, or in a mapped file that stays until it is closed."""
    from dlintro.data.cache import cache_folder

    cache = tmp_path / "cache"
    shutil.copytree(cache_folder() / "mnist", cache / "mnist")
    for in_ram in ("true", "false"):
        process = subprocess.Popen(
            [sys.executable, "-m", "dlintro.commands.train", "model=flatnet", "accelerator=cpu",
             f"data.in_ram={in_ram}", "trainer.max_epochs=3", "data.train_size=5000",
             f"hydra.run.dir={tmp_path}/{in_ram}"],
            env=os.environ | {"DLINTRO_DATA": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        shutil.move(cache / "mnist", tmp_path / "gone")
        shutil.rmtree(tmp_path / "gone") if in_ram == "true" else None
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        if in_ram == "true":
            shutil.copytree(cache_folder() / "mnist", cache / "mnist")


def test_two_runs_in_one_folder_are_refused(command: Command, tmp_path: Path) -> None:
    """The second command comes while the first is running, as a new run and as a resumed one."""
    words = [*FLAT, "trainer.max_epochs=100000", "optim.schedule=none", "hydra.run.dir=mine"]
    first = subprocess.Popen(
        [sys.executable, "-m", "dlintro.commands.train", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        for line in first.stdout:
            if line.startswith("epoch"):
                break
        for second in ((*FLAT, "hydra.run.dir=mine"), ("resume=mine",)):
            done = command(*second)
            assert done.returncode == 2 and "mine" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=30)
    assert first.returncode == 143
    assert json.loads((tmp_path / "mine" / "record.json").read_text())["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("moment", ["training", "evaluation"])
def test_sigterm_stops_vgg16_within_ten_seconds(tmp_path: Path, moment: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dlintro.commands.train", "model=vgg16", "data=cifar10", "accelerator=cpu", "threads=2",
         "data.train_size=5000", "data.batch_size=32", "trainer.max_epochs=3", "trainer.log_every_n_steps=1",
         "hydra.run.dir=run"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    curves = tmp_path / "run" / "metrics.csv"
    first = "\n157," if moment == "evaluation" else "\n2,"  # the epoch's last step; it was saved at the one before
    while process.poll() is None and not (curves.is_file() and first in curves.read_text()):
        time.sleep(0.1)
    time.sleep(1)
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    seconds = time.monotonic() - start
    print(f"{moment}: {seconds:.1f} s")
    assert process.returncode == 143 and seconds < 10
    with curves.open(newline="") as file:
        assert not any(row["val/acc"] for row in csv.DictReader(file)), "too late: the evaluation was over"
    assert json.loads((tmp_path / "run" / "record.json").read_text())["status"] == "interrupted"
    assert last.is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_epochs_take_no_more_memory_files_or_threads_than_twenty(tmp_path: Path) -> None:
    process = psutil.Popen(
        [sys.executable, "-m", "dlintro.commands.train", "model=flatnet", "accelerator=cpu", "data.train_size=5000",
         "trainer.max_epochs=200", "hydra.run.dir=run"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen = []
    for line in process.stdout:
        if line.startswith("epoch"):
            seen.append((process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()))
    assert process.wait() == 0 and len(seen) == 200
    # A checkpoint may be half written whenever the test looks. Leaked files would be more each later time.
    early, late = np.array(seen[15:30]).max(0), np.array(seen[170:190]).min(0)
    print("MB, files, threads: most of epochs 15 to 30, least of 170 to 190:", early, late)
    assert (late <= early + np.array([30, 0, 0])).all()


def test_the_dashboards_port_is_free_where_another_is_taken(tmp_path: Path) -> None:
    """Start scripts/tensorboard of this checkout while its usual port is taken."""
    script = Path(__file__).parents[2] / "scripts" / "tensorboard"
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "events.out.tfevents.1").touch()
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # another process has the port, which is as good
            taken.bind(("localhost", 6006))
            taken.listen()
        environment = os.environ | {"DLINTRO_OUTPUTS": str(tmp_path)}
        with subprocess.Popen([script], env=environment, stdout=subprocess.PIPE, text=True) as process:
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "ssh -L" in line:
                    break
            process.terminate()
    text = "".join(lines)
    port = text.split("http://localhost:")[1].split("/")[0]
    assert port != "6006" and f"ssh -L {port}:localhost:{port} " in text
