"""Tests that a job that dies, in any way, is one row of the result."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from dlintro.sweep.standing import Retry, attempts
from tests.conftest import SMALL
from tests.sweep.conftest import SLOW_NET, TINY, log_of, records, sweep_folder

Command = Callable[..., subprocess.CompletedProcess[str]]

# What the seed decides, once training has begun.
NET = """
import os, resource, signal
import torch
from torch import nn

class Misbehaves(nn.Module):
    def __init__(self, seed):
        super().__init__()
        self.seed = seed

    def forward(self, x):
        if not self.training:
            return x
        if self.seed == 1:
            raise ValueError("raised on purpose")
        if self.seed == 2:
            pages = int(open("/proc/self/statm").read().split()[0])
            limit = pages * resource.getpagesize() + 2**28
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            x = x + torch.zeros(2**30).sum()
        if self.seed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.seed == 4:
            return x * float("inf")
        if self.seed == 5:
            os.kill(os.getpid(), signal.SIGSEGV)
        return x

def make_model(shape, k):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, k), Misbehaves(torch.initial_seed()))
"""


def test_four_of_nine_jobs_survive_what_befalls_the_others(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    done = command("-m", *SMALL, "trainer.max_epochs=1", "model=file", "model.path=net.py", "seed=range(9)")
    found = {record["seed"]: (name, record) for name, record in records(tmp_path).items()}
    statuses = {seed: record["status"] for seed, (_, record) in found.items()}
    expected = {1: "failed", 2: "oom", 3: "failed", 4: "diverged", 5: "failed"}
    assert statuses == {seed: expected.get(seed, "ok") for seed in range(9)}, done.stdout
    assert done.returncode == 1 and "4 of 9 jobs failed" in done.stderr and done.stderr.count("\n") == 1

    assert "raised on purpose" in found[1][1]["error"] and "killed by signal 9" in found[3][1]["error"]
    assert "killed by signal 11" in found[5][1]["error"]
    for seed, words in (
        (1, "ValueError: raised on purpose"),
        (2, "can't allocate memory"),
        (4, "is not finite at step 1"),
    ):
        assert words in log_of(tmp_path, found[seed][0])
    assert all("Traceback" in log_of(tmp_path, found[seed][0]) for seed in (1, 2, 4))
    assert "Fatal Python error: Segmentation fault" in log_of(tmp_path, found[5][0])
    for seed in expected:  # the table of failed jobs
        assert found[seed][0] in done.stdout
    assert "Validation accuracy is " in done.stdout and "over 4 of 9 seeds, because" in done.stdout
    folder = sweep_folder(tmp_path)
    assert (folder / "report.html").is_file() and done.stdout.splitlines()[-1] == f"sweep: outputs/sweeps/{folder.name}"

    before = records(tmp_path)
    again = command(f"resume=outputs/sweeps/{folder.name}", "model.path=net.py")
    assert again.returncode == 1 and "4 of 9 jobs failed" in again.stderr and records(tmp_path) == before

    (tmp_path / "net.py").write_text(NET.replace("if not self.training", "if True"))
    repaired = command(f"resume=outputs/sweeps/{folder.name}", "model.path=net.py", "sweep.retry=failed")
    assert repaired.returncode == 2 and "net.py was edited since" in repaired.stderr


def test_the_workers_of_a_killed_job_go_with_it(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    command("-m", *SMALL, "trainer.max_epochs=1", "model=file", "model.path=net.py", "data.num_workers=2", "seed=3")
    [record] = records(tmp_path).values()
    assert "killed by signal 9" in record["error"]
    until = time.monotonic() + 20  # the jobs look every 5 s
    while left := [process for process in psutil.process_iter(["cwd"]) if process.info["cwd"] == str(tmp_path)]:
        assert time.monotonic() < until, left
        time.sleep(0.2)


@pytest.mark.slow
def test_failed_jobs_are_done_again_when_asked_to(command: Command, tmp_path: Path) -> None:
    words = ("-m", *TINY, "data.batch_size=32,64")
    assert command(*words).returncode == 0
    first, second = records(tmp_path)
    path = sweep_folder(tmp_path) / first / "record.json"
    path.write_text(path.read_text().replace('"status": "ok"', '"status": "failed"'))
    os.utime(path, (time.time() + 1e8, time.time() + 1e8))  # a file server's clock is ahead
    before = records(tmp_path)
    again = command(*words)
    assert again.returncode == 1 and records(tmp_path) == before
    again = command(f"resume={sweep_folder(tmp_path)}", "sweep.retry=failed")
    after = records(tmp_path)
    assert again.returncode == 0 and after[first]["status"] == "ok" and after[second] == before[second]
    assert before[first]["attempts"] == 1 and after[first]["attempts"] == 2
    assert "retry" not in (sweep_folder(tmp_path) / "sweep.json").read_text()  # it counts for one start only


@pytest.mark.parametrize("seconds", [-1e8, 0, 1e8])
def test_no_clock_decides_whether_a_failed_job_is_done_again(tmp_path: Path, seconds: float) -> None:
    """A file server's clock may be ahead, or the clock may have been set back since the record was written."""
    record = {"status": "failed", "attempts": 3}

    def write(**fields: object) -> None:
        (tmp_path / "record.json").write_text(json.dumps(record | fields))
        os.utime(tmp_path / "record.json", (time.time() + seconds, time.time() + seconds))

    write()
    assert attempts(tmp_path) == 3
    assert not Retry(3).leaves(tmp_path, "failed"), "as it was when this sitting began"
    assert Retry(None).leaves(tmp_path, "failed"), "not asked for, or it failed since"
    write(attempts=4)
    assert Retry(3).leaves(tmp_path, "failed"), "another runner has tried it, or this one"
    assert not Retry(3).leaves(tmp_path, "interrupted") and Retry(None).leaves(tmp_path, "ok")


def test_an_accelerator_that_is_not_here_is_a_result_in_a_sweep_and_a_mistake_alone(
    command: Command, tmp_path: Path
) -> None:

    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    words = [word for word in TINY if not word.startswith("accelerator")]
    done = command("-m", *words, f"accelerator=cpu,{missing}")
    statuses = {record["accelerator"]: record["status"] for record in records(tmp_path).values()}
    assert done.returncode == 0 and statuses == {"cpu": "ok", missing: "unavailable"}
    assert f"accelerator={missing} isn't available" in done.stdout
    assert command(*words, f"accelerator={missing}").returncode == 2


def test_a_slip_in_one_combination_stops_the_sweep_before_its_first_job(command: Command, tmp_path: Path) -> None:
    for words, said in (
        (("data.batch_size=32,64,0",), "data.batch_size=0"),
        (("model=flatnet,flatnat",), "flatnat"),
        (("optim.lr=0.1,nan",), "optim.lr=nan"),
        (("sweep=batch_sise",), "batch_sise"),
        (("sweep=models,learning_rate",), "one ready-made sweep"),
        (("sweep.name=a b",), "sweep.name=a b"),
        (("sweep.name=../..",), "sweep.name=../.."),
        (("model.hidden=[512", "seed=0,1"), "put lists in quotes"),
        (("experiment=../../x",), "by its name"),
        (("model=flatnet,vgg16",), "VGG16 needs images of"),  # only torch can tell
    ):
        done = command("-m", *TINY, *words)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
        assert not list(tmp_path.glob("outputs/sweeps/*")) and not (tmp_path / "multirun.yaml").exists()
        assert not [path for path in (tmp_path / "outputs").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_job_that_is_stopped_from_outside_is_said_and_goes_on_by_the_same_command(
    command: Command, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    stop = tmp_path / "stop"
    check = f"from pathlib import Path\nif Path({str(stop)!r}).exists():\n    raise OSError('not now')\n"
    (tmp_path / "net.py").write_text(SLOW_NET.format(seconds=0.2) + check)
    words = ("-m", *SMALL, "trainer.max_epochs=1", "model=file", "model.path=net.py", "seed=0,1")
    runner = start(*words)
    deadline = time.monotonic() + 60
    while not (found := list((tmp_path / "outputs").rglob("metrics.csv"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    jobs = [p for p in psutil.Process(runner.pid).children(recursive=True) if p.ppid() != runner.pid]
    assert len(jobs) == len(found) == 1
    time.sleep(0.5)
    jobs[0].terminate()
    output, errors = runner.communicate(timeout=60)
    assert sorted(record["status"] for record in records(tmp_path).values()) == ["interrupted", "ok"]
    assert runner.returncode == 1 and "1 of 2 jobs were stopped from outside" in errors and "interrupted" in output
    # A job that can't resume now can still resume later.
    (stopped,) = (name for name, record in records(tmp_path).items() if record["status"] == "interrupted")
    stop.touch()
    assert command(*words).returncode == 1
    stop.unlink()
    record = records(tmp_path)[stopped]
    assert record["status"] == "interrupted" and "not now" in record["error"] and record["seed"] is not None
    # A job whose checkpoint isn't one could never resume, so it starts again.
    path = sweep_folder(tmp_path) / stopped / "record.json"
    (other,) = records(tmp_path).keys() - {stopped}
    broken = sweep_folder(tmp_path) / other / "checkpoints" / "last.ckpt"
    torch.save(torch.load(path.parent / "checkpoints" / "last.ckpt", weights_only=True) | {"curves": None}, broken)
    its_record = records(tmp_path)[other] | {"status": "interrupted"}
    (sweep_folder(tmp_path) / other / "record.json").write_text(json.dumps(its_record))
    # A failed job resumes from its checkpoint, too.
    path.write_text(json.dumps(record | {"status": "failed"}))
    assert command(*words).returncode == 1
    assert records(tmp_path)[other]["status"] == "ok" and "the job starts again" in log_of(tmp_path, other)
    assert command(*words, "sweep.retry=failed").returncode == 0
    assert [record["status"] for record in records(tmp_path).values()] == ["ok", "ok"]
    assert log_of(tmp_path, stopped).count("epoch 1/1") == 1 and len([*path.parent.glob(".hydra-resume-*")]) == 2
