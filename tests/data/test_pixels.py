"""The pixels of a split on disk."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dlintro.data import pixels
from dlintro.errors import RunError


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("num", [1, 1000])
def test_a_disk_too_full_for_the_images_is_one_line(monkeypatch: pytest.MonkeyPatch, num: int) -> None:
    monkeypatch.setattr(pixels, "_nameless_file", partial(Path("/dev/full").open, "wb"))
    with pytest.raises(RunError, match=r"needs 0 MB.*No space left.*DLINTRO_DATA"):
        pixels.stack([np.zeros((num, 1, 2, 2), np.uint8)], (num, 1, 2, 2), in_ram=False)
