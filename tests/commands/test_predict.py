"""scripts/predict: what the model is given, what is printed, and the exit status."""

import json
import subprocess
import sys
import time
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


# What is printed, and the exit status.


def test_the_table_says_what_was_done_and_fits_80_columns(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    for n in range(3):
        drawn(str(n), (250, 240, 220), (20, 30, 120)).save(tmp_path / f"a_rather_long_name_of_a_photo_of_digit_{n}.jpg")
    assert main([str(mnist_run), str(tmp_path), "--top", "4"]) == 0
    out = capsys.readouterr().out
    assert "3 of 3: dark on light, so inverted" in out and "as MNIST was made" in " ".join(out.split())
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
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(
    colour_run: Path, tmp_path: Path, capsys: Captured, words: list[str], said: str
) -> None:
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

    monkeypatch.setattr("dlintro.commands.predict.existing", press)
    assert main(["run", "image.png"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    blocked = (
        "import sys; sys.modules['torch'] = None; from dlintro.commands.predict import main; sys.exit(main(['--help']))"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0 and "IMAGE|FOLDER" in done.stdout and time.monotonic() - start < 5
