"""Writes a sweep's folders as the launcher and its runs leave them, in milliseconds. Steps to any accuracy follow
S = S_min + E_min/B with a known critical batch size, memory grows with the batch, time falls."""

import csv
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dlintro.run.record import FIELDS

TRAIN_IMAGES = 55_000
COLUMNS = ("step", "images", "epoch", "seconds", "train/loss_step", "val/loss", "val/acc", "train_eval/acc",
           "train_seconds")  # fmt: skip
RULES = {"none": 0.4, "linear": 1.0, "sqrt": 0.7}  # B_crit under each rule, as a share of the requested one


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for key, value in dotted.items():
        *groups, name = key.split(".")
        node = root
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return root


def config(values: Mapping[str, Any]) -> dict[str, Any]:
    model = values.get("model", "flatnet")
    shape = {"model.hidden": [512]} if model == "flatnet" else {"model.widths": [32, 64, 128]}
    budget = values.get("sweep.budget")
    return {
        "seed": 0, "threads": 1, "model._target_": f"dlintro.models.{model}", "data.name": "mnist",
        "data.batch_size": 64, "optim.lr": 0.1, "optim.lr_rule": "none", "accelerator.name": "cpu",
        "trainer.precision": "32-true", "trainer.max_epochs": 2,
        "trainer.max_steps": 300 if budget == "steps" else None,
        "trainer.accumulate_grad_batches": 1, "target.metric": "val/acc", "target.value": None, "sweep.n_jobs": 1,
        "sweep.budget": budget,
    } | shape | {key: value for key, value in values.items() if key not in ("model", "data")}  # fmt: skip


def curve(batch: int, images: int, b_crit: float, ceiling: float, noise: Any) -> list[dict[str, Any]]:
    """Make readings at equal numbers of images. All batch sizes follow one curve of progress = images / (1 + B/B_crit),
    so that S and E to any accuracy obey the law with this B_crit."""
    rows = []
    for seen in np.linspace(images / 60, images, 60):
        progress = seen / (1 + batch / b_crit)
        accuracy = ceiling - 0.8 * math.exp(-((progress / 6_000) ** 0.5)) + noise.normal(0, 0.0004)
        seconds = round(seen / speed(batch), 3)
        rows.append({"step": round(seen / batch), "images": round(seen), "epoch": int(seen // TRAIN_IMAGES),
                     "seconds": 2 * seconds, "val/acc": accuracy, "val/loss": 1 - accuracy,
                     "train_eval/acc": min(1.0, accuracy + 0.01), "train_seconds": seconds})  # fmt: skip
        rows.append(rows[-1] | dict.fromkeys(COLUMNS[5:8]) | {"train/loss_step": 0.3})
    return rows


def speed(batch: int) -> float:
    return 1 / (1 / 40_000 + 1 / (700 * batch))


def write_run(folder: Path, values: Mapping[str, Any], b_crit: float = 1_000, **fields: Any) -> None:
    """Write a finished run; `fields` replace those of its record."""
    folder.mkdir(parents=True)
    leaves = config(values)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(nested(leaves)))
    batch, seed = leaves["data.batch_size"], leaves["seed"]
    noise = np.random.default_rng([batch, seed])
    images = 300 * batch if leaves["trainer.max_steps"] else 2 * TRAIN_IMAGES
    ceiling = 0.97 if values.get("model") == "mnist_cnn" else 0.94 - 0.004 * abs(math.log10(leaves["optim.lr"] / 0.1))
    rows = curve(batch, images, b_crit * RULES[leaves["optim.lr_rule"]], ceiling, noise)
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    last = rows[-2]
    test = last["val/acc"] - 0.005 + noise.normal(0, 0.001)
    record = dict.fromkeys(FIELDS) | {
        "status": "ok", "model": values.get("model", "flatnet"), "data": values.get("data", "mnist"),
        "train_images": TRAIN_IMAGES, "accelerator": leaves["accelerator.name"], "device": "Some CPU", "seed": seed,
        "precision": leaves["trainer.precision"], "batch_size": batch, "accumulate": 1, "lr": leaves["optim.lr"],
        "lr_rule": leaves["optim.lr_rule"], "steps": last["step"], "epochs": 2, "val/acc": last["val/acc"],
        "best/val/acc": last["val/acc"], "test/acc": test, "best/test/acc": test, "test/loss": 0.3,
        "val_images": 5_000, "test_images": 10_000, "classes": 10,
        "train_eval/acc": last["train_eval/acc"], "fit_seconds": last["seconds"] * 1.1,
        "train/images_per_second": speed(batch) * (1 + noise.normal(0, 0.02)),
        "ram_peak_bytes": int(6e8 + 30_000 * batch + noise.normal(0, 1e6)), "parameters": 407_050,
        "noise_scale/grad_squared": 10.0, "noise_scale/trace": 9_000 * (1 + noise.normal(0, 0.1)), "noise_scale": 900.0,
        "versions": {"python": "3.13.1", "torch": "2.14.1"}, "git": "0123456789ab", "command": "scripts/train",
        "config_hash": json.dumps(leaves, sort_keys=True), "n_jobs": 1,
    } | fields  # fmt: skip
    (folder / "record.json").write_text(json.dumps(record))


def write_sweep(
    folder: Path, params: Mapping[str, Any], b_crit: float = 1_000, changed: Mapping[int, Any] | None = None
) -> Path:
    """Write every combination of `params` as a job. `changed` has fields for a job's record by its number, or None for
    a job that never started."""
    jobs: list[dict[str, Any]] = []
    for place, combination in enumerate(itertools.product(*params.values())):
        values = dict(zip(params, combination, strict=True))
        name = f"{place:03d}-" + "-".join(str(value).replace("/", "_") for value in combination)
        jobs.append(
            {
                "name": name,
                "hash": f"{place:016x}",
                "overrides": [f"{k}={'null' if v is None else v}" for k, v in values.items()],
            }
        )
        fields = (changed or {}).get(place, {})
        if fields is not None:
            write_run(folder / name, values, b_crit, **fields)
    plan: dict[str, Any] = {"name": folder.name, "command": "scripts/train sweep=batch_size", "jobs": jobs}
    plan["created"] = "2025-01-01T12:00:00+01:00"
    (folder / "sweep.json").write_text(json.dumps(plan))
    return folder
