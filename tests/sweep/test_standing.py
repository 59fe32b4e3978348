"""Tests that the lock and the record tell every process who works in a run folder."""

from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from dlintro.errors import UsageError
from dlintro.run.record import Record, read_record, write_json
from dlintro.sweep.standing import Retry, end_record, is_locked, standing


@pytest.fixture
def others(tmp_path: Path) -> FileLock:
    """Make the lock as another process has it, which isn't the singleton that a Record holds."""
    return FileLock(tmp_path / ".lock")


def test_a_run_has_one_process_and_its_lock_goes_with_it(tmp_path: Path, others: FileLock) -> None:
    with others, pytest.raises(UsageError, match="another process is running this run"):
        Record(tmp_path).start(seed=0)
    assert not (tmp_path / "record.json").exists()
    record = Record(tmp_path)
    record.start(seed=0)
    with pytest.raises(Timeout):
        others.acquire(timeout=0)
    assert is_locked(tmp_path) and standing(tmp_path) == "running"
    record.finish("ok")
    others.acquire(timeout=0)
    others.release()
    assert not is_locked(tmp_path) and standing(tmp_path) == "ok"


def test_a_run_without_its_process_was_interrupted(tmp_path: Path, others: FileLock) -> None:
    assert standing(tmp_path) == "queued"
    write_json(tmp_path / "record.json", {"status": "running"})
    assert standing(tmp_path) == "interrupted"
    with others:
        assert standing(tmp_path) == "running"
        assert standing(tmp_path, ours=True) == "interrupted"
    assert standing(tmp_path) == "interrupted"


def test_a_job_is_ended_for_a_process_that_died_and_not_for_one_at_work(tmp_path: Path, others: FileLock) -> None:
    write_json(tmp_path / "record.json", {"status": "running", "seed": 3})
    with others:
        assert not end_record(tmp_path, "failed", "killed", attempt=2)
    assert read_record(tmp_path)["status"] == "running"
    assert end_record(tmp_path, "failed", "killed", attempt=2)
    found = read_record(tmp_path)
    assert (found["status"], found["error"], found["seed"], found["attempts"]) == ("failed", "killed", 3, 2)


@pytest.mark.parametrize("status", ["failed", "oom"])
def test_a_failed_job_is_done_again_once_where_it_is_asked_for(tmp_path: Path, status: str) -> None:
    write_json(tmp_path / "record.json", {"status": status, "attempts": 1})
    assert Retry(None).leaves(tmp_path, status)
    assert not Retry(1).leaves(tmp_path, status)
    for result in ("ok", "diverged", "unavailable"):
        assert Retry(1).leaves(tmp_path, result)
    write_json(tmp_path / "record.json", {"status": status, "attempts": 2})
    assert Retry(1).leaves(tmp_path, status), "it failed again, since"
    assert not Retry(1).leaves(tmp_path, "interrupted")
