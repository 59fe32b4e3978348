"""What takes a process of its own to measure: start-up and memory."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from dlintro.command import heavy_imports, set_up_logging

if TYPE_CHECKING:
    from dlintro.accelerators import Device
    from dlintro.benchmark.ways import Case

ONE_STEP = ("model=flatnet", "data=mnist", "trainer.max_steps=1")
SLIPS = ("optim.lrr=0.1", "data.batch_size=many", "optim.lr=-1")  # of key, type and range


def startup_seconds(kind: str) -> dict[str, float]:
    """From the start of a process: until `import torch, lightning` is done, to the end for --help and a slip (the
    slowest of three kinds), until the first training step is done and logged for a training command."""
    found = {"import": seconds_of("-c", "import torch, lightning, os; os._exit(0)")}
    found["help"] = seconds_of("-m", "dlintro.commands.train", "--help")
    found["slip"] = max(seconds_of("-m", "dlintro.commands.train", slip) for slip in SLIPS)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tempfile.TemporaryDirectory() as outputs:
        start = time.time()
        seconds_of("-m", "dlintro.commands.train", *ONE_STEP, f"accelerator={kind}", outputs=outputs)
        (folder,) = (Path(outputs) / "runs").iterdir()
        events = EventAccumulator(str(folder)).Reload()
        found["first_step"] = events.Scalars("train/images_per_second")[0].wall_time - start
    return found


def seconds_of(*words: str, outputs: str | None = None) -> float:
    environment = os.environ | ({"DLINTRO_OUTPUTS": outputs} if outputs else {})
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], env=environment, capture_output=True, check=False)
    return time.perf_counter() - start


def memory_bytes(way: str, case: "Case", device: "Device") -> dict[str, float]:
    """Resident bytes of a new process: after the imports, and how far they grew from there while it trained."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, way, asdict(case), device).result()


def _grow(way: str, case: dict[str, Any], device: "Device") -> dict[str, float]:
    # `case` as plain values: a Case would bring the imports with it before the first line here
    set_up_logging()  # this and the next as in scripts/train
    with heavy_imports():
        import torch.utils.tensorboard  # noqa: F401  # imported by the first logger

        from dlintro.benchmark.ways import WAYS, Case
        from dlintro.memory import ram_peak_bytes

    imports = psutil.Process().memory_info().rss
    WAYS[way](Case(**case), device)
    return {"imports": imports, "growth": ram_peak_bytes() - imports}
