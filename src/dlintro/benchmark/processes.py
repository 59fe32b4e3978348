"""What takes a process of its own to measure: start-up and memory."""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from dlintro.accelerators import Device
    from dlintro.benchmark.ways import Case

ONE_STEP = ("model=flatnet", "data=mnist", "trainer.max_steps=1")
SLIPS = ("optim.lrr=0.1", "data.batch_size=many", "optim.lr=-1")  # of key, type and range


def startup_seconds() -> dict[str, float]:
    """From the start of a process: to its end for `import torch, lightning`, --help and a slip (the slowest of three
    kinds), to the end of the first training step for a training command."""
    found = {"import": seconds_of("-c", "import torch, lightning")}
    found["help"] = seconds_of("-m", "dlintro.entry", "--help")
    found["slip"] = max(seconds_of("-m", "dlintro.entry", slip) for slip in SLIPS)
    with tempfile.TemporaryDirectory() as outputs:
        seconds_of("-m", "dlintro.entry", *ONE_STEP, outputs=outputs)
        (folder,) = (Path(outputs) / "runs").iterdir()
        record = json.loads((folder / "record.json").read_text())
        header, first, *_ = ((folder / "metrics.csv").read_text()).splitlines()
        to_step = dict(zip(header.split(","), first.split(","), strict=True))["seconds"]
    return found | {"first_step": record["startup_seconds"] + float(to_step)}


def seconds_of(*words: str, outputs: str | None = None) -> float:
    environment = os.environ | ({"DLINTRO_OUTPUTS": outputs} if outputs else {})
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=False)
    return time.perf_counter() - start


def memory_bytes(way: str, case: "Case", device: "Device") -> dict[str, int]:
    """Resident bytes of a new process: after the imports, and how far they grew from there while it trained."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, way, case, device).result()


def _grow(way: str, case: "Case", device: "Device") -> dict[str, int]:
    import torch.utils.tensorboard  # noqa: F401  # imported by the first logger

    from dlintro.benchmark.ways import WAYS
    from dlintro.memory import ram_peak_bytes

    imports = psutil.Process().memory_info().rss
    WAYS[way](case, device)
    return {"imports": imports, "growth": ram_peak_bytes() - imports}
