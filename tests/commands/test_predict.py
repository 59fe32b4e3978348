"""scripts/predict: what the model is given, what is printed, and the exit status."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dlintro.commands.digits import reads_mnist, to_mnist
from dlintro.commands.predict import main, read_image
from dlintro.data import ImageDataModule
from dlintro.data.official import Official
from dlintro.models import FlatNet
from dlintro.run.restore import load_run
from tests.trained import MNIST, SYNTHETIC, train_run

Pixels = NDArray[np.uint8]
Captured = pytest.CaptureFixture[str]
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def mnist_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("predict") / "run", *MNIST)


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For photos of 12x8 pixels (height x width)."""
    return train_run(tmp_path_factory.mktemp("predict") / "run", *SYNTHETIC, "data.shape=[3,12,8]")


@pytest.fixture(scope="module")
def mnist() -> tuple[torch.Tensor, torch.Tensor]:
    """The test images and labels."""
    data = ImageDataModule("mnist")
    data.prepare_data()
    data.setup()
    return data.test.images_NCHW, data.test.labels_N


def drawn(
    digit: str, paper: int | tuple[int, ...], pen: int | tuple[int, ...], size: tuple[int, int] = (300, 400)
) -> Image.Image:
    """A digit in the lower right of the paper."""
    image = Image.new("L" if isinstance(paper, int) else "RGB", size, paper)
    ImageDraw.Draw(image).text((size[0] // 2, size[1] // 2), digit, fill=pen, font=ImageFont.load_default(size[0] // 2))
    return image


def answers(capsys: Captured, *words: object) -> dict[str, dict[str, object]]:
    """file name -> its JSON, of a command in which all is well."""
    assert main([*map(str, words), "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    return {Path(image["file"]).name: image for image in json.loads(said.out)["images"]}


# What the model is given.


def test_an_mnist_image_passes_through_bit_for_bit(mnist: tuple[torch.Tensor, torch.Tensor]) -> None:
    for image_1HW in mnist[0][:500].numpy():
        digit = to_mnist(image_1HW[0])
        assert digit.prepared == "as it is" and np.array_equal(digit.pixels_HW, image_1HW[0])
        digit = to_mnist(255 - image_1HW[0])
        assert digit.prepared == "inverted" and np.array_equal(digit.pixels_HW, image_1HW[0])


def test_mnist_files_get_the_probabilities_of_the_mnist_images(
    mnist_run: Path, mnist: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, capsys: Captured
) -> None:
    images_B1HW = mnist[0][:5]
    for n, image_1HW in enumerate(images_B1HW.numpy()):
        Image.fromarray(image_1HW[0]).save(tmp_path / f"{n}.png")
        Image.fromarray(image_1HW[0]).convert("RGB").save(tmp_path / f"{n}.bmp")
    said = answers(capsys, mnist_run, tmp_path)
    assert list(said) == sorted(said) and len(said) == 10
    model, _ = load_run(mnist_run)
    with torch.no_grad():
        expected_BK = model(images_B1HW).softmax(1)
    for n, expected_K in enumerate(expected_BK.tolist()):
        for name in (f"{n}.png", f"{n}.bmp"):
            assert list(said[name]["probabilities"].values()) == pytest.approx(expected_K, abs=1e-6)
            assert said[name]["prepared"] == "as it is"


def test_a_dark_digit_on_light_paper_is_what_the_light_one_on_dark_is(
    mnist_run: Path, tmp_path: Path, capsys: Captured
) -> None:
    drawn("4", 0, 255).save(tmp_path / "light.png")
    drawn("4", 255, 0).save(tmp_path / "dark.png")
    said = answers(capsys, mnist_run, tmp_path)
    assert said["light.png"]["prepared"] == "centred" and said["dark.png"]["prepared"] == "inverted, centred"
    assert said["light.png"]["probabilities"] == said["dark.png"]["probabilities"]


@pytest.mark.parametrize("size", [(300, 400), (60, 60), (28, 28), (3000, 1500)])
@pytest.mark.parametrize("digit", ["1", "2", "7"])
def test_a_drawn_digit_is_placed_as_mnists_are(size: tuple[int, int], digit: str) -> None:
    found = to_mnist(np.asarray(drawn(digit, 230, 30, size)))
    pixels = found.pixels_HW
    assert found.prepared == "inverted, centred"
    assert pixels.shape == (28, 28) and pixels.max() >= 254
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20, "the longer side"
    for axis, length in ((0, len(rows)), (1, len(columns))):
        mass = pixels.sum(1 - axis) @ np.arange(28) / pixels.sum()
        assert abs(mass - 14) <= 0.51, (axis, length)


def test_a_large_digit_is_made_small_with_greys_as_mnists_were() -> None:
    pixels = to_mnist(np.asarray(drawn("8", 255, 0, (900, 900)))).pixels_HW
    assert len(np.unique(pixels)) > 50, "antialiased"


def test_a_digit_keeps_its_proportions() -> None:
    tall = np.zeros((100, 100), np.uint8)
    tall[10:90, 60:70] = 255
    pixels = to_mnist(tall).pixels_HW
    assert (pixels.any(1).sum(), pixels.any(0).sum()) == (20, 2)


def test_photographed_mnist_digits_are_read_like_the_originals(
    mnist_run: Path, mnist: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Enlarged, put anywhere on grey paper in a shaded, noisy picture."""
    draw = np.random.default_rng(0)
    photographed = []
    for image_1HW in mnist[0][:200].numpy():
        sheet = Image.new("L", (400, 330))
        large = Image.fromarray(image_1HW[0]).resize((224, 224), Image.Resampling.BICUBIC)
        sheet.paste(large, (int(draw.integers(170)), int(draw.integers(100))))
        shade, noise = np.linspace(0, 20, 400), draw.normal(0, 4, (330, 400))
        photo = (200 - 0.6 * np.asarray(sheet) + shade + noise).clip(0, 255).astype(np.uint8)
        photographed.append(to_mnist(photo).pixels_HW[None])
    model, _ = load_run(mnist_run)
    with torch.no_grad():
        originals, photos = (model(x).argmax(1) for x in (mnist[0][:200], torch.from_numpy(np.stack(photographed))))
    assert (originals == photos).float().mean() > 0.9
    right, right_photos = ((x == mnist[1][:200]).float().mean() for x in (originals, photos))
    assert right_photos > right - 0.05


def test_a_model_of_resized_mnist_gets_digits_resized_as_its_data_was(
    mnist: tuple[torch.Tensor, torch.Tensor], tmp_path: Path
) -> None:
    Image.fromarray(255 - mnist[0][0, 0].numpy()).save(tmp_path / "seven.png")
    seen = read_image(tmp_path / "seven.png", (1, 32, 32), mnist=True)
    source = Official("mnist", image_size=32)
    expected_N1HW, _ = source.load(in_ram=True)["test"]
    assert seen.prepared == "inverted" and torch.equal(seen.image_CHW, expected_N1HW[0])


def test_only_models_trained_on_mnist_get_digits_prepared(mnist_run: Path, colour_run: Path) -> None:
    assert reads_mnist(load_run(mnist_run)[0])
    assert not reads_mnist(load_run(colour_run)[0])
    model = FlatNet()
    model.pixels.set_statistics([0.2860406], [0.353])
    assert not reads_mnist(model), "Fashion-MNIST, whose classes nobody named"
    model.pixels.set_statistics([0.1306605], [0.308])
    assert reads_mnist(model)
    assert not reads_mnist(FlatNet([1, 28, 28], 10, class_names=list("abcdefghij")))


def test_a_photo_is_resized_from_its_middle_in_its_proportions(
    colour_run: Path, tmp_path: Path, capsys: Captured
) -> None:
    small, large = np.zeros((12, 8, 3), np.uint8), np.zeros((120, 400, 3), np.uint8)
    small[:] = large[:, 150:250] = (200, 100, 50)  # a little more than the middle: antialiasing looks there
    Image.fromarray(small).save(tmp_path / "small.png")
    Image.fromarray(large).save(tmp_path / "large.png")
    Image.fromarray(small[:, :, 0]).save(tmp_path / "grey.png")
    said = answers(capsys, colour_run, tmp_path)
    assert [said[name]["prepared"] for name in ("small.png", "large.png")] == ["as it is", "resized"]
    assert said["small.png"]["probabilities"] == pytest.approx(said["large.png"]["probabilities"])


# Transparent drawings and uneven light.


def ink_on_nothing(ink: int, opacity: float = 1.0) -> Image.Image:
    """A 4 in RGBA, of one grey, on transparent paper of the other one."""
    image = Image.new("RGBA", (300, 300), (255 - ink,) * 3 + (0,))
    alpha = drawn("4", 0, round(255 * opacity), (300, 300))
    image.paste((ink,) * 3, (0, 0, 300, 300), alpha.point(bool, "1"))
    image.putalpha(alpha)
    return image


TRANSPARENT = {
    "white.png": lambda: ink_on_nothing(255),
    "black.png": lambda: ink_on_nothing(0),
    "light grey.png": lambda: ink_on_nothing(170),
    "dark grey.png": lambda: ink_on_nothing(85),
    "half white.png": lambda: ink_on_nothing(255, 0.5),
    "half black.png": lambda: ink_on_nothing(0, 0.3),
    "white LA.png": lambda: ink_on_nothing(255).convert("LA"),
    "black LA.png": lambda: ink_on_nothing(0).convert("LA"),
    "white palette.png": lambda: ink_on_nothing(255).quantize(16),
    "black palette.png": lambda: ink_on_nothing(0).quantize(16),
    "white.webp": lambda: ink_on_nothing(255),
    "white.gif": lambda: ink_on_nothing(255).quantize(8),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_drawing_on_transparent_paper_is_read_whatever_its_ink(
    mnist_run: Path, tmp_path: Path, capsys: Captured, name: str
) -> None:
    drawn("4", 0, 255, (300, 300)).save(tmp_path / "opaque.png")
    options = {"lossless": True} if name.endswith("webp") else {}
    TRANSPARENT[name]().save(tmp_path / name, **options)
    said = answers(capsys, mnist_run, tmp_path)
    opaque, transparent = (list(said[file]["probabilities"].values()) for file in ("opaque.png", name))
    assert transparent == pytest.approx(opaque, abs=0.03)


def test_a_cut_out_sheet_keeps_its_own_paper(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    """A dark digit on a white sheet, and a light one on a black sheet, with nothing around."""
    for name, paper, ink in (("white", 255, 0), ("black", 0, 255)):
        sheet = Image.new("RGBA", (400, 400), (0, 0, 0, 0))
        ImageDraw.Draw(sheet).rounded_rectangle((30, 30, 370, 370), 60, fill=(paper,) * 3 + (255,))
        sheet.paste((ink,) * 3 + (255,), (40, 0), drawn("4", 0, 255, (300, 300)))
        sheet.save(tmp_path / f"{name}.png")
    drawn("4", 0, 255, (300, 300)).save(tmp_path / "opaque.png")
    said = answers(capsys, mnist_run, tmp_path)
    for name in ("white.png", "black.png"):
        probabilities = list(said[name]["probabilities"].values())
        assert probabilities == pytest.approx(list(said["opaque.png"]["probabilities"].values()), abs=0.03)


def test_a_picture_without_a_visible_pixel_has_nothing_drawn_in_it(
    mnist_run: Path, tmp_path: Path, capsys: Captured
) -> None:
    Image.new("RGBA", (50, 50), (255, 0, 0, 0)).save(tmp_path / "empty.png")
    assert main([str(mnist_run), str(tmp_path / "empty.png")]) == 1
    assert "nothing is drawn in it" in capsys.readouterr().err


@pytest.mark.parametrize("paper", ["light", "dark"])
def test_digits_on_a_sheet_in_uneven_light_are_read_like_the_originals(
    mnist_run: Path, mnist: tuple[torch.Tensor, torch.Tensor], paper: str
) -> None:
    """One side of the sheet is darker than the pen on the other side."""
    draw = np.random.default_rng(0)
    photographed = []
    for image_1HW in mnist[0][:100].numpy():
        sheet = np.zeros((330, 400), np.float32)
        row, column = draw.integers(20, 80), draw.integers(20, 150)
        large = Image.fromarray(image_1HW[0]).resize((224, 224), Image.Resampling.BICUBIC)
        sheet[row : row + 224, column : column + 224] = np.asarray(large)
        light = 70 * np.linspace(-1, 1, 400) + 40 * np.linspace(-1, 1, 330)[:, None] ** 2
        photo = (160 + light - 0.4 * sheet + draw.normal(0, 4, sheet.shape)).clip(0, 255).astype(np.uint8)
        photographed.append(to_mnist(photo if paper == "light" else 255 - photo).pixels_HW[None])
    model, _ = load_run(mnist_run)
    with torch.no_grad():
        originals, photos = (model(x).argmax(1) for x in (mnist[0][:100], torch.from_numpy(np.stack(photographed))))
    assert (originals == photos).float().mean() >= 0.85


# More than one digit in a picture, files that are left out, and what the model saw.


def test_several_digits_in_one_picture_are_said(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("42", 255, 0, (400, 400)).save(tmp_path / "two.png")
    drawn("4", 255, 0).save(tmp_path / "one.png")
    said = answers(capsys, mnist_run, tmp_path)
    assert said["two.png"]["several_digits"] is True and said["one.png"]["several_digits"] is False
    assert main([str(mnist_run), str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 of the 2 images: there seems to be more than one digit in it" in out and f"({tmp_path}/two.png)" in out


def test_several_digits_are_no_question_to_other_models(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("42", 255, 0, (400, 400)).save(tmp_path / "two.png")
    assert answers(capsys, colour_run, tmp_path)["two.png"]["several_digits"] is False


def test_files_of_a_folder_that_are_not_read_are_counted(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    for name in ("a.png", "b.JPG", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        drawn("1", (0, 0, 0), (255, 255, 255)).save(tmp_path / name)
    (tmp_path / "broken.png").touch()
    for name in ("x.txt", "sub/y.TXT", "z.heic", "README", ".hidden.txt"):
        (tmp_path / name).touch()
    assert main([str(colour_run), str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "3 images read, 1 not readable, 4 other files skipped (.txt 2, " in out and ".heic 1" in out
    assert "without an ending 1" in out
    assert main([str(colour_run), str(tmp_path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["skipped"] == {".txt": 2, ".heic": 1, "without an ending": 1}
    assert main([str(colour_run), str(tmp_path / "a.png")]) == 0
    assert "read" not in capsys.readouterr().out, "a file that was named needs no count"


def test_in_class_folders_the_right_answers_are_counted(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    data = ImageDataModule("mnist")
    data.prepare_data()
    data.setup()
    images_N1HW, labels_N = data.test.images_NCHW[:40], data.test.labels_N[:40]
    for n, (image_1HW, label) in enumerate(zip(images_N1HW.numpy(), labels_N.tolist(), strict=True)):
        (tmp_path / "set" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image_1HW[0]).save(tmp_path / "set" / str(label) / f"{n}.png")
    with torch.no_grad():
        right = int((load_run(mnist_run)[0](images_N1HW).argmax(1) == labels_N).sum())
    assert main([str(mnist_run), str(tmp_path / "set")]) == 0
    out = capsys.readouterr().out
    assert f"{right} of the 40 answers are the name of the image's folder ({right / 40:.1%})" in out and right < 40
    (tmp_path / "set" / "0").rename(tmp_path / "set" / "zero")
    assert main([str(mnist_run), str(tmp_path / "set")]) == 0
    assert "answers are the name" not in capsys.readouterr().out, "not all lie in folders of classes"


@pytest.mark.usefixtures("no_pictures")
def test_images_that_the_model_learnt_from_are_counted_by_themselves(
    run: Run, tmp_path: Path, capsys: Captured
) -> None:
    for split, num in (("train", 12), ("test", 4)):
        for place, name in enumerate(("dark", "light")):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for n in range(num):
                value = 200 * place + n + 20 * (split == "test")
                Image.new("L", (8, 8), value).save(tmp_path / "set" / split / name / f"{n}.png")
    words = ("data=image_folder", f"data.path={tmp_path / 'set'}", "model=flatnet", "accelerator=cpu", "threads=1")
    trained = run(*words, "data.batch_size=8")
    assert main([str(trained), str(tmp_path / "set")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "trained or validated on" in line)
    assert "on 24 of these images, so this is too high; of the 8 others, " in line
    assert main([str(trained), str(tmp_path / "set" / "test")]) == 0
    assert "validated on" not in capsys.readouterr().out
    assert main([str(trained), str(tmp_path / "set" / "train")]) == 0
    assert "on 24 of these images, so this is too high\n" in capsys.readouterr().out


def test_a_folder_without_images_is_answered_with_what_it_holds(
    colour_run: Path, tmp_path: Path, capsys: Captured
) -> None:
    for name in ("1.heic", "2.heic", "list.csv"):
        (tmp_path / name).touch()
    assert main([str(colour_run), str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert "no images in this folder" in err and "3 other files skipped (.heic 2, .csv 1; install pillow-heif" in err


def test_what_the_model_saw_is_saved_as_pictures(
    mnist_run: Path, mnist: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, capsys: Captured
) -> None:
    for name in ("in/seven.png", "in/more/seven.jpg", "in/more/seven-2.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - mnist[0][0, 0].numpy()).resize((280, 280)).save(tmp_path / name)
    Image.fromarray(mnist[0][0, 0].numpy()).save(tmp_path / "in" / "exact.png")
    words = [str(mnist_run), str(tmp_path / "in"), "--save", str(tmp_path / "seen")]
    assert main(words) == 0
    assert "saved: 4 pictures of what the model saw, in " in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "seen").iterdir())
    assert names == ["exact.png", "seven-2.png", "seven-3.png", "seven.png"]
    with Image.open(tmp_path / "seen" / "exact.png") as image:
        assert image.size == (280, 280) and image.mode == "L"
        assert np.array_equal(np.asarray(image)[5::10, 5::10], mnist[0][0, 0].numpy())
    assert main([*words, "--json"]) == 0, "its own files are written again"
    saved = {image["file"]: image["saved"] for image in json.loads(capsys.readouterr().out)["images"]}
    assert saved[f"{tmp_path}/in/exact.png"] == f"{tmp_path}/seen/exact.png" and len(set(saved.values())) == 4


def test_a_colour_picture_is_saved_in_colour(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("1", (200, 30, 30), (30, 30, 200)).save(tmp_path / "red.png")
    assert main([str(colour_run), str(tmp_path / "red.png"), "--save", str(tmp_path / "seen")]) == 0
    with Image.open(tmp_path / "seen" / "red.png") as image:
        assert image.mode == "RGB" and image.size == (192, 288) and image.getpixel((0, 0)) == (200, 30, 30)


def test_nobody_elses_file_is_overwritten(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    for name in ("a.png", "b.png"):
        drawn("1", 255, 0).save(tmp_path / name)
    (tmp_path / "seen").mkdir()
    drawn("2", 255, 0).save(tmp_path / "seen" / "b.png")
    (tmp_path / "linked").mkdir()
    assert main([str(mnist_run), str(tmp_path / "a.png"), "--save", str(tmp_path / "ours")]) == 0
    (tmp_path / "linked" / "a.png").symlink_to(tmp_path / "ours" / "a.png")
    capsys.readouterr()
    before = (tmp_path / "seen" / "b.png").read_bytes()
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    for folder, said in (("seen", "b.png is there already"), ("linked", "a.png is there"), ("a.png", "a file")):
        assert main([str(mnist_run), *images, "--save", str(tmp_path / folder)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and said in err and err.count("\n") == 1
    assert (tmp_path / "seen" / "b.png").read_bytes() == before and not (tmp_path / "seen" / "a.png").exists()
    assert main([str(mnist_run), str(tmp_path), "--save", str(tmp_path / "seen" / "new")]) == 2
    assert "whose images are read" in capsys.readouterr().err


def in_a_terminal(columns: int, *words: object, module: str = "predict", **environment: str) -> str:
    """What a command shows in a terminal of that width, with its codes."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [sys.executable, "-m", f"dlintro.commands.{module}", *map(str, words)]
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
    for name in ("COLUMNS", "LINES"):
        env.pop(name, None)
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's answer when the last writer is gone
        while chunk := os.read(master, 65536):
            shown += chunk
    os.close(master)
    assert process.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


def plain(shown: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).split("\n")


@pytest.mark.timeout(300)  # three processes that import torch
def test_in_a_terminal_the_28x28_that_the_network_saw_stands_beside_the_answer(
    mnist_run: Path, mnist: tuple[torch.Tensor, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(mnist[0][0, 0].numpy()).save("seven.png")
    drawn("42", 255, 0, (400, 400)).save("two.png")
    shown = in_a_terminal(80, mnist_run, "seven.png", "two.png")
    lines = plain(shown)
    assert max(map(len, lines)) <= 80 and sum(line.startswith("▀" * 22) for line in lines) == 22
    assert "38;2;0;0;0;48;2;0;0;0m▀" in shown, "black paper"
    beside = [line[22:].strip() for line in lines if line.startswith("▀")]
    assert beside[0] == "seven.png" and re.match(r"7 +[\d.]+% █+", beside[2])
    assert any("more than one digit" in line for line in beside) and "classifying" not in shown
    shown = in_a_terminal(80, mnist_run, "seven.png", NO_COLOR="1")
    assert "▀" not in shown and "#%" in shown and not re.search(r"\x1b\[[34]8;", shown)
    shown = "\n".join(plain(in_a_terminal(60, mnist_run, *["seven.png"] * 7)))
    assert "▀" not in shown and "┃ class ┃" in shown, "seven are a table"


def test_in_a_pipe_nothing_is_drawn(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("1", 255, 0).save(tmp_path / "one.png")
    assert main([str(mnist_run), str(tmp_path / "one.png")]) == 0
    out = capsys.readouterr().out
    assert "▀" not in out and "█" not in out and "┃ class ┃" in out


# What is printed, and the exit status.


def test_the_table_says_what_was_done_and_fits_80_columns(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    for n in range(3):
        drawn(str(n), (250, 240, 220), (20, 30, 120)).save(tmp_path / f"a_rather_long_name_of_a_photo_of_digit_{n}.jpg")
    assert main([str(mnist_run), str(tmp_path), "--top", "4"]) == 0
    out = capsys.readouterr().out
    assert "3 of the 3 images: inverted, as their ink was darker" in out and "as MNIST was made" in " ".join(
        out.split()
    )
    assert max(map(len, out.splitlines())) <= 80 and "…" not in out, "names fold, and none is cut"
    assert "FlatNet, trained on mnist" in out


def test_probabilities_are_of_all_classes_and_sum_to_one(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("x", (9, 9, 9), (200, 9, 9)).save(tmp_path / "x.png")
    [said] = answers(capsys, colour_run, tmp_path / "x.png").values()
    probabilities = said["probabilities"]
    assert list(probabilities) == [f"class {k}" for k in range(10)]
    assert sum(probabilities.values()) == pytest.approx(1)
    assert said["probability"] == max(probabilities.values()) == probabilities[said["class"]]


def test_a_folder_is_read_with_those_below_it_sorted(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    for name in ("b.png", "a.png", "sub/c.JPG", ".hidden.png", ".hidden/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        drawn("1", (0, 0, 0), (255, 255, 255)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image, and none by its name")
    assert list(answers(capsys, colour_run, tmp_path)) == ["a.png", "b.png", "c.JPG"]


def test_more_images_than_a_batch_keep_their_order(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    names = [f"{n:03}.png" for n in range(70)]
    for n, name in enumerate(names):
        drawn(str(n), (0, 0, 0), (3 * n, 255, 255), (16, 24)).save(tmp_path / name)
    said = answers(capsys, colour_run, tmp_path)
    assert list(said) == names
    assert said["069.png"]["probabilities"] == pytest.approx(
        answers(capsys, colour_run, tmp_path / "069.png")["069.png"]["probabilities"]
    )


def test_a_broken_file_is_named_and_the_others_go_on(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("1", 255, 0).save(tmp_path / "c.png")
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "b.png").write_bytes((tmp_path / "c.png").read_bytes()[:200])
    Image.new("L", (50, 50), 128).save(tmp_path / "d.png")
    assert main([str(mnist_run), str(tmp_path), "--json"]) == 1
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [Path(image["file"]).name for image in document["images"]] == ["c.png"]
    assert [Path(failed["file"]).name for failed in document["failed"]] == ["a.png", "b.png", "d.png"]
    lines = said.err.splitlines()
    assert len(lines) == 3 and all(line.startswith(f"dlintro: {tmp_path}/") for line in lines)
    assert "nothing is drawn" in lines[2] and "skip_broken" not in said.err


def test_names_of_files_are_neither_markup_nor_terminal_codes(
    mnist_run: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["[bold]one.png", "\x1b[31mred.png", "two\nlines.png", "[", "\u202egnp.png", "caf\xe9.png"]
    for name in names:
        drawn("1", 255, 0).save(tmp_path / name, format="png")
    (tmp_path / "broken\x1b[5m[red].png").write_bytes(b"")
    assert main([str(mnist_run), *names, "broken\x1b[5m[red].png"]) == 1
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err and "\u202e" not in said.out
    assert "[bold]one.png" in said.out and "two\\nlines.png" in said.out and "caf\xe9.png" in said.out
    assert "broken\\x1b[5m[red].png" in said.err and said.err.count("\n") == 1
    assert set(answers(capsys, mnist_run, *names)) == set(names)


def test_a_name_that_is_no_text_is_printed_all_the_same(
    mnist_run: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / b"\xff.png".decode(errors="surrogateescape")
    try:
        drawn("1", 255, 0).save(path)
    except OSError:
        pytest.skip("this file system wants names that are text")
    assert main([str(mnist_run), "."]) == 0
    assert "\\udcff.png" in capsys.readouterr().out
    assert list(answers(capsys, mnist_run, tmp_path)) == [path.name]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "RUN_OR_CKPT"),
        (["RUN"], "IMAGE|FOLDER"),
        (["RUN", "none.png"], "no such file"),
        (["RUN", "https://example.org/a.png"], "not a URL"),
        (["https://example.org/a.ckpt", "IMAGE"], "not a URL"),
        (["RUN", "FOLDER"], "no images in this folder"),
        (["RUN", "IMAGE", "--top", "0"], "--top"),
        (["RUN", "IMAGE", "--top", "many"], "--top"),
        (["RUN", "IMAGE", "--jso"], "--jso"),
        (["RUN", "IMAGE", "accelerator=gpu"], "accelerator=cuda"),
        (["RUN", "IMAGE", "--accelerator", "gpu"], "cuda"),
        (["RUN", "IMAGE", "model.path=net.py"], "model.path"),
        (["RUN", "IMAGE", "model.path=a.py", "model.path=b.py"], "twice"),
        (["FOLDER", "IMAGE"], "not a run folder"),
        (["IMAGE", "swapped"], "if this is the run, name it first"),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(
    colour_run: Path,
    tmp_path: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    (tmp_path / "outputs" / "runs" / "swapped").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    drawn("1", 255, 0).save(tmp_path / "image.png")
    known = {"RUN": colour_run, "IMAGE": tmp_path / "image.png", "FOLDER": tmp_path / "empty"}
    assert main([str(known.get(word, word)) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dlintro: ") and err.count("\n") == 1 and said in err


def test_options_may_stand_anywhere(colour_run: Path, tmp_path: Path, capsys: Captured) -> None:
    drawn("1", 255, 0).save(tmp_path / "a.png")
    drawn("2", 255, 0).save(tmp_path / "b.png")
    words = ["--json", colour_run, tmp_path / "a.png", "accelerator=cpu", "--top", 1, tmp_path / "b.png"]
    assert main(list(map(str, words))) == 0
    assert len(json.loads(capsys.readouterr().out)["images"]) == 2


def test_ctrl_c_is_status_130(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def press(path: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("dlintro.commands.predict.find_run", press)
    assert main(["run", "image.png"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    blocked = (
        "import sys; sys.modules['torch'] = None; from dlintro.commands.predict import main; sys.exit(main(['--help']))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0 and "IMAGE|FOLDER" in done.stdout and time.monotonic() - start < 5
