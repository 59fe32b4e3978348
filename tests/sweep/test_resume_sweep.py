"""Tests that the same command resumes a sweep, however it was stopped, and that nothing runs twice."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import SMALL
from tests.sweep.conftest import SLOW_NET, TINY, log_of, records, sweep_folder

Command = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]
JOBS = ("-m", *SMALL, "model=file", "model.path=net.py", "trainer.max_epochs=2", "checkpoint.every_steps=1",
        "seed=range(6)")  # fmt: skip


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.05)


def statuses(tmp_path: Path) -> list[str]:
    try:
        return [record["status"] for record in records(tmp_path).values()]
    except (ValueError, FileNotFoundError):
        return []


def half_way(tmp_path: Path) -> bool:
    """Wait until some jobs are done and one has a checkpoint."""
    now = statuses(tmp_path)
    if now.count("ok") < 2 or "running" not in now:
        return False
    (running,) = [name for name, record in records(tmp_path).items() if record["status"] == "running"]
    return (sweep_folder(tmp_path) / running / "checkpoints" / "last.ckpt").is_file()


def sittings(tmp_path: Path) -> dict[str, int]:
    """Return how often each job was started or resumed."""
    folder = sweep_folder(tmp_path)
    return {
        path.name: len(list(path.glob(".hydra*")))
        for path in folder.iterdir()
        if path.is_dir() and path.name != "plots"
    }


@pytest.mark.slow
@pytest.mark.parametrize("how", ["parent", "parent and jobs", "SIGINT", "SIGTERM"])
def test_a_sweep_that_was_stopped_goes_on_where_it_was(
    command: Command, start: Start, tmp_path: Path, how: str
) -> None:
    (tmp_path / "net.py").write_text(SLOW_NET.format(seconds=0.1))  # 14 steps: 1.4 s a job
    first = start(*JOBS)
    wait_for(lambda: half_way(tmp_path))
    family = psutil.Process(first.pid).children(recursive=True)
    if how.startswith("SIG"):
        first.send_signal(signal.Signals[how])
        output, _ = first.communicate(timeout=60)
        assert first.returncode == (130 if how == "SIGINT" else 143)
        assert output.splitlines()[-1] == f"sweep: outputs/sweeps/{sweep_folder(tmp_path).name}"
        assert (sweep_folder(tmp_path) / "report.html").is_file()
        assert sorted(set(statuses(tmp_path))) == ["interrupted", "ok"]
    else:
        first.kill()
        first.wait()
        for process in family if how == "parent and jobs" else []:
            process.kill()
    finished = {name: record for name, record in records(tmp_path).items() if record["status"] == "ok"}
    assert 2 <= len(finished) < 6

    (second, third) = (start(*JOBS), start(*JOBS))  # two at once
    for runner in (second, third):
        output, errors = runner.communicate(timeout=100)
        assert runner.returncode == 0, errors
    after = records(tmp_path)
    assert len(after) == 6 and statuses(tmp_path) == ["ok"] * 6
    assert {name: after[name] for name in finished} == finished  # unchanged, so none ran again
    begun = sittings(tmp_path)
    assert all(begun[name] == 1 for name in finished)
    # Uninterrupted jobs were started once; the interrupted one was resumed once from its checkpoint.
    assert sorted(begun.values()) in ([1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 2])
    assert how == "parent" or sorted(begun.values())[-1] == 2
    assert all(log_of(tmp_path, name).count("epoch 2/2") == 1 for name in after)


@pytest.mark.slow
def test_two_runners_share_the_jobs_and_none_runs_twice(start: Start, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(SLOW_NET.format(seconds=0.02))
    runners = [start(*JOBS), start(*JOBS)]
    outputs = [runner.communicate(timeout=100) for runner in runners]
    assert [runner.returncode for runner in runners] == [0, 0], outputs
    assert statuses(tmp_path) == ["ok"] * 6 and set(sittings(tmp_path).values()) == {1}
    assert all(log_of(tmp_path, name).count("epoch 1/2") == 1 for name in records(tmp_path))


def test_the_same_command_again_does_nothing_and_more_values_add_jobs(command: Command, tmp_path: Path) -> None:
    words = ("-m", *TINY, "sweep.name=mine")
    assert command(*words, "seed=0", "data.batch_size=32,64").returncode == 0
    before = records(tmp_path)
    # The words have another order, and some keys change no result.
    again = command("data.batch_size=32,64", *words, "seed=0", "trainer.log_every_n_steps=7", "sweep.n_jobs=2")
    assert again.returncode == 0 and records(tmp_path) == before
    resumed = command("-m", "resume=outputs/sweeps/mine")
    assert resumed.returncode == 0 and records(tmp_path) == before, resumed.stderr
    assert command(*words, "data.batch_size=32,64", "seed=0,1").returncode == 0
    after = records(tmp_path)
    assert len(after) == 4 and {name: after[name] for name in before} == before

    changed = command(*words, "data.batch_size=32,64", "seed=0,1", "optim.lr=0.5")
    assert changed.returncode == 2 and "optim.lr: 0.003 -> 0.5" in changed.stderr and records(tmp_path) == after
    resumed = command("resume=outputs/sweeps/mine", "optim.lr=0.5")
    assert resumed.returncode == 2 and "optim.lr" in resumed.stderr
    resumed = command("resume=outputs/sweeps/mine")  # it is ambiguous which job is meant
    assert resumed.returncode == 2 and "seed=0,1" in resumed.stderr and records(tmp_path) == after


def test_a_received_sweep_can_bring_no_code_and_no_place_to_write(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    plan = {"name": "theirs", "command": "", "created": "", "cwd": str(tmp_path), "base": {}, "jobs": []}
    (folder / "x.yaml").write_text("# @package _global_\nhydra: {callbacks: {x: {_target_: os.mkdir, path: acted}}}")
    (tmp_path / "evil.py").write_text("open('acted', 'w')")
    words = ("model.path=evil.py", "hydra.sweep.dir=elsewhere", "hydra.callbacks.x=1", "model={path: evil.py}")
    for word in (*words, f"experiment=../../../../../../../../{folder}/x"):
        (folder / "sweep.json").write_text(json.dumps(plan | {"commands": [["model=file", word]]}))
        done = command("resume=theirs")
        assert done.returncode in (1, 2) and done.stderr.count("\n") == 1, done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.py", "theirs"]
    jobs = [{"name": "../../elsewhere", "hash": "x", "overrides": []}]
    for content in (
        "{",
        "[]",
        json.dumps(plan | {"commands": [[1]]}),
        json.dumps(plan | {"commands": [], "jobs": jobs}),
        json.dumps(plan | {"commands": []}),
        "[" * 100_000,
    ):
        (folder / "sweep.json").write_text(content)
        done = command("resume=theirs")
        assert done.returncode == 1 and "sweep.json: damaged" in done.stderr, done.stderr


def test_jobs_are_named_by_what_differs_and_can_be_used_like_runs(command: Command, tmp_path: Path) -> None:
    done = command("-m", *TINY, "data.batch_size=32,64", "seed=0,1", "optim.lr=0.01")
    assert done.returncode == 0, done.stderr
    names = [re.sub("-[0-9a-f]{8}$", "", name) for name in records(tmp_path)]
    assert names == [f"batch_size_{size}-seed_{seed}" for size in (32, 64) for seed in (0, 1)]
    assert sweep_folder(tmp_path).name.startswith("batch_size-")
    job = sweep_folder(tmp_path) / next(iter(records(tmp_path)))
    assert [path.name for path in (job / "checkpoints").iterdir()] == ["best.ckpt"]
    repeated = command(f"rerun={job}")
    assert repeated.returncode == 0, repeated.stderr
    (run,) = (tmp_path / "outputs" / "runs").iterdir()
    record, old = (json.loads((folder / "record.json").read_text()) for folder in (run, job))
    assert record["test/loss"] == old["test/loss"] and record["batch_size"] == 32


@pytest.mark.slow
def test_a_job_of_a_ready_made_sweep_can_be_repeated_alone(command: Command, tmp_path: Path) -> None:
    done = command(*SMALL, "sweep=learning_rate", "model=flatnet", "optim.lr=0.01,0.1", "seed=0")
    assert done.returncode == 0 and len(records(tmp_path)) == 2, done.stderr
    assert len(re.findall(r"^\[\d/2\]", done.stdout, re.MULTILINE)) == 2 and sweep_folder(tmp_path).name.startswith(
        "learning_rate-"
    )
    job = sweep_folder(tmp_path) / next(iter(records(tmp_path)))
    assert command(f"rerun={job}").returncode == 0
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 1 and len(records(tmp_path)) == 2
