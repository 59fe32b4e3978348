"""Finds the device and the precision that accelerator= and trainer.precision= mean on this machine.

torch is imported inside the functions, so that `wrong_name` can be asked before torch is imported, which takes seconds.
The file is longer than most, because half of it finds the reason why a device can't be used.
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
_ROCM = "type accelerator=cuda, the name in PyTorch's ROCm build too"
_XPU = "training on Intel GPUs is not supported yet (scripts/devices lists them); type accelerator=cpu"
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
    "ipex": "Intel's extension ended with version 2.8 and is now part of PyTorch; type accelerator=cpu",
    "tpu": f"PyTorch itself has no TPU backend, and dlintro does not support torch_xla; {_NONE}",
    "opencl": f"PyTorch has no OpenCL backend; {_NONE}",
    "vulkan": f"PyTorch can't train on Vulkan; {_NONE}",
    "directml": f"PyTorch itself has no DirectML backend, and dlintro does not support it; {_NONE}",
    "hpu": f"PyTorch itself has no Gaudi backend, and dlintro does not support it; {_NONE}",
    "npu": f"PyTorch itself has no NPU backend, and dlintro does not support it; {_NONE}",
}


class Unavailable(UsageError):
    """A device or precision that exists, but not on this machine. A sweep counts it as a result, not as a failure."""


@dataclass(frozen=True)
class Device:
    kind: Kind  # Lightning's accelerator and torch.device's type have the same three names
    index: int
    description: str  # "NVIDIA H200, 140 GiB"


def wrong_name(name: str) -> str | None:
    """Return the message for a wrong accelerator name, or None for a right one. This works without torch."""
    if name in NAMES:
        return None
    word, _, index = name.lower().partition(":")
    if word in NAMES:
        number = f" accelerator.index={index}" if index.isdigit() else ""
        return f"accelerator={name}: type accelerator={word}{number}"
    return f"accelerator={name}: {WORDS.get(word, f'there is no such accelerator; {_NONE}')}"


def resolve(name: str, index: int | Literal["auto"] = "auto") -> Device:
    """Return the device that accelerator=name means here. Raises UsageError if there is no such name or device."""
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
    """Return the precision for Lightning. auto becomes bf16-mixed where that is faster, else 32-true."""
    if precision not in PRECISIONS:
        raise UsageError(
            f"trainer.precision={precision} is not allowed: use {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}"
        )
    if precision == "16-mixed" and device.kind == "cpu":
        raise Unavailable(
            "trainer.precision=16-mixed needs a GPU; for accelerator=cpu type trainer.precision=bf16-mixed or 32-true"
        )
    if precision == "auto":
        return "bf16-mixed" if bf16_is_faster(device.kind, device.index) else "32-true"
    return precision


def has_native_bf16(kind: Kind, index: int) -> bool:
    """Return whether bf16 is native, as emulated it is slower than float32. False for MPS, where PyTorch can't tell."""
    import torch

    if kind == "cpu":
        capabilities = torch.cpu.get_capabilities()  # "bf16" is ARM's flag
        return any(capabilities.get(flag, False) for flag in ("avx512_bf16", "amx_bf16", "bf16"))
    if kind == "cuda" and torch.version.hip:
        with torch.cuda.device(index):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return kind == "cuda" and torch.cuda.get_device_capability(index) >= (8, 0)


def bf16_is_faster(kind: Kind, index: int) -> bool:
    """Return whether bf16 is faster than float32. Intel's AVX-512 multiplies bf16 natively, but at half the speed (150
    against 269 GFLOP/s on two cores of a Xeon). AMD's does so at twice the speed, and Intel's AMX is fast too."""
    import torch

    found = torch.cpu.get_capabilities() if kind == "cpu" else {}
    slow = "Intel" in str(found.get("cpu_name")) and not found.get("amx_bf16")
    return has_native_bf16(kind, index) and not slow


def pinning_helps(device: "torch.device") -> bool:
    """Return whether a batch in page-locked memory is copied to the device while Python goes on. That is so with CUDA
    and ROCm. Apple's devices work in the RAM itself."""
    return device.type == "cuda"


def missing_kernels(index: int) -> str | None:
    """Say why this build can't compute on a CUDA device that it lists; None if it can."""
    import torch

    architectures = torch.cuda.get_arch_list()
    capability = torch.cuda.get_device_capability(index)
    # Names of AMD chips (gfx942) have no such order, so PyTorch's list is trusted there.
    if torch.version.hip or _has_code_for(capability, architectures):
        return None
    return (
        f"cuda {index} ({torch.cuda.get_device_name(index)}) has compute capability {capability[0]}.{capability[1]}, "
        f"but PyTorch {torch.__version__} has code for {' '.join(architectures)} only: install a build that has it"
    )


def _has_code_for(capability: tuple[int, int], architectures: Sequence[str]) -> bool:
    """sm_86 is machine code and runs on 8.6 up to 8.9. compute_86 is translated and runs on anything later."""
    for architecture in architectures:
        if match := re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", architecture):
            code = (int(match[2]), int(match[3]))
            if match[4] == "a":  # code for one chip only
                runs = code == capability
            else:
                runs = code <= capability and (match[1] == "compute" or code[0] == capability[0])
            if runs:
                return True
    return False


def _usable() -> dict[Kind, list[int]]:
    """Return the indices of usable devices by kind. The kind that auto prefers comes first."""
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
        # Asking makes a CUDA context on every device, so it is only done if there is a choice.
        return max(indices, key=_free_memory) if len(indices) > 1 else indices[0]
    is_number = type(index) is int  # isinstance would take True for 1
    if is_number and index in indices:
        return index
    listed = kind == "cuda" and is_number and index in range(_num_cuda_devices())
    why = (missing_kernels(index) if listed else None) or f"there is no {kind} device with this number"
    here = ", ".join(f"{i} ({_describe(kind, i)})" for i in indices)
    raise Unavailable(
        f"accelerator.index={index}: {why}; available: {here}; type accelerator.index={indices[0]} or auto"
    )


def _free_memory(index: int) -> int:
    """Return the free memory of a device. The one with the most is taken to be the least used."""
    import torch

    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:  # it is broken, or another process holds it in exclusive mode
        return -1


def _warn_of_idle_devices(usable: dict[Kind, list[int]]) -> None:
    """Warn of a GPU that auto can't use."""
    import torch

    best = next(iter(usable))
    for trouble in _cuda_troubles(usable):
        log.warning(
            "accelerator=auto takes %s, because it can't use an NVIDIA device of this machine: %s", best, trouble
        )
    if best == "cpu" and torch.xpu.is_available():
        log.warning(
            "accelerator=auto takes cpu, because training on this machine's Intel GPU (xpu) isn't supported yet"
        )


def _cuda_troubles(usable: dict[Kind, list[int]]) -> list[str]:
    """Return a line for each device that this build has no code for, or one that says why no device is found."""
    troubles = [trouble for i in range(_num_cuda_devices()) if (trouble := missing_kernels(i))]
    if not troubles and "cuda" not in usable and _nvidia_device_present():
        troubles = [_why_no_cuda()]
    return troubles


def _nvidia_device_present() -> bool:
    """Return whether there is an NVIDIA device, without asking PyTorch, whose build may be the problem. Under WSL only
    nvidia-smi can tell."""
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
        why = "PyTorch gives no reason"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return why if visible is None else f"{why} (CUDA_VISIBLE_DEVICES={visible!r} may hide it)"


def _absent(name: str, usable: dict[Kind, list[int]]) -> str:
    here = ", ".join(f"{kind} ({_describe(kind, indices[0])})" for kind, indices in usable.items())
    troubles = _cuda_troubles(usable) if name == "cuda" else []
    found = "; ".join(troubles) or f"PyTorch finds no {'NVIDIA or AMD' if name == 'cuda' else 'Apple'} GPU"
    return f"accelerator={name} isn't available ({found}); available: {here}; type accelerator={next(iter(usable))}"


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
    """Return the physical cores that this process may use: a container, taskset or a cluster may allow only some."""
    import torch

    logical = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(int(torch.cpu.get_capabilities().get("num_physical_cores") or logical), logical)
