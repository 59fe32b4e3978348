"""Augments a whole batch on its device, with one draw per image.

The draws come from a CPU generator that is seeded with (seed, epoch, batch, rank). They are therefore the same on every
device, for any number of workers and after a resume, and there is no random state to store.
Shapes: B images, C channels, H height, W width; T tries to place a rectangle.
"""

import functools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

MAX_ROTATION = 15.0  # degrees
MAX_SHIFT = 0.1  # of the side, together with a rotation
MAX_ZOOM = 0.1  # affine enlarges by up to a tenth, and shrinks as much
REFLECTED_SHIFT = 16  # a shift moves an image by up to 1/16 of its side (2 of 32 pixels, as in 2404.00498)
ELASTIC_SHIFT = 0.04  # of the side: the standard deviation of a pixel's displacement (1.1 of 28 pixels)
ELASTIC_SMOOTHNESS = 0.18  # of the side: the Gaussian's standard deviation (5 of 28 pixels, as in 1003.0358)
CROP_PADDING = 8  # a crop moves an image by up to 1/8 of its side (4 of 32 pixels, as on CIFAR-10 since 1409.5185)
CUTOUT_SIDE = 4  # the cut-out square's side is 1/4 of the image's
ERASED_SHARE, ERASED_AREA, ERASED_RATIO = 0.5, (0.02, 0.33), (0.3, 3.3)  # torchvision's RandomErasing, from 1708.04896
ERASING_TRIES = 10
CROPPED_AREA, CROPPED_RATIO, CROP_TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10  # torchvision's RandomResizedCrop
MAGNITUDES = 31  # of each TrivialAugment operation

Generator = torch.Generator


def crop(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Pads by an eighth of the side with black and cuts a window of the old size: a shift by whole pixels."""
    pad = max(1, min(images_BCHW.shape[2:]) // CROP_PADDING)
    return _window(F.pad(images_BCHW, (pad, pad, pad, pad)), pad, generator)


def shift(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Shifts by up to a sixteenth of the side, by whole pixels. The border is padded with the image's reflection."""
    pad = max(1, min(images_BCHW.shape[2:]) // REFLECTED_SHIFT)
    rows, columns = (_mirrored(side, pad, images_BCHW.device) for side in images_BCHW.shape[2:])
    return _window(images_BCHW[:, :, rows[:, None], columns], pad, generator)


def _mirrored(side: int, pad: int, device: torch.device) -> torch.Tensor:
    """Return the indices of `side` pixels, continued by `pad` mirrored ones at both ends; the last isn't repeated."""
    indices = torch.arange(-pad, side + pad, device=device)
    return (side - 1) - ((side - 1) - indices.abs()).abs()


def _window(padded_BCHW: torch.Tensor, pad: int, generator: Generator) -> torch.Tensor:
    """Cut a window at random from each image. The windows are smaller by `pad` at each of the four sides."""
    num, device = len(padded_BCHW), padded_BCHW.device
    height, width = (side - 2 * pad for side in padded_BCHW.shape[2:])
    offsets_B2 = torch.randint(0, 2 * pad + 1, (num, 2), generator=generator).to(device)
    rows_BH = offsets_B2[:, :1] + torch.arange(height, device=device)
    columns_BW = offsets_B2[:, 1:] + torch.arange(width, device=device)
    image_B = torch.arange(num, device=device)
    padded_BHWC = padded_BCHW.permute(0, 2, 3, 1)
    windows_BHWC = padded_BHWC[image_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]
    return windows_BHWC.permute(0, 3, 1, 2).contiguous()


def flip(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Mirrors every other image, on average, left to right."""
    mirrored_B = torch.rand(len(images_BCHW), generator=generator) < 0.5
    return torch.where(mirrored_B.to(images_BCHW.device)[:, None, None, None], images_BCHW.flip(3), images_BCHW)


def rotate(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Turns by up to 15 degrees and shifts by up to a tenth of the side, bilinear, black outside."""
    draws_B3 = 2 * torch.rand(len(images_BCHW), 3, generator=generator) - 1
    return _turned(images_BCHW, draws_B3, torch.ones(len(images_BCHW)))


def affine(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Turns and shifts as `rotate` does, and enlarges or shrinks by up to a tenth."""
    draws_B4 = 2 * torch.rand(len(images_BCHW), 4, generator=generator) - 1
    return _turned(images_BCHW, draws_B4[:, :3], 1 + MAX_ZOOM * draws_B4[:, 3])


def _turned(images_BCHW: torch.Tensor, draws_B3: torch.Tensor, zoom_B: torch.Tensor) -> torch.Tensor:
    """Turn and shift by the draws from [-1, 1], and enlarge by `zoom_B`."""
    angle_B = draws_B3[:, 0] * math.radians(MAX_ROTATION)
    cos_B, sin_B = angle_B.cos() / zoom_B, angle_B.sin() / zoom_B
    shift_B2 = draws_B3[:, 1:] * 2 * MAX_SHIFT / zoom_B[:, None]  # the grid spans [-1, 1]
    height, width = images_BCHW.shape[2:]
    top = torch.stack([cos_B, -sin_B * height / width, shift_B2[:, 0]], dim=1)
    bottom = torch.stack([sin_B * width / height, cos_B, shift_B2[:, 1]], dim=1)
    theta_B23 = torch.stack([top, bottom], dim=1).to(images_BCHW.device)
    return _sampled(images_BCHW, F.affine_grid(theta_B23, list(images_BCHW.shape), align_corners=False))


def elastic(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Moves each pixel by a smooth random field, as handwriting varies (Simard, Steinkraus and Platt 2003)."""
    num, _, height, width = images_BCHW.shape
    noise_B2HW = torch.randn(num, 2, height, width, generator=generator).to(images_BCHW.device)
    rows_HH, columns_WW = (_smoothing(side).to(images_BCHW.device) for side in (height, width))
    field_BHW2 = (rows_HH @ noise_B2HW @ columns_WW.T).permute(0, 2, 3, 1) * 2 * ELASTIC_SHIFT
    still = torch.eye(2, 3, device=images_BCHW.device).expand(num, 2, 3)
    return _sampled(images_BCHW, F.affine_grid(still, list(images_BCHW.shape), align_corners=False) + field_BHW2)


def _smoothing(side: int) -> torch.Tensor:
    """Return the matrix that blurs `side` values by a Gaussian. Independent values of variance 1 keep this variance."""
    place = torch.arange(side)
    weights = torch.exp(-0.5 * ((place[:, None] - place) / (ELASTIC_SMOOTHNESS * side)) ** 2)
    return weights / weights.square().sum(1, keepdim=True).sqrt()


def _sampled(images_BCHW: torch.Tensor, grid_BHW2: torch.Tensor, outside: str = "zeros") -> torch.Tensor:
    sampled = F.grid_sample(images_BCHW.float(), grid_BHW2, padding_mode=outside, align_corners=False)
    return sampled.round_().clamp_(0, 255).to(torch.uint8)


def trivial(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Applies one operation at a random strength to each image: TrivialAugment (wide) of 2103.10158, as torchvision's.
    Images need 1 or 3 channels."""
    operations = _trivial_operations()
    num = len(images_BCHW)
    operation_B = torch.randint(0, len(operations), (num,), generator=generator)
    level_B = torch.randint(0, MAGNITUDES, (num,), generator=generator)
    sign_B = torch.randint(0, 2, (num,), generator=generator) * 2 - 1
    signed_B = torch.tensor([signed for _, _, signed in operations])[operation_B]
    constant_B = torch.tensor([len(set(strengths)) == 1 for _, strengths, _ in operations])[operation_B]
    draws_B3 = torch.stack([operation_B, level_B.masked_fill(constant_B, 0), sign_B.masked_fill(~signed_B, 1)], dim=1)
    changed_BCHW = images_BCHW.clone()
    # Equal draws are applied together: torchvision's functions take a batch, but one strength.
    kinds, group_B = draws_B3.unique(dim=0, return_inverse=True)
    for number, (operation, level, sign) in enumerate(kinds.tolist()):
        function, strengths, _ = operations[operation]
        rows = (group_B == number).nonzero()[:, 0].to(images_BCHW.device)
        changed_BCHW[rows] = function(images_BCHW[rows], strengths[level] * sign)
    return changed_BCHW


@functools.cache
def _trivial_operations() -> list[tuple[Callable[[torch.Tensor, float], torch.Tensor], list[float], bool]]:
    """Return the operations: (function of images and strength, its strengths, whether these have both signs)."""
    from torchvision.transforms.v2 import functional as TF  # takes a while, and few trainings need it

    def moved(images: torch.Tensor, right: float, down: float) -> torch.Tensor:
        shifted: torch.Tensor = TF.affine(images, 0.0, [int(right), int(down)], 1.0, [0.0, 0.0])
        return shifted

    def sheared(images: torch.Tensor, x: float, y: float) -> torch.Tensor:
        angles = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
        slanted: torch.Tensor = TF.affine(images, 0.0, [0, 0], 1.0, angles, center=[0, 0])
        return slanted

    none = [0.0] * MAGNITUDES
    share, pixels, degrees, falling = (
        torch.linspace(first, last, MAGNITUDES).tolist() for first, last in ((0, 0.99), (0, 32), (0, 135), (1, 0))
    )
    bits = [8.0 - round(6 * level / (MAGNITUDES - 1)) for level in range(MAGNITUDES)]
    return [
        (lambda images, _: images, none, False),
        (lambda images, x: sheared(images, x, 0), share, True),
        (lambda images, y: sheared(images, 0, y), share, True),
        (lambda images, right: moved(images, right, 0), pixels, True),
        (lambda images, down: moved(images, 0, down), pixels, True),
        (lambda images, angle: TF.rotate(images, angle), degrees, True),
        (lambda images, more: TF.adjust_brightness(images, 1 + more), share, True),
        (lambda images, more: TF.adjust_saturation(images, 1 + more), share, True),
        (lambda images, more: TF.adjust_contrast(images, 1 + more), share, True),
        (lambda images, more: TF.adjust_sharpness(images, 1 + more), share, True),
        (lambda images, kept: TF.posterize(images, int(kept)), bits, False),
        (lambda images, bound: TF.solarize(images, 255 * bound), falling, False),
        (lambda images, _: TF.autocontrast(images), none, False),
        (lambda images, _: TF.equalize(images), none, False),
    ]


def cutout(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Blackens one square of a quarter of the side, its centre anywhere in the image (1708.04552)."""
    num, _, height, width = images_BCHW.shape
    side = max(1, min(height, width) // CUTOUT_SIDE)
    centre_B2 = torch.rand(num, 2, generator=generator) * torch.tensor([height, width])
    first_B2 = centre_B2.floor().long() - side // 2
    return _blackened(images_BCHW, first_B2, torch.full((num, 2), side))


def erase(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Blackens a rectangle of 2 to 33 % of the area in half of the images, on average: torchvision's RandomErasing."""
    num, _, *sides = images_BCHW.shape
    tries = (num, ERASING_TRIES)
    area_BT = torch.empty(tries).uniform_(*ERASED_AREA, generator=generator) * math.prod(sides)
    ratio_BT = torch.empty(tries).uniform_(*map(math.log, ERASED_RATIO), generator=generator).exp()
    sides_BT2 = torch.stack([area_BT * ratio_BT, area_BT / ratio_BT], dim=2).sqrt().round().long()
    fits_BT = (sides_BT2 < torch.tensor(sides)).all(2)
    sides_B2 = sides_BT2[torch.arange(num), fits_BT.int().argmax(1)]  # of the first try that fits
    erased_B = fits_BT.any(1) & (torch.rand(num, generator=generator) < ERASED_SHARE)
    places_B2 = torch.tensor(sides) - sides_B2 + 1
    first_B2 = (torch.rand(num, 2, generator=generator) * places_B2).floor().long()
    return _blackened(images_BCHW, first_B2, sides_B2 * erased_B[:, None])


def random_windows(height: int, width: int, num: int, generator: Generator) -> torch.Tensor:
    """Draw parts of an image, by area and proportions: (top, left, height, width), int64 (num, 4). The first of ten
    tries that fits is taken; if none does, the middle. This is torchvision's RandomResizedCrop, from 1409.4842."""
    tries = (num, CROP_TRIES)
    area_BT = torch.empty(tries).uniform_(*CROPPED_AREA, generator=generator) * height * width
    ratio_BT = torch.empty(tries).uniform_(*map(math.log, CROPPED_RATIO), generator=generator).exp()
    sides_BT2 = torch.stack([area_BT / ratio_BT, area_BT * ratio_BT], dim=2).sqrt().round().long()
    fits_BT = ((sides_BT2 > 0) & (sides_BT2 <= torch.tensor([height, width]))).all(2)
    sides_B2 = sides_BT2[torch.arange(num), fits_BT.int().argmax(1)]
    places_B2 = torch.tensor([height, width]) - sides_B2 + 1
    first_B2 = (torch.rand(num, 2, generator=generator, dtype=torch.float64) * places_B2).floor().long()
    least, most = CROPPED_RATIO
    whole = [min(height, round(width / least)), min(width, round(height * most))]
    middle = torch.tensor([(height - whole[0]) // 2, (width - whole[1]) // 2, *whole])
    return torch.where(fits_BT.any(1)[:, None], torch.cat([first_B2, sides_B2], dim=1), middle)


def resized_crop(images_BCHW: torch.Tensor, generator: Generator) -> torch.Tensor:
    """Cuts out a part of 8 to 100 % of the area and enlarges it to the old size (bilinear)."""
    num, _, height, width = images_BCHW.shape
    windows_B4 = random_windows(height, width, num, generator).float()
    sides_B2 = windows_B4[:, 2:] / torch.tensor([height, width])
    centres_B2 = 2 * windows_B4[:, :2] / torch.tensor([height, width]) + sides_B2 - 1  # the grid spans [-1, 1]
    theta_B23 = torch.zeros(num, 2, 3)
    theta_B23[:, 0, 0], theta_B23[:, 0, 2] = sides_B2[:, 1], centres_B2[:, 1]
    theta_B23[:, 1, 1], theta_B23[:, 1, 2] = sides_B2[:, 0], centres_B2[:, 0]
    grid_BHW2 = F.affine_grid(theta_B23.to(images_BCHW.device), list(images_BCHW.shape), align_corners=False)
    return _sampled(images_BCHW, grid_BHW2, outside="border")


def _blackened(images_BCHW: torch.Tensor, first_B2: torch.Tensor, sides_B2: torch.Tensor) -> torch.Tensor:
    """Blacken a rectangle in each image, from (row, column) `first_B2` on, as far as it lies in the image."""
    first_B2, last_B2 = first_B2.to(images_BCHW.device), (first_B2 + sides_B2).to(images_BCHW.device)
    rows, columns = (torch.arange(side, device=images_BCHW.device)[None] for side in images_BCHW.shape[2:])
    inside_BH = (rows >= first_B2[:, :1]) & (rows < last_B2[:, :1])
    inside_BW = (columns >= first_B2[:, 1:]) & (columns < last_B2[:, 1:])
    return images_BCHW.masked_fill((inside_BH[:, :, None] & inside_BW[:, None, :])[:, None], 0)


AUGMENTATIONS: dict[str, Callable[[torch.Tensor, Generator], torch.Tensor]] = {
    "crop": crop,
    "shift": shift,
    "flip": flip,
    "rotate": rotate,
    "affine": affine,
    "elastic": elastic,
    "trivial": trivial,
    "cutout": cutout,
    "erase": erase,
    "resized_crop": resized_crop,
}


def mixed(draw: Sequence[int]) -> int:
    """Make one seed of several numbers."""
    seed = 0
    for number in draw:
        seed = (seed * 1_000_003 + number + 1) % 2**63
    return seed


def augment(images_BCHW: torch.Tensor, names: Sequence[str], draw: Sequence[int]) -> torch.Tensor:
    """Apply the named augmentations in this order. `draw` identifies the batch: (seed, epoch, batch, rank)."""
    generator = torch.Generator().manual_seed(mixed(draw))
    for name in names:
        images_BCHW = AUGMENTATIONS[name](images_BCHW, generator)
    return images_BCHW
