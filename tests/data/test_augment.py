"""Augmentation: its draws for each seed, epoch and batch, as a network sees them in a run, and its geometry."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare, ks_2samp, kstest, uniform
from torchvision.transforms.v2 import InterpolationMode, RandomErasing, TrivialAugmentWide
from torchvision.transforms.v2 import functional as TF

from dlintro.data import ImageDataModule
from dlintro.data.augment import AUGMENTATIONS, _smoothing, augment
from dlintro.errors import UsageError
from tests.conftest import SMALL
from tests.run_folder import checkpoint

Run = Callable[..., Path]
MEANS = {
    "rotate": [115.5, 116.7, 118.6, 110.9, 109.5, 120.1, 110.3, 111.1],
    "affine": [119.4, 112.1, 121.5, 114.8, 123.3, 105.9, 99.0, 102.5],
    "elastic": [113.6, 121.5, 136.8, 125.4, 119.8, 119.9, 117.2, 109.0],
    "trivial": [122.7, 123.0, 74.7, 111.7, 123.8, 126.1, 119.4, 124.2],
}  # of each image
# A linear network that keeps its images in the order in which they come. In each of two epochs these are the 200
# training images, then for evaluation the 1,000 validation images and the 200 training images again.
WATCHER = """
import torch
from torch import nn

class Watcher(nn.Module):
    def __init__(self, k):
        super().__init__()
        self.linear = nn.Linear(64, k)
        self.register_buffer("trained_on", torch.zeros(400, 1, 8, 8))
        self.register_buffer("evaluated_on", torch.zeros(2400, 1, 8, 8))
        self.places = {"trained_on": 0, "evaluated_on": 0}

    def forward(self, x):
        name = "trained_on" if self.training else "evaluated_on"
        if x.any():  # the network is tried out on zeros
            room = self.get_buffer(name)[self.places[name] :]
            room[: len(x)] = x[: len(room)]
            self.places[name] += len(x)
        return self.linear(x.flatten(1))

def make_model(shape, k):
    return Watcher(k)
"""


@pytest.mark.usefixtures("no_pictures")
def test_the_draws_are_of_seed_epoch_and_batch_and_validation_has_none(run: Run, tmp_path: Path) -> None:
    """Return which images were mirrored in two epochs of seven batches, compared with a run without augmentation."""
    (tmp_path / "watcher.py").write_text(WATCHER)
    words = (*SMALL, "model=file", f"model.path={tmp_path}/watcher.py", "data.val_size=1000")

    def mirrored(seed: int) -> torch.Tensor:
        plain, augmented = (
            checkpoint(run(*words, f"seed={seed}", f"data.augment={names}"))["state_dict"] for names in ("[]", "[flip]")
        )
        evaluated = plain["network.evaluated_on"]
        assert evaluated.flatten(1).any(1).all()
        assert torch.equal(augmented["network.evaluated_on"], evaluated)
        before, after = plain["network.trained_on"], augmented["network.trained_on"]
        same = (after == before).flatten(1).all(1)
        turned = (after == before.flip(3)).flatten(1).all(1)
        assert torch.equal(same, ~turned)
        return turned

    draws = {seed: mirrored(seed) for seed in (0, 1)}
    assert torch.equal(draws[0], mirrored(0))
    starts = [epoch * 200 + batch * 32 for epoch in (0, 1) for batch in range(6)]  # the last batch is a smaller one
    batches = [tuple(drawn[start : start + 32].tolist()) for drawn in draws.values() for start in starts]
    assert len(set(batches)) == len(batches) == 24
    assert 0.4 < torch.cat(list(draws.values())).float().mean() < 0.6


def direction_and_centre(images_NHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure the bright bar of each image: its angle to the x axis in radians, and its centre (x, y) relative to the
    image's."""
    height, width = images_NHW.shape[1:]
    y, x = torch.meshgrid(
        torch.arange(height).double() - (height - 1) / 2, torch.arange(width).double() - (width - 1) / 2, indexing="ij"
    )
    weight = images_NHW.double() / images_NHW.double().sum((1, 2), keepdim=True)

    def mean(values: torch.Tensor) -> torch.Tensor:
        return (weight * values).sum((1, 2))

    centre_N2 = torch.stack([mean(x), mean(y)], 1)
    dx, dy = x - centre_N2[:, :1, None], y - centre_N2[:, 1:, None]
    return 0.5 * torch.atan2(2 * mean(dx * dy), mean(dx * dx) - mean(dy * dy)), centre_N2


def test_a_rotation_turns_by_up_to_15_degrees_and_shifts_by_a_tenth_with_black_around() -> None:
    """A bar across the middle shows how much each image was turned and shifted, which determines every pixel of a white
    image. The image isn't square, so the test sees whether a turn keeps angles and lengths."""
    num, height, width = 400, 60, 80
    draw = (7, 1, 2)
    flat, upright, white = (torch.zeros(num, 1, height, width, dtype=torch.uint8) for _ in range(3))
    flat[:, :, 28:32, 24:56], upright[:, :, 14:46, 38:42] = 255, 255
    white[:] = 255
    flat, upright, white = (augment(images, ["rotate"], draw)[:, 0] for images in (flat, upright, white))

    angle_N, centre_N2 = direction_and_centre(flat)
    degrees_N = angle_N.rad2deg()
    assert 14.5 < degrees_N.max() < 15.1 and -15.1 < degrees_N.min() < -14.5
    assert degrees_N.abs().mean() == pytest.approx(7.5, abs=0.8)  # all angles are equally likely
    upright_N, _ = direction_and_centre(upright)
    torch.testing.assert_close(
        upright_N.remainder(math.pi), (angle_N + math.pi / 2).remainder(math.pi), atol=0.01, rtol=0
    )
    assert flat.double().sum((1, 2)) == pytest.approx(255 * 4 * 32, rel=0.02)  # nothing grows or shrinks

    # A pixel at p shows the image at R⁻¹(p - c). Shifts are along the image's own sides: R⁻¹c.
    turn_N22 = torch.stack([angle_N.cos(), angle_N.sin(), -angle_N.sin(), angle_N.cos()], 1).reshape(-1, 2, 2)
    shift_N2 = (turn_N22 @ centre_N2[:, :, None])[:, :, 0].abs()
    for axis, side in ((0, width), (1, height)):
        assert 0.095 * side < shift_N2[:, axis].max() < 0.1 * side + 0.1
        assert shift_N2[:, axis].mean() == pytest.approx(0.05 * side, rel=0.12)

    y, x = torch.meshgrid(torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij")
    places_P2 = torch.stack([x.flatten(), y.flatten()], 1).double()
    shown_NP2 = (places_P2 - centre_N2[:, None]) @ turn_N22.transpose(1, 2)
    outside_NP = (shown_NP2.abs() - torch.tensor([width / 2, height / 2])).amax(2)  # pixels beyond the nearest side
    white_NP = white.flatten(1)
    assert (white_NP[outside_NP > 1] == 0).all() and (white_NP[outside_NP < -1] == 255).all()
    assert (outside_NP > 1).sum() > 20 * num, "corners are seen in most images"
    between = (white_NP > 0) & (white_NP < 255)
    assert between[outside_NP.abs() < 0.4].float().mean() > 0.9, "bilinear"


def test_every_window_every_mirroring_and_every_place_of_the_square_occur() -> None:
    num, side = 2000, 16
    image = torch.arange(side * side).remainder(251).add(1).to(torch.uint8).reshape(1, side, side)
    images = image.expand(num, 1, side, side)
    padded = torch.nn.functional.pad(image[0], (2, 2, 2, 2))  # an eighth of the side
    windows = {padded[r : r + side, c : c + side].numpy().tobytes() for r in range(5) for c in range(5)}
    assert {cropped.numpy().tobytes() for cropped in augment(images, ["crop"], (3,))} == windows
    turned = (augment(images, ["flip"], (3,)) != images).flatten(1).any(1)
    assert 0.45 < turned.float().mean() < 0.55
    black = (augment(images, ["cutout"], (3,)) == 0)[:, 0]
    whole = black.flatten(1).sum(1) == 16
    assert 0.6 < whole.float().mean() < 0.72  # in 13² of 16² places the whole square is in the image
    assert black.any(0).all(), "the centre is anywhere, so every pixel is blackened now and then"
    assert all(int(rows) == 4 for rows in black[whole].any(2).sum(1)), "a square of a quarter of the side"


@pytest.mark.parametrize("name", ["rotate", "affine"])
@pytest.mark.parametrize(("height", "width"), [(60, 80), (48, 48)])
def test_a_rotation_is_torchvisions_affine_by_the_same_angle_and_shift(height: int, width: int, name: str) -> None:
    """A bar shows what was drawn: angle, shift and zoom. A smooth picture is then right to a level or two per pixel."""
    num, draw = 40, (5, 0, 1)
    bar = torch.zeros(num, 1, height, width, dtype=torch.uint8)
    bar[:, :, height // 2 - 2 : height // 2 + 2, width // 2 - 14 : width // 2 + 14] = 255
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    picture = (130 + 60 * (x / 13 + y / 29).sin() + 50 * (y / 11 - x / 37).cos()).round().to(torch.uint8)
    turned = augment(picture.expand(num, 1, height, width), [name], draw)
    bars = augment(bar, [name], draw)
    angle_N, centre_N2 = direction_and_centre(bars[:, 0])
    zoom_N = zooms(bars, bar) if name == "affine" else torch.ones(num)
    differences = []
    drawn = zip(turned, angle_N.rad2deg().tolist(), centre_N2.tolist(), zoom_N.tolist(), strict=True)
    for found, angle, centre, zoom in drawn:
        wanted = TF.affine(
            picture[None].float(), angle, centre, zoom, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR, fill=None
        )
        differences.append(found.double() - wanted.double())
    difference = torch.stack(differences)
    inside = difference[:, :, height // 4 : -height // 4, width // 4 : -width // 4]
    tolerance = 1.5 if name == "rotate" else 3  # the zoom is known from the bar's area, to half a percent
    assert inside.abs().max() < tolerance and abs(float(inside.mean())) < 0.1
    assert (difference.abs() > 3).double().mean() < 0.02, "but for the border, where a hundredth of a pixel is a level"


def zooms(after_N1HW: torch.Tensor, before_N1HW: torch.Tensor) -> torch.Tensor:
    """Return by how much each image's bright part was enlarged: the root of its area's growth."""
    after_N, before_N = (images.double().sum((1, 2, 3)) for images in (after_N1HW, before_N1HW))
    return (after_N / before_N).sqrt()


def test_every_zoom_up_to_a_tenth_is_as_likely() -> None:
    square = torch.zeros(3000, 1, 64, 64, dtype=torch.uint8)
    square[:, :, 22:42, 22:42] = 255
    zoom_N = zooms(augment(square, ["affine"], (3,)), square)
    assert 0.895 < zoom_N.min() < 0.905 and 1.095 < zoom_N.max() < 1.105
    assert kstest(zoom_N.numpy(), uniform(0.9, 0.2).cdf).pvalue > 0.001


def test_a_shift_mirrors_what_moves_in() -> None:
    image = torch.arange(3 * 32 * 32).remainder(251).to(torch.uint8).reshape(3, 32, 32)
    padded = TF.pad(image, [2, 2, 2, 2], padding_mode="reflect")
    windows = {TF.crop(padded, top, left, 32, 32).numpy().tobytes() for top in range(5) for left in range(5)}
    counts = Counter(out.numpy().tobytes() for out in augment(image.expand(5000, 3, 32, 32), ["shift"], (2,)))
    assert set(counts) == windows
    assert chisquare(list(counts.values())).pvalue > 0.001
    one = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4)  # nothing to mirror in a single row
    assert augment(one.expand(50, 1, 1, 4), ["shift"], (2,)).shape == (50, 1, 1, 4)


@pytest.mark.parametrize(("height", "width"), [(50, 60), (60, 50)])
def test_elastic_is_torchvisions_by_a_smooth_field_of_the_same_height_everywhere(height: int, width: int) -> None:
    """Two ramps show by how much each pixel was moved. A smooth picture is then right to some levels per pixel."""
    num, draw = 300, (5, 0, 1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ramps = torch.stack([x, y]).mul(4).to(torch.uint8)
    seen = augment(ramps.expand(num, 2, height, width), ["elastic"], draw).double() / 4
    moved_N2HW = seen - torch.stack([x, y])
    # Away from the border no pixel comes from outside.
    top, left = height // 5, width // 5
    for side in (1, height, width):  # the field is as strong at the border as in the middle
        torch.testing.assert_close(_smoothing(side).square().sum(1), torch.ones(side))
    middle = (slice(None), slice(None), slice(top, -top), slice(left, -left))
    for axis, side in ((0, width), (1, height)):
        assert moved_N2HW[middle][:, axis].std() == pytest.approx(0.04 * side, rel=0.05)
        field = moved_N2HW[middle][:, axis]
        for lag, across in ((left, 2), (top, 1)):  # the covariance of a blurred field falls as exp(-(lag/2σ)²)
            length = field.shape[across]
            product = (field.narrow(across, 0, length - lag) * field.narrow(across, lag, length - lag)).mean()
            sigma = 0.18 * (width if across == 2 else height)
            assert product / field.square().mean() == pytest.approx(math.exp(-((lag / sigma / 2) ** 2)), abs=0.05)
    assert abs(float((moved_N2HW[middle][:, 0] * moved_N2HW[middle][:, 1]).mean())) < 0.6, "two fields"
    picture = (130 + 60 * (x / 13 + y / 29).sin() + 50 * (y / 11 - x / 37).cos()).round().to(torch.uint8)[None]
    waved = augment(picture.expand(num, 1, height, width), ["elastic"], draw)
    for found, moved_2HW in zip(waved[:20], moved_N2HW[:20], strict=True):
        sides = torch.tensor([width, height])
        wanted = TF.elastic(picture.float(), (moved_2HW.permute(1, 2, 0) * 2 / sides)[None])
        difference = found.double() - wanted.double()
        assert difference[:, top:-top, left:-left].abs().max() < 4


def test_trivial_draws_torchvisions_operations_each_as_often() -> None:
    num = 20_000
    image = torch.randint(0, 200, (3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    theirs = TrivialAugmentWide()
    shares: Counter[bytes] = Counter()
    for operation, (strengths, signed) in theirs._AUGMENTATION_SPACE.items():
        levels = strengths(31, 8, 8)
        for strength in [0.0] if levels is None else levels.tolist():
            for sign in (1, -1) if signed else (1,):
                made = theirs._apply_image_or_video_transform(
                    image, operation, sign * strength, interpolation=InterpolationMode.NEAREST, fill={}
                )
                shares[made.numpy().tobytes()] += (  # type: ignore[assignment]
                    1 / 14 / (1 if levels is None else 31) / (2 if signed else 1)
                )
    found = Counter(out.numpy().tobytes() for out in augment(image.expand(num, 3, 8, 8), ["trivial"], (8,)))
    assert set(found) <= set(shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert chisquare([found[kind] for kind in shares], [num * share for share in shares.values()]).pvalue > 0.001


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_image_is_changed_by_itself_whatever_else_is_in_the_batch(name: str) -> None:
    """Every second image is the same one. Its draws are those that it has in a batch of nothing else, so it must come
    out the same. The images between its copies differ, and must not reach it."""
    num = 200
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 12, 20), generator=generator, dtype=torch.uint8)
    others = torch.randint(0, 256, (num, 3, 12, 20), generator=generator, dtype=torch.uint8)
    same, mixed = image.expand(num, 3, 12, 20), others.clone()
    mixed[::2] = image
    alike, among_others = (augment(images, [name], (5, 1, 2)) for images in (same, mixed))
    assert torch.equal(among_others[::2], alike[::2])
    assert (among_others[1::2] != alike[1::2]).flatten(1).any(1).float().mean() > 0.9


def test_the_draws_of_float_augmentations_stay_what_they_were_but_for_a_level() -> None:
    """Rounding may differ between processors, so the pictures are compared by their means."""
    images = torch.arange(8 * 3 * 16 * 16).remainder(251).to(torch.uint8).reshape(8, 3, 16, 16)
    found = {
        name: augment(images, [name], (2, 1, 3, 0)).double().mean((1, 2, 3)).tolist()
        for name in ("rotate", "affine", "elastic", "trivial")
    }
    for name, means in found.items():
        assert means == pytest.approx(MEANS[name], abs=0.5), name


def test_trivial_takes_grey_images_and_refuses_four_channels() -> None:
    grey = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).expand(500, 1, 8, 8)
    assert augment(grey, ["trivial"], (1,)).shape == (500, 1, 8, 8)
    with pytest.raises(UsageError, match=r"data.augment.*trivial.*1 or 3 channels, not 4; leave it out"):
        ImageDataModule("synthetic", shape=(4, 8, 8), augment=["trivial"])


def test_a_rectangle_that_would_fill_a_side_is_drawn_again() -> None:
    """Torchvision's rule: both sides are smaller than the image's."""
    erased = (augment(torch.full((4000, 1, 4, 40), 9, dtype=torch.uint8), ["erase"], (4,)) == 0)[:, 0]
    hit = erased.flatten(1).any(1)
    assert erased.any(2)[hit].sum(1).max() == 3 and erased.any(1)[hit].sum(1).max() < 40
    thin = augment(torch.full((400, 1, 1, 40), 9, dtype=torch.uint8), ["erase"], (4,))
    assert (thin == 9).all(), "no height is smaller than 1"


def test_erased_rectangles_are_as_likely_as_torchvisions() -> None:
    num, height, width = 6000, 24, 40
    theirs, drawn = RandomErasing(), []
    torch.manual_seed(0)
    for _ in range(num):
        drawn.append([theirs.make_params([torch.empty(3, height, width)])[name] for name in "ijhw"])
    erased = (augment(torch.full((2 * num, 3, height, width), 9, dtype=torch.uint8), ["erase"], (4,)) == 0).all(1)
    rows, columns = erased.any(2), erased.any(1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :]), "one rectangle"
    hit = rows.any(1)
    assert 0.48 < hit.float().mean() < 0.52
    first = torch.stack([rows[hit].int().argmax(1), columns[hit].int().argmax(1)], 1)
    found = torch.cat([first, rows[hit].sum(1, keepdim=True), columns[hit].sum(1, keepdim=True)], 1)
    for name, ours, wanted in zip("ijhw", found.T.numpy(), zip(*drawn, strict=True), strict=True):
        assert ks_2samp(ours, wanted).pvalue > 0.001, name


def test_crop_flip_and_cutout_are_torchvisions() -> None:
    num, side = 300, 16
    image = torch.arange(3 * side * side).remainder(251).add(1).to(torch.uint8).reshape(3, side, side)
    padded = TF.pad(image, [2, 2, 2, 2])
    every = {
        "crop": [TF.crop(padded, top, left, side, side) for top in range(5) for left in range(5)],
        "flip": [image, TF.horizontal_flip(image)],
        "cutout": [
            TF.erase(
                image, max(0, y - 2), max(0, x - 2), min(y + 2, 4), min(x + 2, 4), torch.zeros(1, dtype=torch.uint8)
            )
            for y in range(side)
            for x in range(side)
        ],
    }
    for name, wanted in every.items():
        found = {out.numpy().tobytes() for out in augment(image.expand(num, 3, side, side), [name], (1, 2, 3))}
        assert found <= {out.numpy().tobytes() for out in wanted}, name
        assert len(found) > min(len(wanted), num) // 2


def test_each_window_each_side_and_each_centre_is_as_likely_as_the_others() -> None:
    num, side = 8000, 16
    image = torch.arange(side * side).remainder(251).add(1).to(torch.uint8).reshape(1, side, side)
    images = image.expand(num, 1, side, side)

    def counted(outcomes: list[object], kinds: int) -> list[int]:
        counts = Counter(outcomes)
        assert len(counts) == kinds
        return list(counts.values())

    for name, kinds in (("crop", 25), ("flip", 2)):
        outcomes: list[object] = [out.numpy().tobytes() for out in augment(images, [name], (4,))]
        assert chisquare(counted(outcomes, kinds)).pvalue > 0.001, name
    black = (augment(images, ["cutout"], (4,)) == 0)[:, 0]
    for axis in (1, 2):  # a square whose centre is c covers c - 2 to c + 1, as far as there is an image
        covered = black.any(axis).int()
        first, last = covered.argmax(1), side - 1 - covered.flip(1).argmax(1)
        centres = torch.where(first > 0, first + 2, last - 1).tolist()
        assert chisquare(counted(centres, side)).pvalue > 0.001


def test_no_two_batches_of_small_numbers_have_the_same_draws() -> None:
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).expand(64, 1, 8, 8)
    draws = [
        (seed, epoch, batch, rank) for seed in range(3) for epoch in range(3) for batch in range(3) for rank in range(2)
    ]
    assert len({augment(image, ["flip"], draw).numpy().tobytes() for draw in draws}) == len(draws)


def test_augmentations_come_in_the_order_typed() -> None:
    """The first augmentation draws what it draws alone. The second one changes its result."""
    image = torch.arange(1, 257).remainder(251).add(1).to(torch.uint8).reshape(1, 16, 16).expand(50, 1, 16, 16)
    for first, second in (("flip", "crop"), ("crop", "flip")):
        once, twice = augment(image, [first], (6,)), augment(image, [first, second], (6,))
        for before, after in zip(once, twice, strict=True):
            padded = TF.pad(before, [2, 2, 2, 2])
            windows = [TF.crop(padded, top, left, 16, 16) for top in range(5) for left in range(5)]
            made = windows if second == "crop" else [before, TF.horizontal_flip(before)]
            assert any(torch.equal(after, one) for one in made)


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("crop", "06bb84c79ee15fcc"),
        ("shift", "3a3c75e98370028f"),
        ("flip", "3716b31614a875c8"),
        ("cutout", "ee3730e2010c0dc0"),
        ("erase", "0e036588b88ff17c"),
    ],
)
def test_the_draws_stay_what_they_were(name: str, digest: str) -> None:
    """Otherwise a run that began with an older version would resume with other draws."""
    images = torch.arange(64 * 28 * 28).remainder(251).add(1).to(torch.uint8).reshape(64, 1, 28, 28)
    assert hashlib.sha256(augment(images, [name], (2, 1, 3, 0)).numpy().tobytes()).hexdigest()[:16] == digest


def test_the_smallest_images_are_moved_and_cut_by_a_pixel() -> None:
    image = torch.arange(1, 10, dtype=torch.uint8).reshape(1, 3, 3)
    images = image.expand(200, 1, 3, 3)
    padded = TF.pad(image, [1, 1, 1, 1])
    windows = {TF.crop(padded, top, left, 3, 3).numpy().tobytes() for top in range(3) for left in range(3)}
    assert {out.numpy().tobytes() for out in augment(images, ["crop"], (0,))} == windows
    assert (augment(images, ["cutout"], (0,)) == 0).flatten(1).sum(1).tolist() == [1] * 200
