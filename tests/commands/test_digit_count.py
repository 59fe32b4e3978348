"""More than one digit in a picture: how often it is noticed, and how rarely where there is one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from dlintro.commands.digit_count import has_several
from dlintro.commands.digits import to_mnist
from dlintro.data import ImageDataModule

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def test_images() -> Pixels:
    data = ImageDataModule("mnist")
    data.prepare_data()
    data.setup()
    images_NHW: Pixels = data.test.images_NCHW[:, 0].numpy()
    return images_NHW


def several(picture_HW: Pixels) -> bool:
    return has_several(to_mnist(picture_HW).ink_HW)


def side_by_side(one_HW: Pixels, other_HW: Pixels, gap: int) -> Pixels:
    """Two MNIST images, `gap` empty columns between their ink."""
    cropped = [digit_HW[:, digit_HW.any(0)] for digit_HW in (one_HW, other_HW)]
    return np.pad(np.hstack([cropped[0], np.zeros((28, gap), np.uint8), cropped[1]]), 8)


def rate(images_NHW: Pixels, gap: int, num: int, above: bool = False) -> float:
    """How often two digits are noticed in `num` pictures of pairs."""
    pairs = np.random.default_rng(gap).integers(len(images_NHW), size=(num, 2))
    pictures = (side_by_side(*(image.T if above else image for image in images_NHW[pair]), gap) for pair in pairs)
    return sum(several(picture.T if above else picture) for picture in pictures) / num


@pytest.mark.slow
def test_less_than_one_in_a_thousand_of_mnists_test_images_is_taken_for_several(test_images: Pixels) -> None:
    assert sum(map(several, test_images)) < 10  # measured: 8 of 10,000


def test_few_test_images_are_taken_for_several(test_images: Pixels) -> None:
    assert sum(map(several, test_images[:1000])) <= 2


@pytest.mark.parametrize("gap", [4, 6, 10, 28])
def test_two_digits_at_a_distance_are_noticed(test_images: Pixels, gap: int) -> None:
    assert rate(test_images, gap, 200) > 0.95  # measured over 1,000: 0.994 to 0.999


def test_two_digits_above_each_other_are_noticed(test_images: Pixels) -> None:
    assert rate(test_images, 6, 200, above=True) > 0.95


def test_a_faint_shadow_that_outweighs_the_strokes_is_no_stroke() -> None:
    picture = np.full((240, 240), 255, np.uint8)
    picture[20:220, 20:220] = 190  # so faint that it counts as paper, and it is most of the ink
    picture[100:104, 100:104] = picture[150:154, 150:154] = 0
    several(picture)


def test_strokes_of_one_digit_belong_together() -> None:
    """A 5 whose bar stands apart, and a 4 of two strokes."""
    five = np.zeros((200, 200), np.uint8)
    five[30:45, 80:150] = five[60:170, 70:85] = five[100:115, 70:140] = five[100:170, 130:145] = 255
    five[160:175, 70:140] = 255
    four = np.zeros((200, 200), np.uint8)
    four[30:110, 60:72] = four[98:110, 60:115] = four[30:180, 122:136] = 255
    assert not several(five) and not several(four)


def test_dust_is_no_digit(test_images: Pixels) -> None:
    draw = np.random.default_rng(0)
    for image_HW in test_images[:50]:
        picture = np.pad(np.kron(image_HW, np.ones((8, 8), np.uint8)), 100)
        for row, column in draw.integers(picture.shape[0] - 9, size=(40, 2)):
            picture[row : row + 9, column : column + 9] = 255
        assert not several(picture)
