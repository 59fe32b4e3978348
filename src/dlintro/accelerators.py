"""The words after accelerator= and trainer.precision=: what they mean on this machine, and what to type instead.

torch is imported inside the functions: the entry point asks `wrong_name` before it spends seconds on importing torch.
Longer than most files here: the half of it is finding the reason when a device can't be used, told in one line.
"""

import logging
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dlintro.errors import UsageError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Kind = Literal["cpu", "cuda", "mps"]

NAMES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")

_CUDA_OR_MPS = "type accelerator=cuda (NVIDIA, AMD) or accelerator=mps (Apple)"
_ROCM = "type accelerator=cuda (PyTorch's ROCm build answers to that name)"
_XPU = "Intel GPUs are not supported for training yet, scripts/devices lists them; type accelerator=cpu"
_NONE = "type accelerator=auto, cpu, cuda or mps"

WORDS = {
    "gpu": _CUDA_OR_MPS,
    "nvidia": "type accelerator=cuda",
    "rocm": _ROCM,
    "hip": _ROCM,
    "amd": _ROCM,
    "metal": "type accelerator=mps (PyTorch's name for Apple's Metal)",
    "apple": "type accelerator=mps (PyTorch's name for Apple's Metal)",
    "xpu": _XPU,
    "intel": _XPU,
    "ipex": "Intel's extension ended after 2.8 and went into stock PyTorch; type accelerator=cpu",
    "tpu": f"PyTorch itself has no TPU backend (torch_xla is apart) and dlintro does not support it; {_NONE}",
    "opencl": f"PyTorch has no OpenCL backend; {_NONE}",
    "vulkan": f"PyTorch can't train on Vulkan; {_NONE}",
    "directml": f"PyTorch itself has no DirectML backend and dlintro does not support it; {_NONE}",
    "hpu": f"PyTorch itself has no Gaudi backend and dlintro does not support it; {_NONE}",
    "npu": f"PyTorch itself has no NPU backend and dlintro does not support it; {_NONE}",
}


class Unavailable(UsageError):
    """A device or precision that exists, but not on this machine: in a sweep a result, alone a mistake."""


@dataclass(frozen=True)
class Device:
    kind: Kind  # Lightning's accelerator and torch.device's type have the same three names
    index: int
    description: str  # "NVIDIA H200, 140 GiB"


def wrong_name(name: str) -> str | None:
    """The one line for an accelerator that isn't ours, None for one that is. Works without torch."""
    if name in NAMES:
        return None
    word, _, index = name.lower().partition(":")
    if word in NAMES:
        number = f" accelerator.index={index}" if index.isdigit() else ""
        return f"accelerator={name}: type accelerator={word}{number}"
    return f"accelerator={name}: {WORDS.get(word, f'there is no such accelerator; {_NONE}')}"


def resolve(name: str, index: int | Literal["auto"] = "auto") -> Device:
    """The device that accelerator=name means here. UsageError says in one line what isn't here and what to type."""
    if message := wrong_name(name):
        raise UsageError(message)
    usable = _usable()
    if name == "auto":
        _warn_of_idle_devices(usable)
        kind = next(iter(usable))
    elif name in usable:
        kind = name
    else:
        raise Unavailable(_absent(name, usable))
    chosen = _choose(kind, index, usable[kind])
    return Device(kind, chosen, _describe(kind, chosen))


def resolve_precision(precision: str, device: Device) -> str:
    """Lightning's precision: auto becomes bf16-mixed where that is faster, else 32-true."""
    if precision not in PRECISIONS:
        raise UsageError(
            f"trainer.precision={precision}: type trainer.precision={', '.join(PRECISIONS[:-1])} or 16-mixed"
        )
    if precision == "16-mixed" and device.kind == "cpu":
        raise Unavailable(
            "trainer.precision=16-mixed needs a GPU; for accelerator=cpu type trainer.precision=bf16-mixed or 32-true"
        )
    if precision == "auto":
        return "bf16-mixed" if bf16_is_faster(device.kind, device.index) else "32-true"
    return precision


def has_native_bf16(kind: Kind, index: int) -> bool:
    """Emulated bf16 is correct but slower than float32. MPS counts as no: PyTorch does not tell which chips have it."""
    import torch

    if kind == "cpu":
        capabilities = torch.cpu.get_capabilities()  # "bf16" is ARM's flag
        return any(capabilities.get(flag, False) for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    if kind == "cuda" and torch.version.hip:
        with torch.cuda.device(index):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cuda" and torch.cuda.get_device_capability(index) >= (8, 0)


def bf16_is_faster(kind: Kind, index: int) -> bool:
    """Than float32. Intel's AVX-512 multiplies bf16 itself, at half the speed (150 against 269 GFLOP/s on two cores of
    a Xeon), AMD's at twice the speed; what Intel made for it is AMX."""
    import torch

    found = torch.cpu.get_capabilities() if kind == "cpu" else {}
    slow = "Intel" in str(found.get("cpu_name")) and not found.get("amx_bf16")
    return has_native_bf16(kind, index) and not slow


def pinning_helps(device: "torch.device") -> bool:
    """Whether a batch in page-locked memory crosses to the device while Python goes on: with CUDA and ROCm. Apple's
    devices work in the RAM itself."""
    return device.type == "cuda"


def missing_kernels(index: int) -> str | None:
    """Why this build can't compute on a CUDA device that it does list, or None: then it can."""
    import torch

    architectures = torch.cuda.get_arch_list()
    capability = torch.cuda.get_device_capability(index)
    # Names of AMD chips (gfx942) have no such order; there PyTorch's word is taken.
    if torch.version.hip or _has_code_for(capability, architectures):
        return None
    return (
        f"cuda {index} ({torch.cuda.get_device_name(index)}) has compute capability {capability[0]}.{capability[1]}, "
        f"PyTorch {torch.__version__} has code for {' '.join(architectures)} only: install a PyTorch build that has it"
    )


def _has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """sm_86 is machine code: same major version, minor 6 or later. compute_86 is translated on anything later."""
    for architecture in architectures:
        if match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture):
            code = (int(match[2]), int(match[3]))
            if match[4] == "a":  # code for this one chip
                runs = code == capability
            else:
                runs = code <= capability and (match[1] == "compute" or code[0] == capability[0])
            if runs:
                return True
    return False


def _usable() -> dict[Kind, list[int]]:
    """Indices by kind, the kind that auto prefers first."""
    import torch

    usable: dict[Kind, list[int]] = {}
    if cuda := [i for i in range(_num_cuda_devices()) if missing_kernels(i) is None]:
        usable["cuda"] = cuda
    if torch.backends.mps.is_available():
        usable["mps"] = [0]
    return usable | {"cpu": [0]}


def _num_cuda_devices() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _choose(kind: Kind, index: int | Literal["auto"], indices: list[int]) -> int:
    if index == "auto":
        # The question costs a CUDA context on every device asked: it is only put where there is a choice.
        return max(indices, key=_free_memory) if len(indices) > 1 else indices[0]
    is_number = type(index) is int  # isinstance would take True for 1
    if is_number and index in indices:
        return index
    listed = kind == "cuda" and is_number and index in range(_num_cuda_devices())
    why = (missing_kernels(index) if listed else None) or f"there is no such {kind} device"
    here = ", ".join(f"{i} ({_describe(kind, i)})" for i in indices)
    raise Unavailable(f"accelerator.index={index}: {why}; here: {here}; type accelerator.index={indices[0]} or auto")


def _free_memory(index: int) -> int:
    """The least used device is taken to be the one with the most free memory."""
    import torch

    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:  # held by another process in exclusive mode, or broken: any other one is better
        return -1


def _warn_of_idle_devices(usable: dict[Kind, list[int]]) -> None:
    """auto never falls back in silence."""
    import torch

    best = next(iter(usable))
    for trouble in _cuda_troubles(usable):
        log.warning("accelerator=auto takes %s although an NVIDIA device is here that it can't use: %s", best, trouble)
    if best == "cpu" and torch.xpu.is_available():
        log.warning(
            "accelerator=auto takes cpu although an Intel GPU (xpu) is here: training on it isn't supported yet"
        )


def _cuda_troubles(usable: dict[Kind, list[int]]) -> list[str]:
    """One line for each listed device without code for it, or one on why none is listed on an NVIDIA machine."""
    troubles = [trouble for i in range(_num_cuda_devices()) if (trouble := missing_kernels(i))]
    if not troubles and "cuda" not in usable and _nvidia_device_present():
        troubles = [_why_no_cuda()]
    return troubles


def _nvidia_device_present() -> bool:
    """Asked without PyTorch, whose build may be the problem. nvidia-smi alone answers under WSL."""
    gpus = Path("/proc/driver/nvidia/gpus")
    if Path("/dev/nvidia0").exists() or (gpus.is_dir() and any(gpus.iterdir())):
        return True
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], check=False, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and "GPU" in answer.stdout


def _why_no_cuda() -> str:
    import torch

    if torch.version.cuda is None:
        build = "ROCm (AMD)" if torch.version.hip else "CPU-only"
        return f"PyTorch {torch.__version__} is a {build} build: reinstall with DLINTRO_TORCH=cuda"
    try:
        torch.cuda.init()
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # "The NVIDIA driver on your system is too old (found version 12020)"
        why = str(error).strip().split(". ")[0].splitlines()[0]
    else:
        why = "PyTorch does not say why"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return why if visible is None else f"{why} (CUDA_VISIBLE_DEVICES={visible!r} may hide it)"


def _absent(name: str, usable: dict[Kind, list[int]]) -> str:
    here = ", ".join(f"{kind} ({_describe(kind, indices[0])})" for kind, indices in usable.items())
    troubles = _cuda_troubles(usable) if name == "cuda" else []
    found = "; ".join(troubles) or f"PyTorch finds no {'NVIDIA or AMD' if name == 'cuda' else 'Apple'} GPU"
    return f"accelerator={name} isn't here ({found}); here: {here}; type accelerator={next(iter(usable))}"


def _describe(kind: Kind, index: int) -> str:
    import torch

    if kind == "cpu":
        num_cores = num_usable_cores()
        return f"{cpu_name()}, {num_cores} core{'s' * (num_cores > 1)}"
    if kind == "mps":
        return f"{torch.backends.mps.get_name()}, {torch.mps.recommended_max_memory() / 2**30:.0f} GiB"
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def cpu_name() -> str:
    import torch

    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine())


def num_usable_cores() -> int:
    """Physical cores, or fewer where this process is confined to some (a container, taskset, a cluster's job)."""
    import torch

    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(torch.cpu.get_capabilities().get("num_physical_cores") or logical), logical)
