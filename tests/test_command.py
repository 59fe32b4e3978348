"""Tests what all commands share: the imports at a start."""

import subprocess
import sys

STARTED = """
import sys
from dlintro.command import heavy_imports

with heavy_imports():
    import lightning
assert "scipy.signal" not in sys.modules

import scipy.signal
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

assert scipy.signal.find_peaks([0, 1, 0])[0].tolist() == [1]
assert len(scipy.signal.windows.hamming(3)) == 3
sound = torch.arange(8.0)
assert scale_invariant_signal_noise_ratio(sound, sound) > 50
"""
ALREADY = """
import scipy.signal
from dlintro.command import heavy_imports

with heavy_imports():
    import torchmetrics
from scipy import signal

assert signal is scipy.signal and signal.hamming is signal.windows.hamming
"""


def test_a_start_leaves_scipys_signal_processing_for_who_needs_it() -> None:
    for program in (STARTED, ALREADY):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
