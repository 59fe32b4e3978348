"""The first layer of every model. It normalises uint8 pixels, so whoever loads a model needs no preprocessing."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from dlintro.errors import UsageError


class Pixels(nn.Module):
    """Normalises uint8 (B, C, H, W) to (B, C, H', W'): the training pixels get mean 0 and standard deviation 1. The
    result has the weights' precision (float32 under mixed precision).

    `mean` and `std` are per channel, for pixels scaled to [0, 1]. They are buffers, so checkpoints store them. Images
    smaller than `min_side` are padded evenly with black. Raises UsageError for images that aren't uint8.
    """

    mean_C11: torch.Tensor
    std_C11: torch.Tensor

    def __init__(self, image_shape: Sequence[int], min_side: int = 1) -> None:
        super().__init__()
        channels, height, width = image_shape
        tall, wide = max(0, min_side - height), max(0, min_side - width)
        self.padding = (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2)
        self.register_buffer("mean_C11", torch.full((channels, 1, 1), 0.5))
        self.register_buffer("std_C11", torch.full((channels, 1, 1), 0.5))

    def set_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean_C11.copy_(torch.tensor(mean).view(-1, 1, 1))
        self.std_C11.copy_(torch.tensor(std).view(-1, 1, 1))

    def forward(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        if images_BCHW.dtype != torch.uint8:
            raise UsageError(
                f"the images are {str(images_BCHW.dtype).removeprefix('torch.')}: a model takes uint8 pixels from 0 to "
                f"255 and scales them itself; for pixels in [0, 1], pass (255 * images).round().to(torch.uint8)"
            )
        if any(self.padding):
            images_BCHW = F.pad(images_BCHW, self.padding)
        weights = self.mean_C11.dtype
        precise = torch.promote_types(weights, torch.float32)  # float16 and bfloat16 are too coarse for this arithmetic
        return images_BCHW.to(precise).div_(255).sub_(self.mean_C11).div_(self.std_C11).to(weights)
