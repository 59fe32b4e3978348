"""scripts/devices: lists the devices of this machine that can compute, and measures their speed in under 20 s.

torch is imported inside the functions, so that --help is quick and needs no PyTorch. The file is longer than most. It
is one command, in the order list, measure, print, with one listing per backend.
"""

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.accelerators import (
    cpu_name,
    has_native_bf16,
    missing_kernels,
    num_usable_cores,
    resolve,
    resolve_precision,
)
from dlintro.command import Parser, exit_status

if TYPE_CHECKING:
    import torch

SECONDS_FOR_MEASURING = 11.0  # of the 20 s; the rest is for the import of PyTorch and for the last measurement
SECONDS_PER_MEASUREMENT = 0.1  # or five runs, if they take longer
SECONDS_PER_PRODUCT = 0.4  # matrices grow until one product takes longer
MATRIX_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # 8192 fills the largest GPU and still fits a small one's memory
COPY_BYTES = 256 * 2**20  # larger than any cache

INSTRUCTIONS = {  # PyTorch's flag -> the name people know
    "avx2": "AVX2",
    "avx512_f": "AVX-512",
    "avx512_bf16": "AVX-512 bf16",
    "amx_tile": "AMX",
    "amx_bf16": "AMX bf16",
    "neon": "NEON",
    "sve": "SVE",
    "sme": "SME",
    "bf16": "bf16",
}


@dataclass(frozen=True)
class Listed:
    """A row of the table. A figure that could not be measured is None, and `trouble` says why."""

    device: str  # PyTorch's name, such as "cpu" or "cuda:0"
    name: str
    units: dict[str, int]  # its computing units, such as {"multiprocessors": 132}
    memory_bytes: int
    free_bytes: int | None
    backend: str
    capability: str
    bf16_native: bool | None
    float32_gflops: float | None = None
    bf16_gflops: float | None = None
    copy_gb_per_s: float | None = None
    trouble: str | None = None


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: devices(sys.argv[1:] if argv is None else argv))


def devices(argv: Sequence[str]) -> int:
    what = "List the devices of this machine with their memory, backend and measured speed. Takes under 20 s."
    parser = Parser("scripts/devices", what)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    as_json = parser.parse_args(argv).json
    deadline = time.monotonic() + SECONDS_FOR_MEASURING
    load = os.getloadavg()[0]  # read before this command adds to it

    import torch

    auto = resolve("auto")
    host = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(load, 1),
        "busy": load > 0.5 * num_usable_cores(),
    }
    choice = {**asdict(auto), "precision": resolve_precision("auto", auto)}
    measured = [_measure(device, deadline) for device in list_devices()]
    if as_json:
        print(json.dumps({"host": host, "devices": [asdict(d) for d in measured], "auto": choice}, indent=2))
    else:
        _print_table(host, measured, choice)
    return 0


def list_devices() -> Iterator[Listed]:
    """Yield all devices that PyTorch sees, including those that can't train yet. Nothing is measured."""
    import torch

    yield _cpu()
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        yield _cuda(index)
    if torch.backends.mps.is_available():
        yield _mps()
    for index in range(torch.xpu.device_count() if torch.xpu.is_available() else 0):
        yield _xpu(index)


def _cpu() -> Listed:
    import torch

    memory = psutil.virtual_memory()
    config = torch.__config__.show()  # these versions are found nowhere else
    backends = []
    if torch.backends.mkldnn.is_available():
        backends.append(f"oneDNN {_first_match(r'MKL-DNN v([0-9.]+)', config)}")
    if torch.backends.mkl.is_available():
        backends.append(f"MKL {_first_match(r'Math Kernel Library Version ([0-9.]+)', config)}")
    flags = torch.cpu.get_capabilities()
    instructions = [name for flag, name in INSTRUCTIONS.items() if flags.get(flag, False)]
    return Listed(
        device="cpu",
        name=cpu_name(),
        units={
            "physical": int(psutil.cpu_count(logical=False) or 0),  # unknown in some containers
            "logical cores": int(psutil.cpu_count() or 0),
            "threads": torch.get_num_threads(),
        },
        memory_bytes=int(memory.total),
        free_bytes=int(memory.available),
        backend=", ".join(backends) or "neither oneDNN nor MKL",
        capability=", ".join(instructions) or torch.backends.cpu.get_cpu_capability(),
        bf16_native=has_native_bf16("cpu", 0),
    )


def _cuda(index: int) -> Listed:
    import torch

    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        backend, capability = f"ROCm (HIP {torch.version.hip})", str(properties.gcnArchName).split(":")[0]
    else:
        cudnn = torch.backends.cudnn.version() or 0  # 92400
        backend = f"CUDA {torch.version.cuda}, cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100}"
        capability = f"compute capability {properties.major}.{properties.minor}"
    return Listed(
        device=f"cuda:{index}",
        name=properties.name,
        units={"multiprocessors": properties.multi_processor_count},
        memory_bytes=properties.total_memory,
        free_bytes=_unless_error(lambda: int(torch.cuda.mem_get_info(index)[0])),
        backend=backend,
        capability=capability,
        bf16_native=has_native_bf16("cuda", index),
        trouble=missing_kernels(index),
    )


def _mps() -> Listed:
    import torch

    return Listed(
        device="mps:0",
        name=torch.backends.mps.get_name(),
        units={"GPU cores": torch.backends.mps.get_core_count()},
        memory_bytes=torch.mps.recommended_max_memory(),  # shared with the CPU
        free_bytes=None,
        backend=f"Metal, macOS {platform.mac_ver()[0]}",
        capability="memory shared with the CPU",
        bf16_native=None,  # PyTorch doesn't say
    )


def _xpu(index: int) -> Listed:
    import torch

    properties = torch.xpu.get_device_properties(index)
    return Listed(
        device=f"xpu:{index}",
        name=properties.name,
        units={"execution units": properties.gpu_eu_count},
        memory_bytes=properties.total_memory,
        free_bytes=_unless_error(lambda: int(torch.xpu.mem_get_info(index)[0])),
        backend=f"XPU, driver {properties.driver_version}",
        capability="training on it isn't supported yet",
        bf16_native=bool(properties.has_bfloat16_conversions),
    )


def _measure(listed: Listed, deadline: float) -> Listed:
    import torch

    if listed.trouble:
        return listed
    device = torch.device(listed.device)
    measures: dict[str, Callable[[], float]] = {
        "float32_gflops": lambda: matrix_gflops(device, torch.float32),
        "bf16_gflops": lambda: matrix_gflops(device, torch.bfloat16),
        "copy_gb_per_s": lambda: copy_gb_per_s(device, listed.free_bytes),
    }
    figures: dict[str, Any] = {}
    for key, measure in measures.items():
        if time.monotonic() > deadline:
            figures["trouble"] = "there was no time to measure everything"
            break
        try:
            figures[key] = measure()
        except (RuntimeError, TypeError) as error:  # no memory left on a shared GPU; no bf16 on an old macOS
            figures["trouble"] = f"{key}: {str(error).strip().splitlines()[0]}"
    return replace(listed, **figures)


def matrix_gflops(device: "torch.device", dtype: "torch.dtype") -> float:
    """Measure products of square matrices, 2n³ operations each. Slow devices get smaller ones, to save minutes."""
    for size in MATRIX_SIZES:
        seconds = _seconds(_product(size, device, dtype), device)
        # The fastest decides, because on a busy machine most small products wait for a core.
        if 8 * min(seconds) > SECONDS_PER_PRODUCT:  # the next size has eight times the work
            break
    return 2 * size**3 / median(seconds) / 1e9


def _product(size: int, device: "torch.device", dtype: "torch.dtype") -> Callable[[], object]:
    import torch

    a_NN, b_NN = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product_NN = torch.empty_like(a_NN)
    return lambda: torch.mm(a_NN, b_NN, out=product_NN)


def copy_gb_per_s(device: "torch.device", free_bytes: int | None) -> float:
    """Measure the copy from the host's memory to the device's, in GB/s; for the CPU, from memory to memory."""
    import torch

    num_bytes = min(COPY_BYTES, (free_bytes or COPY_BYTES * 8) // 8)
    source = torch.ones(num_bytes, dtype=torch.uint8)  # ones, as untouched pages would all be the same page of zeros
    if device.type in ("cuda", "xpu"):
        source = source.pin_memory()  # as a DataLoader with pin_memory does
    target = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    seconds = _seconds(lambda: target.copy_(source, non_blocking=True), device)
    return num_bytes / median(seconds) / 1e9


def _seconds(work: Callable[[], object], device: "torch.device") -> list[float]:
    """Time five runs or more, after one that warms up. Waits for the device each time."""
    import torch

    def wait() -> None:
        if device.type != "cpu":  # torch.accelerator raises an error if there is no accelerator
            torch.accelerator.synchronize(device)

    work()
    wait()
    seconds: list[float] = []
    while len(seconds) < 5 or sum(seconds) < SECONDS_PER_MEASUREMENT:
        start = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def _print_table(host: dict[str, Any], devices: list[Listed], choice: dict[str, Any]) -> None:
    console = Console(highlight=False)
    table = Table("device", "what it is", show_lines=True)
    for header in ("float32\nGFLOP/s", "bf16\nGFLOP/s", "copy\nGB/s"):
        table.add_column(header, justify="right")
    for d in devices:
        # Text, because a name such as "Radeon [navi 31]" would be read as markup.
        figures = map(_figure, (d.float32_gflops, d.bf16_gflops, d.copy_gb_per_s))
        table.add_row(d.device, Text(_describe(d)), *figures)
    console.print(f"Python {host['python']}, torch {host['torch']}, {host['os']}", markup=False)
    console.print(table)
    console.print(
        "GFLOP/s is the speed of matrix products; copy is from host to device, for cpu from memory to memory."
    )
    if host["busy"]:  # two other jobs on two cores gave a hundredth of the true figure
        console.print(f"Other programs are running (load {host['load']}), so the figures may be far too low.")
    # This can be typed, to fix a run to the device.
    pinned = f"accelerator={choice['kind']} accelerator.index={choice['index']} trainer.precision={choice['precision']}"
    console.print(f"auto means: {pinned}", markup=False)


def _describe(d: Listed) -> str:
    memory = f"{d.memory_bytes / 2**30:.1f} GiB"
    if d.free_bytes is not None:
        memory += f", {d.free_bytes / 2**30:.1f} free"
    bf16 = {True: "native", False: "emulated", None: "unknown whether native"}[d.bf16_native]
    units = ", ".join(f"{count or 'unknown'} {unit}" for unit, count in d.units.items())
    lines = [d.name, units, memory, d.backend, f"{d.capability}; bf16 {bf16}", d.trouble]
    return "\n".join(line for line in lines if line)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:,.{1 if value < 100 else 0}f}"


def _first_match(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else "(version unknown)"


def _unless_error(ask: Callable[[], int]) -> int | None:
    try:
        return ask()
    except RuntimeError:  # a device in exclusive mode that another process holds; an integrated Intel GPU
        return None


if __name__ == "__main__":
    sys.exit(main())
