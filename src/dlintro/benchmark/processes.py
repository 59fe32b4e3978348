"""Measures start-up and memory, each in a new process."""

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
SLIPS = ("optim.lrr=0.1", "data.batch_size=many", "optim.lr=-1")  # a wrong key, a wrong type, an illegal value


def startup_seconds(kind: str) -> dict[str, float]:
    """Return the seconds from the start of a process until `import torch, lightning` is done, until --help and a wrong
    command end (the slowest of three), and until a training command has logged its first step."""
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
    """Return the resident bytes of a new process after its imports, and their growth while it trains."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, way, asdict(case), device).result()


def _grow(way: str, case: dict[str, Any], device: "Device") -> dict[str, float]:
    # `case` is a plain dict: unpickling a Case would import everything before this line
    set_up_logging()  # this and the next line do what scripts/train does
    with heavy_imports():
        import torch.utils.tensorboard  # noqa: F401  # the first logger would import it

        from dlintro.benchmark.ways import WAYS, Case
        from dlintro.memory import ram_peak_bytes

    imports = psutil.Process().memory_info().rss
    WAYS[way](Case(**case), device)
    return {"imports": imports, "growth": ram_peak_bytes() - imports}
