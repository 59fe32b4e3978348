"""Tests the process that runs a sweep: slots, threads, devices, and its memory and files after many jobs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from dlintro.sweep.preflight import VISIBLE_DEVICES, only_device
from tests.sweep.conftest import TINY, records

Start = Callable[..., subprocess.Popen[str]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_jobs_leave_nothing_in_the_sweep(start: Start, tmp_path: Path) -> None:
    runner = start("-m", *TINY, "seed=range(200)", "sweep.n_jobs=2")
    process, ended = psutil.Process(runner.pid), 0
    early, late = [], []  # resident bytes, open files, threads
    assert runner.stdout is not None
    for line in runner.stdout:
        if line.startswith("["):
            ended += 1
            if ended <= 20 or 180 < ended < 200:
                held = process.memory_info().rss, process.num_fds(), process.num_threads()
                (early if ended <= 20 else late).append(held)
    assert runner.wait() == 0 and ended == 200
    assert [record["status"] for record in records(tmp_path).values()] == ["ok"] * 200
    print(f"jobs 1-20: {least_and_most(early)}\njobs 181-199: {least_and_most(late)}")
    # Each running job takes two files of the sweep, and a look may find none, one or two jobs.
    (early_rss, early_files, early_threads), (rss, files, threads) = (
        map(max, zip(*early, strict=True)),
        map(min, zip(*late, strict=True)),
    )
    assert rss - early_rss < 10e6 and files <= early_files and threads <= early_threads


def least_and_most(looks: list[tuple[int, int, int]]) -> str:
    (rss, files, threads), (most_rss, most_files, most_threads) = (
        list(map(pick, zip(*looks, strict=True))) for pick in (min, max)
    )
    return f"{rss / 1e6:.1f}-{most_rss / 1e6:.1f} MB, {files}-{most_files} files, {threads}-{most_threads} threads"


def test_threads_are_divided_between_the_jobs_at_a_time(
    command: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    from dlintro.accelerators import num_usable_cores

    words = [word for word in TINY if not word.startswith("threads")]
    done = command("-m", *words, "seed=0,1", "sweep.n_jobs=2", "data.num_workers=1")
    assert done.returncode == 0, done.stderr
    found = records(tmp_path).values()
    assert {(record["threads"], record["n_jobs"]) for record in found} == {(max(1, num_usable_cores() // 2), 2)}


@pytest.mark.parametrize(("visible", "expected"), [(None, ""), ("4,7", "7"), ("GPU-aa,GPU-bb", "GPU-bb")])
def test_a_slot_sees_one_of_the_devices_that_the_sweep_may_see(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, expected: str
) -> None:
    for name in VISIBLE_DEVICES:
        monkeypatch.delenv(name, raising=False)
    assert only_device(1) == dict.fromkeys(VISIBLE_DEVICES, "1")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert only_device(1) == {"CUDA_VISIBLE_DEVICES": expected}


def test_code_that_is_edited_meanwhile_is_not_read_by_a_later_job_and_the_script_finds_itself(tmp_path: Path) -> None:
    main = tmp_path / "main.py"
    end = "print(__file__, len(inspect.stack()))"  # as Lightning does when it loads a checkpoint
    code = "import inspect\nfrom dlintro.commands.train import main\n\nif __name__ == '__main__':\n    main()\n"
    main.write_text(f"{code}    {end}\n")
    runner = subprocess.Popen(
        [sys.executable, main, "-m", *TINY, "seed=0,1", "sweep.n_jobs=1"],
        cwd=tmp_path,
        env=os.environ | {"DLINTRO_OUTPUTS": str(tmp_path / "outputs")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None and "jobs" in runner.stdout.readline()  # the jobs are planned
    main.write_text("half an edit(")
    *_, last = runner.communicate()[0].splitlines()
    assert (runner.returncode, last) == (0, f"{main} 1")
    assert [record["status"] for record in records(tmp_path).values()] == ["ok", "ok"]
