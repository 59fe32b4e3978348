"""Tests that record.json is always whole."""

import json
import os
from pathlib import Path

import pytest

from dlintro.run.record import write_json


def test_what_cant_be_written_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"status": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"status": "ok", "steps": object()})
    assert json.loads(path.read_text()) == {"status": "running"}


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"status": "running"})
    synced = []
    sync = os.fsync

    def noted_sync(file: int) -> None:
        synced.append((os.fstat(file).st_ino, os.fstat(file).st_size, json.loads(path.read_text())["status"]))
        sync(file)

    monkeypatch.setattr(os, "fsync", noted_sync)
    write_json(path, {"status": "ok", "steps": 7, "val/loss": float("nan")})
    assert synced[0] == (path.stat().st_ino, path.stat().st_size, "running")
    assert json.loads(path.read_text()) == {"status": "ok", "steps": 7, "val/loss": None}
    assert [left.name for left in tmp_path.iterdir()] == ["record.json"]
