"""Notices that a picture holds more than one digit.

Strokes that lie close to each other are taken as one digit, as a 5's bar may stand apart from its body. Two parts
count as two digits if both are tall and inked, and stand beside or above each other. The limits were chosen on MNIST's
training images; on its 10,000 test images `tests/commands/test_digit_count.py` counts the false alarms.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dlintro.commands.digits import Ink, ink_box

VISIBLE = 0.2  # of full ink
JOINED = 3.5 / 20  # of the largest part's longer side: a narrower gap is one within a digit
TALL, INKED = 0.6, 0.2  # of the tallest part's height, and of the ink of the part that has most
OVERLAP = 0.2  # of the narrower part; parts that stand side by side share fewer columns
SPECK = 0.02  # of the ink of the largest stroke: less is dust, or a camera's noise
WORKING_SIDE = 200


@dataclass(frozen=True)
class Part:
    top: int
    bottom: int
    left: int
    right: int
    ink: float

    @property
    def height(self) -> int:
        return self.bottom - self.top


def has_several(ink_HW: Ink) -> bool:
    """Return whether the picture seems to hold more than one digit."""
    cropped = ink_HW[ink_box(ink_HW)]
    if (factor := -(-max(cropped.shape) // WORKING_SIDE)) > 1:
        cropped = np.asarray(Image.fromarray(cropped).reduce(factor))
    parts = joined_parts(cropped)
    digits = [
        part
        for part in parts
        if part.height >= TALL * max(other.height for other in parts)
        and part.ink >= INKED * max(other.ink for other in parts)
    ]
    return any(apart(one, other) for one, other in itertools.combinations(digits, 2))


def joined_parts(ink_HW: Ink) -> list[Part]:
    """The parts of the ink that are left when those with a narrow gap between them are taken as one."""
    from scipy import ndimage

    strokes_HW = labelled(ink_HW > VISIBLE)
    ink = ndimage.sum_labels(ink_HW, strokes_HW, np.arange(strokes_HW.max() + 1))
    ink[0] = 0  # what is too faint to be a stroke
    mask_HW = (ink >= SPECK * ink.max())[strokes_HW] & (strokes_HW > 0)
    longest = max(side.stop - side.start for box in ndimage.find_objects(labelled(mask_HW)) for side in box)
    near_HW = ndimage.distance_transform_edt(~mask_HW) <= JOINED * longest / 2
    parts_HW = labelled(near_HW) * mask_HW
    boxes = list(enumerate(ndimage.find_objects(parts_HW), 1))
    return [
        Part(rows.start, rows.stop, columns.start, columns.stop, float(ink_HW[rows, columns][own].sum()))
        for number, (rows, columns) in boxes
        for own in [parts_HW[rows, columns] == number]
    ]


def labelled(mask_HW: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Connected parts, numbered from 1; pixels that meet at a corner are connected."""
    from scipy import ndimage

    numbers_HW: NDArray[np.int32] = ndimage.label(mask_HW, np.ones((3, 3)))[0]
    return numbers_HW


def apart(one: Part, other: Part) -> bool:
    rows = min(one.bottom, other.bottom) - max(one.top, other.top)
    columns = min(one.right, other.right) - max(one.left, other.left)
    beside = columns <= OVERLAP * min(one.right - one.left, other.right - other.left)
    above = rows <= OVERLAP * min(one.height, other.height)
    return beside or above
