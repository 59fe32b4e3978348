"""Test-time augmentation: the mean logits of several views of an image, for a test apart from the usual one.

Shapes: B images, C channels, H height, W width, K classes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from dlintro.errors import UsageError


def shifted(pixels_BCHW: torch.Tensor) -> list[torch.Tensor]:
    """Return the images moved by a pixel along their diagonal, both ways. The border is padded with the reflection."""
    padded_BCHW = F.pad(pixels_BCHW, (1, 1, 1, 1), mode="reflect")
    return [padded_BCHW[:, :, :-2, :-2], padded_BCHW[:, :, 2:, 2:]]


class Views(nn.Module):
    """Gives the mean logits (B, K) of views of the normalised pixels (B, C, H, W): the image itself, with `flip` its
    mirror image, with `shift` two shifts by a pixel, with `flip+shift` all six. Raises UsageError for images of
    `image_shape` (C, H, W) that can't be shifted."""

    def __init__(self, network: nn.Module, names: str, image_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names.split("+")
        if "shift" in self.names and min(image_shape[1:]) < 2:
            raise UsageError(f"--views={names}: images of {image_shape[1]}x{image_shape[2]} pixels can't be shifted")

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        views = [pixels_BCHW]
        if "flip" in self.names:
            views += [pixels_BCHW.flip(3)]
        if "shift" in self.names:
            views += [view for before in list(views) for view in shifted(before)]
        # A network may rely on the memory format, as one that calls x.view(len(x), -1) does.
        logits = [self.network(torch.empty_like(pixels_BCHW).copy_(view)).float() for view in views]
        return torch.stack(logits).mean(0)
