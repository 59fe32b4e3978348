"""How much memory this process and its accelerator have held or have free, and that freed memory is used again."""

import ctypes
import resource
import sys
from pathlib import Path

import psutil
import torch

# glibc's malloc.h. Blocks of MMAP_THRESHOLD bytes or more (32 MiB is the most that glibc takes) come from the system
# each time; free memory at the end of the heap goes back to it once there are TRIM_THRESHOLD bytes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD, TRIM_THRESHOLD = 32 * 2**20, 2**28


def keep_freed_memory() -> None:
    """A training step frees the activations that the next one allocates. With glibc's own settings they go back to the
    system in between, which then hands out zeroed pages one fault at a time: a fifth of the MNIST CNN's float32
    step."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def ram_peak_bytes() -> int:
    """The largest resident size of this process so far."""
    if sys.platform == "linux":  # its ru_maxrss begins at the size of the process that started this one
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def device_peak_bytes(device: torch.device) -> int | None:
    """The most memory the accelerator has held for this process; None where the run was on the CPU."""
    return torch.accelerator.max_memory_allocated() if on_accelerator(device) else None


def device_free_bytes(device: torch.device) -> int:
    """Free memory of an accelerator, for all processes; where its backend can't say, what is free of the RAM (which is
    Apple's device memory)."""
    try:
        return torch.accelerator.get_memory_info(device)[0]
    except RuntimeError:  # NotImplementedError is one
        return int(psutil.virtual_memory().available)


def on_accelerator(device: torch.device) -> bool:
    """Whether a run on this device is on the accelerator that PyTorch has here, if any."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator is not None and device.type == accelerator.type
