"""Augments a whole batch on its device, with one draw per image.

The draws come from a CPU generator that is seeded with (seed, epoch, batch, rank). They are therefore the same on every
device, for any number of workers and after a resume, and there is no random state to store.
Shapes: B images, C channels, H height, W width.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

MAX_ROTATION = 15.0  # degrees
MAX_SHIFT = 0.1  # of the side, together with a rotation
CROP_PADDING = 8  # a crop moves an image by up to 1/8 of its side (4 of 32 pixels, as on CIFAR-10 since 1409.5185)
CUTOUT_SIDE = 4  # the cut-out square's side is 1/4 of the image's

Generator = torch.Generator


def crop(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Pads by an eighth of the side with black and cuts a window of the old size: a shift by whole pixels."""
    num, _, height, width = images_BCHW.shape
    pad = max(1, min(height, width) // CROP_PADDING)
    offsets_B2 = torch.randint(0, 2 * pad + 1, (num, 2), generator=generator).to(images_BCHW.device)
    rows_BH = offsets_B2[:, :1] + torch.arange(height, device=images_BCHW.device)
    columns_BW = offsets_B2[:, 1:] + torch.arange(width, device=images_BCHW.device)
    image_B = torch.arange(num, device=images_BCHW.device)
    padded = F.pad(images_BCHW, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    return padded[image_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2).contiguous()


def flip(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Mirrors every other image, on average, left to right."""
    mirrored_B = torch.rand(len(images_BCHW), generator=generator) < 0.5
    return torch.where(mirrored_B.to(images_BCHW.device)[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def rotate(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Turns by up to 15 degrees and shifts by up to a tenth of the side, bilinear, black outside."""
    draws_B3 = 2 * torch.rand(len(images_BCHW), 3, generator=generator) - 1
    angle_B = draws_B3[:, 0] * math.radians(MAX_ROTATION)
    cos_B, sin_B, shift_B2 = angle_B.cos(), angle_B.sin(), draws_B3[:, 1:] * 2 * MAX_SHIFT  # the grid spans [-1, 1]
    height, width = images_BCHW.shape[2:]
    top = torch.stack([cos_B, -sin_B * height / width, shift_B2[:, 0]], dim=1)
    bottom = torch.stack([sin_B * width / height, cos_B, shift_B2[:, 1]], dim=1)
    theta_B23 = torch.stack([top, bottom], dim=1).to(images_BCHW.device)
    grid = F.affine_grid(theta_B23, list(images_BCHW.shape), align_corners=False)
    turned = F.grid_sample(images_BCHW.float(), grid, align_corners=False)
    return turned.round_().clamp_(0, 255).to(torch.uint8)


def cutout(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Blackens one square of a quarter of the side, its centre anywhere in the image (1708.04552)."""
    num, _, height, width = images_BCHW.shape
    side = max(1, min(height, width) // CUTOUT_SIDE)
    centre_B2 = torch.rand(num, 2, generator=generator) * torch.tensor([height, width])
    first_B2 = (centre_B2.floor().long() - side // 2).to(images_BCHW.device)
    rows = torch.arange(height, device=images_BCHW.device)[None] - first_B2[:, :1]
    columns = torch.arange(width, device=images_BCHW.device)[None] - first_B2[:, 1:]
    inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]
    return images_BCHW.masked_fill(inside[:, None], 0)


AUGMENTATIONS: dict[str, Callable[[torch.Tensor, Generator], torch.Tensor]] = {
    "crop": crop,
    "flip": flip,
    "rotate": rotate,
    "cutout": cutout,
}


def augment(images_BCHW: torch.Tensor, names: Sequence[str], draw: Sequence[int]) -> torch.Tensor:
    """Apply the named augmentations in this order. `draw` identifies the batch: (seed, epoch, batch, rank)."""
    seed = 0
    for number in draw:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        images_BCHW = AUGMENTATIONS[name](images_BCHW, generator)
    return images_BCHW
