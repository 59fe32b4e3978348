"""Tests scripts/benchmark as a user types it, and its tables."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dlintro.benchmark.figures import speed_figure
from dlintro.benchmark.tables import markdown, other_rows, speed_rows

CASE = {"model": "vgg16", "data": "cifar10", "batch_size": 128, "precision": "32-true", "flops_per_image": 1e9}
RESULT: dict[str, Any] = {
    "command": "scripts/benchmark",
    "device": "a CPU, 2 cores",
    "versions": {"torch": "2.14.1"},
    "rounds": 3,
    "startup_seconds": {"import": [2.0, 4.0, 3.0], "first_step": [3.0, 4.0, 3.3], "help": [0.2] * 3, "slip": [0.3] * 3},
    "memory_bytes": [
        {
            "model": "vgg16",
            "stack growth": [240e6, 250e6, 290e6], "bare growth": [240e6] * 3, "stack imports": [800e6] * 3,
        }
    ],
    "loader_images_per_second": {
        "loader": [900.0] * 3, "indexing": [1000.0] * 3, "index_select": [1800.0] * 3, "per image": [10.0] * 3
    },
    "vgg16 128 32-true": CASE
    | {
        "matrix_gflops": [200.0] * 3,
        "images_per_second": {
            # The second round was disturbed. A ratio of medians would still be 0.9, one of means 0.92.
            "stack training": [90.0, 45.0, 99.0], "bare training": [100.0, 45.0, 110.0],
            "plain training": [80.0] * 3, "usual training": [50.0] * 3,
            "stack inference": [300.0] * 3, "bare inference": [310.0] * 3,
            "plain inference": [200.0] * 3, "usual inference": [100.0] * 3,
        }
    },
    "vgg16 128 bf16-mixed": CASE
    | {
        "precision": "bf16-mixed",
        "matrix_gflops": [390.0, 400.0, 410.0],
        "images_per_second": {
            "stack training": [160.0] * 3, "bare training": [160.0] * 3, "plain training": [80.0] * 3,
            "stack inference": [300.0] * 3, "bare inference": [310.0] * 3, "plain inference": [200.0] * 3,
        },
    },
}  # fmt: skip


def test_the_tables_figures_are_medians_and_medians_of_ratios() -> None:
    float32, bf16 = speed_rows(RESULT, "training")
    assert float32 == ["VGG16", "128", "float32", "90", "100", "50", "0.90", "1.8"]
    assert bf16 == ["VGG16", "128", "bf16", "160", "160", "50", "1.00", "3.2"]
    rows = dict(other_rows(RESULT))
    assert rows["  beside bare indexing"] == "0.90 of images[rows], 0.50 of images.index_select(0, rows)"
    assert rows["VGG16, batch 128, bf16-mixed, to a plain float32 loop"] == "2.00 times"
    assert rows["VGG16, batch 128, bf16-mixed, of the matrix product's speed"] == "160 of 400 GFLOP/s, 40%"
    assert rows["start to the first step"] == "3.3 s, 1.10 of `import torch, lightning`"
    assert rows["memory that VGG16 takes"] == "250 MB, bare 240 MB (imports 800 MB)"


def test_the_markdown_holds_every_row_and_the_plot_every_way(tmp_path: Path) -> None:
    text = markdown(RESULT)
    for row in (*speed_rows(RESULT, "training"), *speed_rows(RESULT, "inference")):
        assert "| " + " | ".join(row) + " |" in text
    figure = speed_figure(RESULT)
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["dlintro", "bare loop", "plain float32 loop", "usual way"]
    figure.savefig(tmp_path / "plot.png")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from dlintro.benchmark.command import main; main()", *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("words", [("--slow",), ("quick",), ("accelerator=tpu",), ("model=flatnet",)])
def test_a_slip_is_one_line_and_measures_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    done = command(*words, DLINTRO_OUTPUTS=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("dlintro: ") and len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_quick_measures_all_of_it(tmp_path: Path) -> None:
    done = command("--quick", DLINTRO_OUTPUTS=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "benchmark").iterdir()
    result = json.loads((folder / "benchmark.json").read_text())
    cases = [value for value in result.values() if isinstance(value, dict) and "images_per_second" in value]
    assert {case["model"] for case in cases} == {"flatnet", "mnist_cnn", "vgg16"}
    for case in cases:
        for values in case["images_per_second"].values():
            assert len(values) == result["rounds"] and all(math.isfinite(v) and v > 0 for v in values)
    assert (folder / "benchmark.png").stat().st_size > 10_000
    assert (folder / "speed.md").read_text() == markdown(result)
    assert done.stdout.splitlines()[-1].startswith("benchmark: ")
    assert "images per second" in done.stdout and done.stderr == ""
