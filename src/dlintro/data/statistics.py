"""Computes the mean and the standard deviation of the training pixels, by which a model normalises.

Shapes: N images in the set, B in a batch, C channels, H height, W width.
"""

import math
from typing import Any

import torch

from dlintro.terminal import track

# These texts say which images `mean` and `std` come from. They are stored in records.
PUBLISHED_STATISTICS = "published constants, of all training images, those kept for validation included"
OWN_STATISTICS = "the training images, without those kept for validation"
PIXELS_AT_ONCE = 4096 * 32 * 32  # are counted together, so that large images take no more memory than small ones

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel


def channel_statistics(images_NCHW: Any, rows: torch.Tensor, at_once: int = PIXELS_AT_ONCE) -> Statistics:
    """Return each channel's mean and standard deviation over the images `rows`, for pixels in [0, 1]. Integer sums make
    them exact."""
    histogram_C256 = torch.zeros(images_NCHW.shape[1], 256, dtype=torch.int64)
    num = max(1, at_once // math.prod(images_NCHW.shape[1:]))
    for part in track(rows.split(num), "mean and spread of the pixels"):
        histogram_C256 += histogram(images_NCHW[part])
    return mean_and_std(histogram_C256)


def histogram(images_BCHW: torch.Tensor) -> torch.Tensor:
    """Count the pixels of each value in each channel: int64 (C, 256)."""
    counts = [torch.bincount(channel.flatten(), minlength=256) for channel in images_BCHW.unbind(1)]
    return torch.stack(counts)


def mean_and_std(histogram_C256: torch.Tensor) -> Statistics:
    """Return each channel's mean and standard deviation, for pixels in [0, 1]."""
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = histogram_C256.double() / histogram_C256.sum(1, keepdim=True)
    mean_C = weights @ values
    std_C = (weights @ values.square() - mean_C.square()).clamp_min(0).sqrt()
    return tuple(round(m, 8) for m in mean_C.tolist()), tuple(max(round(s, 8), 1e-3) for s in std_C.tolist())
