"""A user's own folder of images: layouts, kinds of images, and files that aren't images."""

import hashlib
import logging
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dlintro.data.deal import is_test
from dlintro.data.folder import ImageFolder
from dlintro.data.image_file import Greys
from dlintro.errors import RunError, UsageError


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def save(path: Path, array: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(6, 8, 3) if array is None else array).save(path)
    return path


def make(root: Path, *splits: str, num: int = 10, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    """Write images whose names give each class, without a test folder, one test image of 3 or 10, and two of 20."""
    for split in splits or ("",):
        for label, name in enumerate(classes):
            for n in range(num):
                save(root / split / name / f"23_{2 * n + label:03}.png", pixels(6, 8, 3, seed=100 * label + n))
    return root


def test_train_and_test_folders_come_through_bit_for_bit(tmp_path: Path) -> None:
    source = ImageFolder(make(tmp_path, "train", "test"))
    facts = source.facts
    assert (facts.image_shape, facts.class_names, facts.val_size) == ((3, 6, 8), ("cat", "dog"), None)
    assert facts.sizes == {"train": 20, "test": 20}, "validation is left to the data module: 10 % of each class"
    images, labels = source.load(in_ram=True)["train"]
    assert images.dtype == torch.uint8 and labels.dtype == torch.int64
    assert labels.tolist() == [0, 1] * 10, "by file name, then class"
    assert torch.equal(images[3], torch.from_numpy(pixels(6, 8, 3, seed=101)).permute(2, 0, 1))


@pytest.mark.parametrize("image_size", [None, 5])
def test_a_folder_that_stays_on_disk_gives_the_pixels_that_ram_gives_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_size: int | None
) -> None:
    monkeypatch.setenv("DLINTRO_DATA", str(tmp_path / "cache"))
    source = ImageFolder(make(tmp_path / "images", "train", "val", "test"), image_size)
    in_ram, on_disk = source.load(in_ram=True), source.load(in_ram=False)
    assert set(on_disk) == {"train", "val", "test"}
    for split, (images, labels) in on_disk.items():
        assert torch.equal(images[:], in_ram[split][0]) and torch.equal(labels, in_ram[split][1])
    assert not (tmp_path / "cache").exists()


def test_a_file_that_changes_or_breaks_while_it_stays_on_disk_is_named(tmp_path: Path) -> None:
    source = ImageFolder(make(tmp_path, "train", "test"), skip_broken=True)
    images, _ = source.load(in_ram=False)["train"]
    path = images.paths[3]
    save(path, pixels(6, 8, 3, seed=1_000))
    with pytest.raises(RunError, match=f"{path}: changed while the images were being read"):
        images[3]


def test_a_folder_without_splits_is_divided_and_says_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = ImageFolder(make(tmp_path, num=20))
    assert source.facts.sizes == {"train": 32, "val": 4, "test": 4}
    assert "4 of the 40 images are test images (cat 2, dog 2), 4 of the others are validation images" in caplog.text
    for split, (_, labels) in source.load(in_ram=True).items():
        assert labels.bincount().tolist() == [source.facts.sizes[split] // 2] * 2
    taken = [path for labelled in source.files.values() for path, _ in labelled]
    assert len(taken) == len(set(taken)) == 40
    assert ImageFolder(tmp_path).files == source.files, "the same division each time"


def test_a_folder_with_train_and_val_takes_its_test_images_from_train(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert ImageFolder(make(tmp_path, "train", "val")).facts.sizes == {"train": 18, "val": 20, "test": 2}
    assert "no test folder" in caplog.text


def test_a_folder_with_train_alone_is_divided(tmp_path: Path) -> None:
    assert ImageFolder(make(tmp_path, "train")).facts.sizes == {"train": 16, "val": 2, "test": 2}


def test_val_size_sets_the_number_of_validation_images(tmp_path: Path) -> None:
    assert ImageFolder(make(tmp_path / "a"), val_size=6).facts.sizes == {"train": 12, "val": 6, "test": 2}
    b = make(tmp_path / "b", "train", "val", "test")
    assert ImageFolder(b, val_size=6).facts.sizes == {"train": 20, "val": 6, "test": 20}
    with pytest.raises(UsageError, match=r"data.val_size=21: .* has 20 images"):
        ImageFolder(b, val_size=21)
    with pytest.raises(UsageError, match="no image is left to train on in 2 of the classes"):
        ImageFolder(tmp_path / "a", val_size=18)


def test_every_small_class_is_in_every_split(tmp_path: Path) -> None:
    for labels in (labels for _, labels in ImageFolder(make(tmp_path, num=3)).load(in_ram=True).values()):
        assert sorted(labels.tolist()) == [0, 1]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert ImageFolder(make(tmp_path, classes=("plane", "train"))).facts.class_names == ("plane", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "there is no such folder"),
        (["a.png"], "has no folders in it"),
        (["cat/a.png"], r"has only one folder \(cat\) in it; .* and name the folder above these$"),
        (
            ["images/a.png", "t.csv"],
            r"has only one folder .*; if t.csv has the labels, add data.labels=.*/images/t.csv",
        ),
        (["cat/a.png", "dog/readme.txt"], r"no image in the class folder .*dog .*; 1 other file skipped \(.txt 1\)"),
        (["train/cat/a.png", "train/dog/a.png", "test/cat/a.png", "test/cow/a.png"], "has the class cow"),
        (["train/cat/a.png", "train/dog/a.png", "test/cat/a.png", "test/dog/.DS_Store"], "no image in .*test/dog"),
        (["test/cat/a.png", "test/dog/a.png"], "no class folders in .*/train"),
        (["train/a.png", "test/cat/a.png"], "no class folders in .*/train"),
    ],
)
def test_a_wrong_layout_is_one_line_that_names_it(tmp_path: Path, files: list[str], message: str) -> None:
    root = tmp_path / "images"
    for name in files:
        if name.endswith(".png"):
            save(root / name)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("not an image")
    with pytest.raises(UsageError, match=message) as error:
        ImageFolder(root)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_a_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: this is a file; name the folder above the class folders"):
        ImageFolder(tmp_path / "a.png")


def test_a_folder_beside_train_and_test_is_said_to_be_unread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "train", "test")
    save(tmp_path / "masks" / "0.png")
    assert set(ImageFolder(tmp_path).facts.sizes) == {"train", "test"}
    assert "not masks" in caplog.text


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("TRAIN", "valid", "TEST")],
)
def test_a_part_may_be_spelt_in_several_ways(tmp_path: Path, train: str, val: str, test: str) -> None:
    make(tmp_path, train, num=4)
    make(tmp_path, val, num=3)
    make(tmp_path, test, num=2)
    source = ImageFolder(tmp_path)
    assert source.facts.class_names == ("cat", "dog")
    assert source.facts.sizes == {"train": 8, "val": 6, "test": 4}
    assert {path.parts[-3] for path, _ in source.files["test"]} == {test}
    with pytest.raises(UsageError, match=f"data.val_size=7: {tmp_path}/{val} has 6 images"):
        ImageFolder(tmp_path, val_size=7)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            ("Train", "train", "test"),
            "Train and train are two names of one part; put their images into one",
        ),
        (("train", "val", "valid"), "val and valid are two names of one part"),
        (("train", "holdout"), "the folder holdout beside train has class folders too"),
        (("training_set", "test_set"), "test_set, training_set: this looks like a part of a set and not like a class"),
        (("seg_train", "seg_test"), "name the parts train, val and test"),
        (("Test", "cat", "dog"), "Test: this looks like a part of a set"),
        (("Val", "Test"), "there are no class folders in .*/train"),
    ],
)
def test_what_looks_like_a_part_but_is_none_is_refused_by_name(
    tmp_path: Path, parts: tuple[str, ...], message: str
) -> None:
    make(tmp_path, *parts, num=1)
    with pytest.raises(UsageError, match=f"data.path={tmp_path}: .*{message}") as error:
        ImageFolder(tmp_path)
    assert "\n" not in str(error.value)


def test_classes_may_be_called_like_parts(tmp_path: Path) -> None:
    classes = ("Test", "training", "valid", "x")
    assert ImageFolder(make(tmp_path, classes=classes)).facts.class_names == classes
    save(tmp_path / "x" / "side view" / "0.png")
    assert ImageFolder(tmp_path).facts.class_names == classes


@pytest.mark.parametrize("val", [(), ("val",)])
def test_a_test_folder_without_classes_is_for_predict(
    tmp_path: Path, val: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make(tmp_path, "train", *val, num=20)
    for n in range(3):
        save(tmp_path / "Test" / f"{n}.jpg", pixels(6, 8, 3, seed=n))
    source = ImageFolder(tmp_path)
    assert f"{tmp_path}/Test has no class folders, so its 3 images have no labels" in caplog.text
    assert f"predict last {tmp_path}/Test classifies these" in caplog.text
    assert set(source.facts.sizes) == {"train", "val", "test"}
    assert all("/train/" in str(path) for path, _ in source.files["test"])
    shutil.rmtree(tmp_path / "Test")
    assert ImageFolder(tmp_path).files == source.files


def test_one_line_says_what_was_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make(tmp_path, "train", "test")
    save(tmp_path / "train" / "cat" / "large.png", pixels(60, 80, 3))
    (tmp_path / "train" / "cat" / "a.psd").touch()
    ImageFolder(tmp_path).load(in_ram=True)
    assert (
        f"{tmp_path}: 41 images of 2 classes read, 1 other file skipped (.psd 1): cat 21, dog 20; 2 sizes from 8 x 6 "
        f"to 80 x 60 pixels, colour of 8 bits; 21 to train and validate, 20 to test"
    ) in caplog.text
    assert f"{tmp_path}: the pixels use the values from 1 to 254, of 0 to 255" in caplog.text


def test_the_training_images_of_more_than_8_bits_decide_the_greys_of_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for split, high in (("train", 3000), ("val", 4000), ("test", 60_000)):
        for name in ("a", "b"):
            save(tmp_path / split / name / "0.png", np.array([[0, 7, 2048, high]], np.uint16))
    save(tmp_path / "train" / "a" / "1.png", np.array([[0, 7, 128, 255]], np.uint8))
    source = ImageFolder(tmp_path)
    assert source.facts.greys == Greys(0, 4095) and source.facts.image_shape == (1, 1, 4)
    said = "greys of more than 8 bits with values from 0 to 4000, of which 0 becomes black (0) and 4095 white (255)"
    assert said in caplog.text
    loaded = source.load(in_ram=True)
    assert loaded["train"][0][:, 0, 0].tolist() == [[0, 0, 128, 187], [0, 0, 128, 187], [0, 7, 128, 255]]
    assert loaded["test"][0][:, 0, 0].tolist() == [[0, 0, 128, 255]] * 2
    before = source.facts.fingerprint
    save(tmp_path / "train" / "a" / "0.png", np.array([[0, 7, 2048, 5000]], np.uint16))
    assert ImageFolder(tmp_path).facts.greys == Greys(0, 8191) and ImageFolder(tmp_path).facts.fingerprint != before


def test_colours_of_16_bits_are_said_to_be_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of 12-bit colours in 16 bits, 16 levels would be left, and nobody would know."""
    make(tmp_path, "train", "test")
    ImageFolder(tmp_path)
    assert "16 bits" not in caplog.text
    file = png_of_16_bits(np.full((6, 8, 3), 0x0FFF, ">u2"))
    (tmp_path / "train" / "cat" / "deep.png").write_bytes(file)
    source = ImageFolder(tmp_path)
    assert f"{tmp_path}: 1 images have colours of 16 bits, of which the upper 8 are read" in caplog.text
    index = [path.name for path, _ in source.files["train"]].index("deep.png")
    assert (source.load(in_ram=True)["train"][0][index] == 15).all()


def png_of_16_bits(pixels_HWC: np.ndarray) -> bytes:
    """PIL can't write one."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels_HWC.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels_HWC)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_hidden_files_and_other_files_are_not_images(tmp_path: Path) -> None:
    make(tmp_path, "train", "test")
    (tmp_path / "train" / "cat" / "._000.png").write_bytes(b"macOS leaves these")
    (tmp_path / "train" / "cat" / "notes.txt").write_text("hello")
    save(tmp_path / "train" / "dog" / "more" / "deep.PNG")
    save(tmp_path / "train" / ".thumbnails" / "000.png")
    assert ImageFolder(tmp_path).facts.sizes["train"] == 21


def test_how_much_was_read_and_what_was_skipped_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make(tmp_path, "train", "test")
    ImageFolder(tmp_path)
    assert "40 images of 2 classes read" in caplog.text and "skipped" not in caplog.text
    for name in ("a.HEIC", "b.heic", "notes.txt", "README", ".DS_Store"):
        (tmp_path / "train" / "cat" / name).touch()
    ImageFolder(tmp_path)
    assert "40 images of 2 classes read, 4 other files skipped (.heic 2, .txt 1, without an ending 1" in caplog.text


BROKEN = {"zero bytes": b"", "text": b"this is text", "truncated": None}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_in_one_line_or_left_out(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "images", "train", "test")
    bad = root / "train" / "dog" / "23_005.png"
    data = BROKEN[kind]
    bad.write_bytes(bad.read_bytes()[:-60] if data is None else data)
    with pytest.raises(RunError, match=r"005.png.*data.skip_broken=true") as error:
        ImageFolder(root).load(in_ram=True)
    assert "\n" not in str(error.value)
    source = ImageFolder(root, skip_broken=True)
    images, labels = source.load(in_ram=True)["train"]
    assert len(images) == len(labels) == source.facts.sizes["train"] == 19
    assert labels.tolist() == [0, 1, 0, 1, 0] + [0, 1] * 7, "a label stays with its image"
    assert torch.equal(images[5], torch.from_numpy(pixels(6, 8, 3, seed=3)).permute(2, 0, 1))
    assert "1 broken image is left out" in caplog.text


def test_an_image_that_turns_out_to_be_broken_on_disk_cant_be_left_out_any_more(tmp_path: Path) -> None:
    root = make(tmp_path, "train", "test")
    bad = root / "train" / "dog" / "23_005.png"
    bad.write_bytes(bad.read_bytes()[:-60])
    for skip_broken, hint in ((False, "data.skip_broken=true"), (True, "pack the set with data.skip_broken=true")):
        images, _ = ImageFolder(root, skip_broken=skip_broken).load(in_ram=False)["train"]
        with pytest.raises(RunError, match=f"{bad}: .*{hint}"):
            images[:]


def test_a_folder_of_nothing_but_broken_images_is_an_error(tmp_path: Path) -> None:
    root = make(tmp_path, "train", "test", num=1)
    for path in (root / "train").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(RunError, match="none of the 2 train images"):
        ImageFolder(root, skip_broken=True).load(in_ram=True)


def test_grey_images_keep_one_channel_and_one_colour_image_makes_three(tmp_path: Path) -> None:
    for n, mode in enumerate(("1", "L", "LA", "I;16")):
        image = Image.new(mode, (6, 6), 60_000 if mode == "I;16" else 1)
        folder = tmp_path / "train" / "ab"[n % 2]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{n}.png")
        save(tmp_path / "test" / "ab"[n % 2] / f"{n}.png", pixels(6, 6))
    assert ImageFolder(tmp_path).facts.image_shape == (1, 6, 6)
    save(tmp_path / "train" / "a" / "colour.png", pixels(6, 6, 3))
    source = ImageFolder(tmp_path)
    assert source.facts.image_shape == (3, 6, 6)
    assert all(images.shape[1] == 3 for images, _ in source.load(in_ram=True).values())


def one(tmp_path: Path, image: Image.Image, **options: object) -> torch.Tensor:
    """Read `image` from a folder of images like it."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            image.save(tmp_path / split / name / f"0.{options.get('format', 'png')}", **options)  # type: ignore[arg-type]
    return ImageFolder(tmp_path).load(in_ram=True)["train"][0][0]


def test_sixteen_bit_greys_are_scaled_to_eight(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 65_535 - 128, 65_535]], np.uint16)
    assert one(tmp_path, Image.fromarray(values)).tolist() == [[[0, 0, 1, 1, 255, 255]]]


def test_what_is_transparent_shows_white_and_what_is_opaque_is_unchanged(tmp_path: Path) -> None:
    rgba = np.dstack([pixels(4, 4, 3), np.full((4, 4), 255, np.uint8)])
    rgba[0, :, 3] = 0
    image = one(tmp_path / "rgba", Image.fromarray(rgba))
    assert (image[:, 0] == 255).all()
    assert torch.equal(image[:, 1:], torch.from_numpy(rgba[1:, :, :3]).permute(2, 0, 1))
    grey = np.dstack([pixels(4, 4), np.full((4, 4), 255, np.uint8)])
    assert torch.equal(one(tmp_path / "la", Image.fromarray(grey))[0], torch.from_numpy(grey[..., 0]))


def test_a_palette_image_has_its_palettes_colours(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(4, 4) % 3)
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colours = one(tmp_path / "opaque", image.copy())
    assert torch.equal(colours[0], torch.from_numpy(np.array(image)) * 30 + 10)
    see_through = one(tmp_path / "transparent", image, transparency=0)
    assert (see_through.permute(1, 2, 0)[torch.from_numpy(np.asarray(image) == 0)] == 255).all()


def test_a_photograph_taken_upright_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    array = np.zeros((16, 32, 3), np.uint8)
    array[:, 16:] = 255
    image = one(tmp_path, Image.fromarray(array), format="jpeg", exif=exif)
    assert image.shape == (3, 32, 16) and image[:, :12].max() < 20 and image[:, 20:].min() > 235


def test_images_of_several_sizes_are_cropped_and_resized_to_64_and_it_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make(tmp_path, "train", "test")
    wide = np.zeros((50, 150, 3), np.uint8)
    wide[:, 50:100] = 200  # its middle square
    save(tmp_path / "train" / "cat" / "23_000.png", wide)
    source = ImageFolder(tmp_path)
    assert source.facts.image_shape == (3, 64, 64) and "resized to 64 x 64" in caplog.text
    assert source.load(in_ram=True)["train"][0][0].float().mean() > 198


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    for split in ("train", "test"):
        for name in ("a", "b"):
            save(tmp_path / split / name / "0.png", stripes)
    images, _ = ImageFolder(tmp_path, image_size=8).load(in_ram=True)["train"]
    assert images.shape == (2, 1, 8, 8) and (images.float() - 127.5).abs().max() < 10


def test_an_image_too_large_is_named(tmp_path: Path) -> None:
    make(tmp_path, "train", "test")
    for width, height in ((16_385, 1), (17_000, 17_000), (30_000, 30_000)):
        (tmp_path / "train" / "dog" / "big.pgm").write_text(f"P5 {width} {height} 255\n")  # a header is enough
        with pytest.raises(RunError, match=r"big\.pgm.*smaller"):
            ImageFolder(tmp_path, skip_broken=True)
    (tmp_path / "train" / "dog" / "big.pgm").write_text("P5 16384 16384 255\n")
    assert ImageFolder(tmp_path).facts.image_shape == (3, 64, 64)


def test_how_much_memory_it_takes_is_said_before_decoding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = ImageFolder(make(tmp_path, "train", "test"), image_size=100)
    assert source.facts.num_bytes == 40 * 30_000
    source.load(in_ram=True)
    assert "40 images of 3 x 100 x 100 take 1.2 MB of memory" in caplog.text


NAMES = st.lists(
    st.binary(min_size=1, max_size=40).filter(lambda name: not {0, ord("/")} & set(name) and name[0] != ord(".")),
    min_size=2,
    max_size=3,
    unique=True,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=NAMES)
def test_class_folders_may_have_any_name_that_the_disk_takes(tmp_path: Path, names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as root:
        for name in names:
            for split in ("train", "test"):
                folder = Path(root, split, os.fsdecode(name))
                folder.mkdir(parents=True)
                for n in range(3):
                    Image.new("L", (2, 2), n).save(folder / f"{n}.png")
        source = ImageFolder(root)
        assert len(source.facts.class_names) == len(names)
        "".join(source.facts.class_names).encode()  # can be printed and stored
        assert sorted(source.load(in_ram=True)["train"][1].tolist()) == sorted(3 * list(range(len(names))))
        "".join(source.facts.images["train"]).encode()
        Path(root, "train", os.fsdecode(names[0]), "0.png").write_text("broken")
        with pytest.raises(RunError) as error:
            ImageFolder(root)
        assert str(error.value).isprintable()


def test_a_folder_within_a_class_that_is_a_link_is_not_silently_left_out(tmp_path: Path) -> None:
    root = make(tmp_path / "set")
    (tmp_path / "more").mkdir()
    (root / "cat" / "more").symlink_to(tmp_path / "more")
    with pytest.raises(UsageError, match=r"cat/more is a link to a folder"):
        ImageFolder(root)


def test_a_folder_within_a_class_that_cant_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "set")
    (root / "cat" / "part2").mkdir()
    scandir = os.scandir

    def denied(path: Any) -> Any:  # root may read everything
        if str(path).endswith("part2"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(UsageError, match=r"cat/part2 can't be read \(Permission denied\)"):
        ImageFolder(root)


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    root = make(tmp_path / "set")
    os.mkfifo(root / "cat" / "pipe.png")
    with pytest.raises(RunError, match=r"pipe\.png: not a file"):
        ImageFolder(root)


def test_the_fingerprint_is_of_names_and_contents(tmp_path: Path) -> None:
    root = make(tmp_path / "set", "train", "test")
    first = ImageFolder(root).facts.fingerprint
    assert ImageFolder(root).facts.fingerprint == first
    assert ImageFolder(root, val_size=4).facts.fingerprint == first, "how they are divided is a setting"
    bmp = save(root / "train" / "cat" / "one.bmp", pixels(4, 4, 3))
    second = ImageFolder(root).facts.fingerprint
    before = bmp.stat()
    save(bmp, pixels(4, 4, 3, seed=1))
    os.utime(bmp, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert bmp.stat().st_size == before.st_size
    third = ImageFolder(root).facts.fingerprint
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "zebra")
    assert len({first, second, third, ImageFolder(root).facts.fingerprint}) == 4


def names(source: ImageFolder, split: str) -> set[str]:
    return {path.relative_to(source.root).as_posix() for path, _ in source.files[split]}


@pytest.mark.parametrize("splits", [(), ("train",), ("train", "val")])
def test_a_grown_folder_moves_no_image_into_the_test_part_or_out_of_it(tmp_path: Path, splits: tuple[str, ...]) -> None:
    root = make(tmp_path / "set", *splits, num=60)
    before = ImageFolder(root)
    others, test = names(before, "train") | names(before, "val"), names(before, "test")
    for growth in (1, 10, 60):
        for name in ("cat", "dog"):
            for n in range(growth):
                save(root / (splits[0] if splits else "") / name / f"{growth}-{n}.png", pixels(6, 8, 3, seed=n))
        grown = ImageFolder(root)
        assert others <= names(grown, "train") | names(grown, "val")
        assert test == names(grown, "test") & (others | test)


def test_one_in_ten_is_a_test_image_whatever_the_names(tmp_path: Path) -> None:
    for form in ("cat/{}.png", "dog/IMG_{:05}.jpg", "x/y/{:x}"):
        share = sum(is_test(form.format(n)) for n in range(20_000)) / 20_000
        assert abs(share - 0.1) < 4 * (0.1 * 0.9 / 20_000) ** 0.5
    share = int.from_bytes(hashlib.sha256(b"cat/1.png").digest()[:8], "big") / 2**64
    assert is_test("cat/1.png") == (share < 0.1), (
        "fixed: another rule would test old models on what they were trained on"
    )
    assert [n for n in range(40) if is_test(f"cat/{n}.png")] == [8, 10, 29, 30]


def test_a_class_without_a_test_image_is_refused_with_the_remedy(tmp_path: Path) -> None:
    root = make(tmp_path / "set", num=10)
    for path in (root / "dog").iterdir():
        if is_test(f"dog/{path.name}"):
            path.unlink()
    with pytest.raises(
        UsageError,
        match=r"none is in the class dog; add images of it, or put test images of every class into .*/set/test,",
    ):
        ImageFolder(root)
    make(root, "train", "test")
    shutil.rmtree(root / "cat")
    shutil.rmtree(root / "dog")
    assert ImageFolder(root).facts.sizes == {"train": 20, "test": 20}


def test_the_counts_of_many_classes_are_said_as_a_range(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for label in range(12):
        tests = [n for n in range(100) if is_test(f"{label}/{n}.png")][: 1 + label % 2]
        rest = [n for n in range(100) if not is_test(f"{label}/{n}.png")][:5]
        for n in tests + rest:
            save(tmp_path / str(label) / f"{n}.png")
    ImageFolder(tmp_path)
    assert "18 of the 78 images are test images (the smallest class 0 1, the largest 1 2)" in caplog.text


@pytest.mark.parametrize("splits", [(), ("train", "test")])
def test_the_same_bytes_in_train_and_test_are_counted(
    tmp_path: Path, splits: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "set", *splits, num=20)
    if splits:  # `make` puts the same images into both
        for n, path in enumerate(sorted((root / "test").rglob("*.png"))):
            save(path, pixels(6, 8, 3, seed=10_000 + n))
    source = ImageFolder(root)
    assert "byte for byte" not in caplog.text
    for n in (0, 1):
        shutil.copy(source.files["train"][n][0], source.files["test"][n][0])
    ImageFolder(root)
    num = len(source.files["test"])
    assert (
        f"2 of the {num} test images are also training or validation images, byte for byte (the first: " in caplog.text
    )
    assert caplog.text.count("byte for byte") == 1


def test_an_image_that_changes_between_the_first_look_and_the_decoding_is_noticed(tmp_path: Path) -> None:
    """Otherwise the fingerprint would not be that of the images that are trained on."""
    root = make(tmp_path / "set")
    source = ImageFolder(root)
    save(root / "cat" / "23_000.png", pixels(6, 8, 3, seed=5))
    with pytest.raises(RunError, match=r"23_000\.png: changed while the images were being read"):
        source.load(in_ram=True)
