"""Makes an MNIST image of a photographed or drawn digit, in the way in which MNIST itself was made.

LeCun, Bottou, Bengio and Haffner (1998, section III.A) scale the digit's box to 20x20 in its proportions, with the
greys of antialiasing, and place it in 28x28 with its centre of mass in the centre. In all 70,000 images the longer side
of the ink is at most 20, the brightest pixel is 254 or 255, and the centre of mass (of pixel indices) is near 14, 14.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlintro.models import Classifier

SIDE, BOX = 28, 20
CENTRE = 14
MNIST_MEAN = 0.1307  # of its training pixels, in [0, 1]
WORKING_SIDE = 1024  # larger images are averaged down first, which also evens out a camera's noise
PAPER, PEN = 0.2, 0.8  # of the contrast: below is paper, above is full ink
UNEVEN = 8  # of 255: how far a border's greys lie apart where the light is uneven
FITTED_SIDE = 96  # the light is fitted to a picture of this size
BORDER = 0.9  # of the way from the middle to the edge: what lies further out is taken for paper at first
LEAST_CONTRAST = 32  # of 255; with less, nothing is drawn there
WHITE = 255
OTHER_GREY = 96  # the least difference between the greys of pen and paper on a cut-out sheet
LEAST_DRAWN = 0.01  # the least share of such a sheet that a digit covers
BLACK = 4  # MNIST's background is 0, a JPEG's a little more
SMALLEST_BOX = 13  # the least longer side of an MNIST digit, in pixels that are more ink than paper

Grey = NDArray[np.uint8]
Ink = NDArray[np.float32]  # 0 paper .. 1 ink

AS_IT_IS, INVERTED, CENTRED, BOTH = "as it is", "inverted", "centred", "inverted, centred"


@dataclass(frozen=True)
class Digit:
    """`pixels_HW`: uint8, light on dark. `prepared`: what was done to the picture. `ink_HW`: the picture's ink, as
    large as it was drawn."""

    pixels_HW: Grey
    prepared: str
    ink_HW: Ink


def reads_mnist(model: Classifier) -> bool:
    """Return whether the model was trained on MNIST, or on a copy of it: one channel, the ten digits, and MNIST's mean,
    which is kept with the weights. Fashion-MNIST's mean is 0.286, and that of dark digits on light paper far above."""
    channels, height, width = model.image_shape
    mean = float(model.pixels.mean_C11.mean())
    digits = model.class_names == list("0123456789")
    return channels == 1 and height == width and digits and abs(mean - MNIST_MEAN) < 0.01


def paper_behind(image: Image.Image) -> int:
    """The grey that the transparent part of an RGBA picture has to show, so that the ink stands out.

    A drawing on transparent paper is all ink: light ink needs black paper, dark ink white. A sheet that is cut out
    has paper of its own. There the pixels next to the transparent part are paper, and others differ from them.
    """
    from scipy import ndimage

    stride = -(-max(image.size) // WORKING_SIDE)
    grey_HW, alpha_HW = np.moveaxis(np.asarray(image.convert("LA"))[::stride, ::stride], 2, 0)
    visible_HW = alpha_HW > alpha_HW.max() / 2
    rim_HW = visible_HW & ndimage.binary_dilation(~visible_HW)
    if not rim_HW.any():
        return WHITE
    visible = grey_HW[visible_HW].astype(np.float32)
    edge = float(np.median(grey_HW[rim_HW]))
    if (abs(visible - edge) > OTHER_GREY).mean() > LEAST_DRAWN:
        return round(edge)
    return 0 if visible.mean() > WHITE / 2 else WHITE


def to_mnist(grey_HW: Grey) -> Digit:
    """uint8 (H, W) of any size -> uint8 (28, 28), light on dark. ValueError where nothing is drawn.

    An MNIST image comes through bit for bit."""
    factor = -(-max(grey_HW.shape) // WORKING_SIDE)
    if factor > 1:
        grey_HW = np.asarray(Image.fromarray(grey_HW).reduce(factor))
    grey_HW = evenly_lit(grey_HW)
    paper = background(grey_HW)
    darker, lighter = paper - grey_HW.min(), grey_HW.max() - paper
    if max(darker, lighter) < LEAST_CONTRAST:
        raise ValueError("nothing is drawn in it")
    inverted = darker > lighter
    if inverted:
        grey_HW, paper = WHITE - grey_HW, WHITE - paper
    ink_HW = (grey_HW.astype(np.float32) - paper) / max(darker, lighter)
    ink_HW = ((ink_HW - PAPER) / (PEN - PAPER)).clip(0, 1)
    if paper <= BLACK and looks_like_mnist(grey_HW, ink_HW):
        return Digit(grey_HW, INVERTED if inverted else AS_IT_IS, ink_HW)
    return Digit(centred(scaled_to_box(ink_HW)), BOTH if inverted else CENTRED, ink_HW)


def evenly_lit(grey_HW: Grey) -> Grey:
    """Without the slow change of brightness over a photographed sheet. A picture with an even border is left as it is.

    A quadratic surface is fitted to the border first, and then to all pixels that are near it: these are the paper.
    """
    low, high = np.percentile(border(grey_HW), (5, 95))
    if high - low < UNEVEN:
        return grey_HW
    rows_H1, columns_1W = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey_HW.shape), indexing="ij", sparse=True)
    terms_6HW = [
        np.broadcast_to(term, grey_HW.shape)
        for term in (np.ones((1, 1)), rows_H1, columns_1W, rows_H1**2, columns_1W**2, rows_H1 * columns_1W)
    ]
    stride = -(-max(grey_HW.shape) // FITTED_SIDE)
    sample_N6 = np.stack([term_HW[::stride, ::stride].ravel() for term_HW in terms_6HW], 1)
    sample_N = grey_HW[::stride, ::stride].ravel().astype(np.float64)
    paper_N = np.abs(sample_N6[:, 1:3]).max(1) > BORDER
    for _ in range(5):
        weights_6 = np.linalg.lstsq(sample_N6[paper_N], sample_N[paper_N], rcond=None)[0]
        off_N = np.abs(sample_N - sample_N6 @ weights_6)
        paper_N = off_N <= max(UNEVEN / 2, 4 * float(np.median(off_N[paper_N])))
    surface_HW = sum(weight * term_HW for weight, term_HW in zip(weights_6, terms_6HW, strict=True))
    flat_HW: Grey = np.rint(grey_HW - surface_HW + np.median(surface_HW)).clip(0, WHITE).astype(np.uint8)
    return flat_HW


def background(grey_HW: Grey) -> float:
    """The median of the border: the pen rarely reaches it."""
    return float(np.median(border(grey_HW)))


def border(grey_HW: Grey) -> Grey:
    return np.concatenate([grey_HW[0], grey_HW[-1], grey_HW[1:-1, 0], grey_HW[1:-1, -1]])


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
