"""A photographed or drawn digit made into an MNIST image, in the way MNIST itself was made.

LeCun, Bottou, Bengio, Haffner 1998, section III.A: the digit's box is scaled to 20x20 keeping its proportions, grey
from antialiasing, and placed in 28x28 with its centre of mass in the centre. Measured on all 70,000 images: the longer
side of the ink is at most 20, the brightest pixel 254 or 255, the centre of mass (of pixel indices) near 14, 14.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlintro.models import Classifier

SIDE, BOX = 28, 20
CENTRE = 14
MNIST_MEAN = 0.1307  # of its training pixels, in [0, 1]
WORKING_SIDE = 1024  # larger images are averaged down first, which also evens out a camera's noise
PAPER, PEN = 0.2, 0.8  # of the contrast: below is paper, above is full ink
LEAST_CONTRAST = 32  # of 255; below it nothing is drawn there
BLACK = 4  # MNIST's background is 0, a JPEG's a little more
SMALLEST_BOX = 13  # of the pixels that are more ink than paper, in MNIST

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]  # 0 paper .. 1 ink

AS_IT_IS, INVERTED, CENTRED, BOTH = "as it is", "inverted", "centred", "inverted, centred"


def reads_mnist(model: Classifier) -> bool:
    """Whether the model was trained on MNIST, or a copy: one channel, the ten digits, and MNIST's mean, which is kept
    with the weights. Fashion-MNIST's is 0.286; dark digits on light paper are far above."""
    channels, height, width = model.image_shape
    mean = float(model.pixels.mean_C11.mean())
    digits = model.class_names == list("0123456789")
    return channels == 1 and height == width and digits and abs(mean - MNIST_MEAN) < 0.01


def to_mnist(grey_HW: Grey) -> tuple[Grey, str]:
    """uint8 (H, W) -> uint8 (28, 28), light on dark, and what was done. ValueError where nothing is drawn.

    An MNIST image comes through bit for bit."""
    factor = -(-max(grey_HW.shape) // WORKING_SIDE)
    if factor > 1:
        grey_HW = np.asarray(Image.fromarray(grey_HW).reduce(factor))
    paper = background(grey_HW)
    darker, lighter = paper - grey_HW.min(), grey_HW.max() - paper
    if max(darker, lighter) < LEAST_CONTRAST:
        raise ValueError("nothing is drawn in it")
    inverted = darker > lighter
    if inverted:
        grey_HW, paper = 255 - grey_HW, 255 - paper
    ink_HW = (grey_HW.astype(np.float32) - paper) / max(darker, lighter)
    ink_HW = ((ink_HW - PAPER) / (PEN - PAPER)).clip(0, 1)
    if paper <= BLACK and looks_like_mnist(grey_HW, ink_HW):
        return grey_HW, INVERTED if inverted else AS_IT_IS
    return centred(scaled_to_box(ink_HW)), BOTH if inverted else CENTRED


def background(grey_HW: Grey) -> float:
    """The median of the border: the pen rarely reaches it."""
    return float(np.median(np.concatenate([grey_HW[0], grey_HW[-1], grey_HW[1:-1, 0], grey_HW[1:-1, -1]])))


def looks_like_mnist(grey_HW: Grey, ink_HW: Ink) -> bool:
    if grey_HW.shape != (SIDE, SIDE):
        return False
    longer_side = max(part.stop - part.start for part in ink_box(ink_HW))
    fits = SMALLEST_BOX <= longer_side <= BOX
    return fits and all(abs(middle - CENTRE) < 1 for middle in centre_of_mass(grey_HW.astype(np.float32)))


def ink_box(ink_HW: Ink) -> tuple[slice, slice]:
    """Rows and columns of the pixels that are more ink than paper."""
    rows, columns = (np.flatnonzero((ink_HW > 0.5).any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def scaled_to_box(ink_HW: Ink) -> Ink:
    """The ink, cropped; its longer side 20."""
    cropped = ink_HW[ink_box(ink_HW)]
    height, width = (max(1, round(side * BOX / max(cropped.shape))) for side in cropped.shape)
    scaled: Ink = np.asarray(Image.fromarray(cropped).resize((width, height), Image.Resampling.HAMMING))
    brightest: Ink = (scaled / scaled.max()).clip(0, 1)
    return brightest


def centred(ink_hw: Ink) -> Grey:
    """Moved by whole pixels, as far as the field allows."""
    offsets = [
        min(max(0, round(CENTRE - middle)), SIDE - side)
        for middle, side in zip(centre_of_mass(ink_hw), ink_hw.shape, strict=True)
    ]
    field = np.zeros((SIDE, SIDE), np.uint8)
    field[offsets[0] :, offsets[1] :][: ink_hw.shape[0], : ink_hw.shape[1]] = np.rint(ink_hw * 255)
    return field


def centre_of_mass(ink_HW: Ink) -> tuple[float, float]:
    """In pixel indices, row and column."""
    total = float(ink_HW.sum())
    row, column = (float(ink_HW.sum(1 - axis) @ np.arange(ink_HW.shape[axis])) / total for axis in (0, 1))
    return row, column
