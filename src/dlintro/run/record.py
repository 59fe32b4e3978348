"""record.json tells what a run was and what it achieved. It is written when the training starts, replaced when the run
ends, and always whole."""

import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dlintro import reader
from dlintro.errors import UsageError
from dlintro.settings.limits import brief
from dlintro.version import VERSION

FIELDS = (
    "status", "error", "model", "data", "classes", "train_images", "statistics", "greys",
    "accelerator", "device", "precision", "batch_size", "accumulate",
    "seed", "lr", "lr_rule", "optimizer", "schedule", "epochs", "steps", "ended_by", "threads",
    "train/loss", "train/acc", "train_eval/loss", "train_eval/acc", "val/loss", "val/acc", "test/loss", "test/acc",
    "best/epoch", "best/val/acc", "best/test/loss", "best/test/acc", "val_images", "test_images",
    "fit_seconds", "startup_seconds", "train/images_per_second", "ram_peak_bytes", "device_peak_bytes",
    "target/metric", "target/value", "steps_to_target", "images_to_target", "seconds_to_target",
    "noise_scale", "noise_scale/trace", "noise_scale/grad_squared", "n_jobs",
    "parameters", "diverged_step", "versions", "git", "command", "config_hash", "attempts",
    "begun_by", "images_fingerprint", "code_fingerprint", "differences", "started",
)  # fmt: skip
WHOLE_RUN = "whole_run/"  # before a field's name in TensorBoard, whose charts of one dot should come last
TEXTS = (
    "error", "model", "data", "accelerator", "device", "precision", "lr_rule", "optimizer", "schedule",
    "target/metric", "git", "command", "config_hash", "statistics", "greys", "ended_by", "begun_by",
    "images_fingerprint", "code_fingerprint", "started",
)  # fmt: skip
COUNTS = (
    "classes", "train_images", "batch_size", "accumulate", "seed", "epochs", "steps", "threads", "best/epoch",
    "val_images", "test_images", "ram_peak_bytes", "device_peak_bytes", "n_jobs", "parameters", "diverged_step",
    "attempts",
)  # fmt: skip
STATUSES = ("running", "ok", "failed", "oom", "diverged", "interrupted", "unavailable", "pruned")
PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "tensorboard", "torchmetrics")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the file atomically, by renaming. Infinities and NaN become null, because JSON doesn't have them."""
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in content.items()}
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(finite, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of the run in `folder`. Raises UsageError if it has none, RunError if it is damaged."""
    path = folder / "record.json"
    if not os.path.lexists(path):
        what = "it has no record.json"
        if (folder / "sweep.json").is_file():
            job = next((path.parent.name for path in sorted(folder.glob("*/record.json"))), "JOB")
            what = f"but a sweep; name one of its jobs, such as {folder.name}/{job}"
        raise UsageError(f"{folder}: this is not a run folder, {what}")
    record = reader.read_json(path)
    if not isinstance(record, dict):
        raise reader.damaged(path, "not a record")
    for name, value in record.items():
        if not is_legal(name, value):
            raise reader.damaged(path, f"{name} is {brief(value)}")
    if "status" not in record:
        raise reader.damaged(path, "it has no status")
    return record


def is_legal(name: str, value: Any) -> bool:
    """Return whether a run may have written this value of a field. Unknown fields may be a later version's."""
    if name == "status":
        return value in STATUSES
    if value is None or name not in FIELDS:
        return True
    if name == "versions":
        return isinstance(value, dict) and all(isinstance(version, str) for version in value.values())
    if name == "differences":
        return isinstance(value, list) and all(isinstance(sentence, str) for sentence in value)
    if name in TEXTS:
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    if name in COUNTS:
        return isinstance(value, int) and 0 <= value < 2**63
    return name.startswith("noise_scale") or 0 <= value <= (1 if name.endswith("/acc") else reader.LARGEST)


class Record:
    """The record of the run in `folder`. It holds the folder's lock until `release`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fields: dict[str, Any] = dict.fromkeys(FIELDS)
        self.written = False  # by this process
        # A singleton, because a sweep's job already holds its folder's lock before it looks into the folder.
        self._lock = FileLock(folder / ".lock", is_singleton=True)

    def claim(self) -> bool:
        """Take the folder's lock for the rest of this process's life. Returns False if another process has it."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def start(self, at_once: bool = True, **fields: Any) -> None:
        """Claim the folder and fill in the fields. Without `at_once`, the next `write` saves them."""
        if not self.claim():
            raise UsageError(f"{self.folder}: another process is running this run")
        started = datetime.now().astimezone().isoformat(timespec="milliseconds")
        self.update(status="running", versions=versions(), git=git_commit(), started=started, **fields)
        if at_once:
            self.write()

    def update(self, **fields: Any) -> None:
        if unknown := fields.keys() - self.fields.keys():
            raise AssertionError(f"not fields of a record: {sorted(unknown)}")
        self.fields |= fields

    def write(self) -> None:
        write_json(self.folder / "record.json", self.fields)
        self.written = True

    def finish(self, status: str, error: str | None = None) -> None:
        self.update(status=status, error=error)
        self.write()
        self.release()

    def release(self) -> None:
        self._lock.release(force=True)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "dlintro": VERSION}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def versions_of(record: Mapping[str, Any]) -> list[str]:
    """Return the version of dlintro that a run began with and, if a later one resumed it, the one it ended with."""
    told = record.get("versions")
    found = (record.get("begun_by"), told.get("dlintro") if isinstance(told, dict) else None)
    return [version for version in found if isinstance(version, str)]


def made_by(record: Mapping[str, Any]) -> str | None:
    """Return the version of dlintro that a run began with, or None if its record doesn't tell."""
    return next(iter(versions_of(record)), None)


def git_commit() -> str | None:
    """Return the commit of dlintro's own checkout, with a + if files were changed, or None outside a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():  # git would find any repository around an installed package
        return None
    try:
        said = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
