"""Measures memory in new processes, because what this process has held must not count."""

import multiprocessing
import os
import platform
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from dlintro.accelerators import resolve
from dlintro.benchmark.processes import memory_bytes
from dlintro.benchmark.ways import Case

GIB = 2**30
PAGE_FAULTS = """
import resource, sys, torch
from dlintro.memory import keep_freed_memory
if "keep" in sys.argv:
    keep_freed_memory()
def faults():
    for _ in range(10):
        activations = [torch.empty(2**20).fill_(0) for _ in range(40)]  # 4 MiB each: 1,024 pages
        del activations
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
first = faults()
print(first, faults() - first)
"""


def output(*words: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", *words], capture_output=True, check=True, text=True, env=os.environ | environment
    ).stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is the one that gives pages back")
def test_freed_memory_is_used_again_without_page_faults() -> None:
    """The heap may shrink or not by chance, as one small block at its end holds it. So this test asks for each block
    from the system, a setting that dlintro's own must override."""
    fresh = {"MALLOC_MMAP_THRESHOLD_": "131072"}
    first, given_back = map(int, output(PAGE_FAULTS, **fresh).split())
    if first == 0:
        pytest.skip("this kernel counts no page faults")
    kept = int(output(PAGE_FAULTS, "keep", **fresh).split()[1])
    assert given_back > 20 * max(1, kept)


def test_the_peak_is_of_this_process_and_not_of_the_one_that_started_it() -> None:
    ballast = b"\1" * (2 * GIB)
    peak = int(output("from dlintro.memory import ram_peak_bytes; print(ram_peak_bytes())"))
    assert 50e6 < peak < len(ballast)


def peak_of(num_bytes: int) -> int:
    from dlintro.memory import ram_peak_bytes

    before, ballast = ram_peak_bytes(), b"\1" * num_bytes
    del ballast
    return ram_peak_bytes() - before


def test_the_peak_counts_what_was_freed_meanwhile() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(peak_of, GIB // 2).result() > 0.9 * GIB / 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_takes_no_more_than_the_bare_loop_and_a_larger_set_no_more_than_its_bytes() -> None:
    """Cats and dogs are a fifth of CIFAR-10, in the same file."""
    device = resolve("cpu", "auto")

    def growth(data: str, way: str) -> float:
        """Return the median of three, because the heap's small tensors lie at random places, 20 MB apart and more."""
        case = Case("flatnet", data, 64, "32-true", steps=100, warmup=50, test_images=2_000)
        grown = sorted(memory_bytes(way, case, device)["growth"] for _ in range(3))
        print(data, way, [f"{num_bytes / 1e6:.1f} MB" for num_bytes in grown])
        return grown[1]

    stack = growth("cifar10", "stack")
    assert stack <= growth("cifar10", "bare") + 50e6
    added = 48_000 * 3 * 32 * 32
    assert stack - growth("cats_dogs", "stack") <= added + 16e6
