"""Averages a network's answers to several views of an image, for a test apart from the usual one.

Shapes: B images, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


def with_mirrored(views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [*views, *(view.flip(3) for view in views)]


def with_shifted(views: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Add each image moved by a pixel along its diagonal, both ways. What moves in is mirrored."""
    padded = [F.pad(view, (1, 1, 1, 1), mode="reflect") for view in views]
    return [*views, *(view[:, :, :-2, :-2] for view in padded), *(view[:, :, 2:, 2:] for view in padded)]


VIEWS = {"flip": with_mirrored, "shift": with_shifted}


class Views(nn.Module):
    """Gives the mean logits (B, K) of all views of the normalised pixels (B, C, H, W): with `flip` the image and its
    mirror image, with `shift` the image and two shifts, with both the six combinations."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        views = [pixels_BCHW]
        for name in self.names:
            views = VIEWS[name](views)
        return torch.stack([self.network(view) for view in views]).mean(0)
