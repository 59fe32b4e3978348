"""Measures the memory of this process and its accelerator, and makes malloc reuse freed memory."""

import ctypes
import resource
import sys
from pathlib import Path

import psutil
import torch

# From glibc's malloc.h. Blocks of MMAP_THRESHOLD bytes or more (glibc takes 32 MiB at most) come from the system each
# time. Free memory at the end of the heap goes back to the system once it has TRIM_THRESHOLD bytes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD, TRIM_THRESHOLD = 32 * 2**20, 2**28


def keep_freed_memory() -> None:
    """Make glibc keep the activations that a training step frees, as the next step allocates them again. By default
    glibc returns them to the system, which then hands out zeroed pages one fault at a time. That takes a fifth of the
    MNIST CNN's float32 step."""
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def ram_peak_bytes() -> int:
    """Return the largest resident size that this process has had."""
    if sys.platform == "linux":  # ru_maxrss starts at the size of the parent process there
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB


def device_peak_bytes(device: torch.device) -> int | None:
    """Return the most memory that the accelerator has held for this process; None for a run on the CPU."""
    return torch.accelerator.max_memory_allocated() if on_accelerator(device) else None


def device_free_bytes(device: torch.device) -> int:
    """Return the free memory of an accelerator, for all processes. If its backend can't tell, as Apple's, whose device
    memory is the RAM, return the free RAM."""
    try:
        return torch.accelerator.get_memory_info(device)[0]
    except RuntimeError:  # NotImplementedError is one
        return int(psutil.virtual_memory().available)


def on_accelerator(device: torch.device) -> bool:
    """Return whether the device is the accelerator that PyTorch finds on this machine, if any."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator is not None and device.type == accelerator.type
