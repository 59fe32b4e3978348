"""scripts/evaluate: the numbers of training again, to the last image, and those of each class."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_precision, multiclass_recall
from torchvision.transforms.v2 import functional as TF

from dlintro.commands.evaluate import class_table, main
from dlintro.commands.evaluation_data import check_fit
from dlintro.commands.predict import classify, read_image
from dlintro.commands.predict import main as predict
from dlintro.data import ImageDataModule
from dlintro.models import FlatNet
from dlintro.run.record import read_record, write_json
from dlintro.run.restore import load_run
from dlintro.run.results import Results, wilson_interval
from tests.conftest import have
from tests.data.packs import packed, photographs
from tests.trained import MNIST, SYNTHETIC, train_run

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def mnist_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("evaluate") / "run", *MNIST, "data.batch_size=48")


@pytest.fixture(scope="module")
def synthetic_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("evaluate") / "run", *SYNTHETIC)


@pytest.fixture
def copy(synthetic_run: Path, tmp_path: Path) -> Path:
    """Of the synthetic run, to be spoilt."""
    return Path(shutil.copytree(synthetic_run, tmp_path / "copy"))


def report(capsys: Captured, *words: object) -> dict[str, Any]:
    assert main([*map(str, words), "accelerator=cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_runs_own_accuracy_comes_out_to_the_last_image(mnist_run: Path, capsys: Captured) -> None:
    record = read_record(mnist_run)
    said = report(capsys, mnist_run)
    assert said["images"] == record["test_images"] == 10_000
    assert said["correct"] == round(record["best/test/acc"] * 10_000)
    assert said["accuracy"] == pytest.approx(record["best/test/acc"], abs=1e-7)
    assert said["loss"] == pytest.approx(record["best/test/loss"], rel=1e-6)
    last = report(capsys, mnist_run / "checkpoints" / "last.ckpt")
    assert last["correct"] == round(record["test/acc"] * 10_000)
    assert said["accuracy_interval_95"] == list(wilson_interval(said["correct"], 10_000))


@pytest.mark.parametrize(("views", "num"), [("flip", 2), ("shift", 3), ("flip+shift", 6)])
def test_averaged_views_are_reported_apart(synthetic_run: Path, capsys: Captured, views: str, num: int) -> None:
    """The mean logits of the views that torchvision makes of the images."""
    plain, averaged = report(capsys, synthetic_run), report(capsys, "--views", views, synthetic_run)
    assert plain["averaged_views"] is None
    said = averaged.pop("averaged_views")
    assert averaged.items() <= plain.items()
    model, _ = load_run(synthetic_run)
    data = ImageDataModule("synthetic", shape=(1, 8, 8))
    data.prepare_data()
    data.setup()
    images_NCHW, labels_N = data.test.__getitems__(list(range(len(data.test))))
    made = [images_NCHW]
    if "flip" in views:
        made += [TF.horizontal_flip(images_NCHW)]
    if "shift" in views:
        padded = [TF.pad(images, [1, 1, 1, 1], padding_mode="reflect") for images in made]
        made += [TF.crop(images, place, place, 8, 8) for images in padded for place in (0, 2)]
    assert len(made) == num
    with torch.no_grad():
        logits_NK = torch.stack([model.eval()(images) for images in made]).mean(0)
    assert said["views"] == views
    assert said["correct"] == int((logits_NK.argmax(1) == labels_N).sum())
    assert said["accuracy_interval_95"] == list(wilson_interval(said["correct"], 2000))
    assert said["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits_NK, labels_N)), rel=1e-5)
    assert main([str(synthetic_run), "accelerator=cpu", "--views", views]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"accuracy, {views} {said['accuracy']:.2%}" in shown and f"loss, {views} {said['loss']:.4f}" in shown


def test_views_reach_a_network_in_the_memory_format_of_its_training(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.linear = nn.Linear(64, 10)\n\n"
        "    def forward(self, x):\n        return self.linear(x.view(len(x), -1))\n\n"
        "def make_model(image_shape, num_classes):\n    return Net()\n"
    )
    words = ("model=file", f"model.path={tmp_path}/net.py")
    run = train_run(tmp_path / "run", *SYNTHETIC, *words)
    capsys.readouterr()
    assert report(capsys, run, words[1], "--views", "flip+shift")["averaged_views"]["accuracy"] > 0


def test_an_image_of_one_row_cant_be_shifted(tmp_path: Path, capsys: Captured) -> None:
    run = train_run(tmp_path / "run", *SYNTHETIC, "data.shape=[1,1,6]")
    assert main([str(run), "accelerator=cpu", "--views", "shift"]) == 2
    assert "--views=shift: images of 1x6 pixels can't be shifted" in capsys.readouterr().err


def test_the_batch_size_changes_nothing(mnist_run: Path, capsys: Captured) -> None:
    said = [report(capsys, mnist_run, f"data.batch_size={size}") for size in (1000, 33)]
    assert said[0]["classes"] == said[1]["classes"] and said[0]["correct"] == said[1]["correct"]
    assert said[0]["loss"] == pytest.approx(said[1]["loss"], rel=1e-6)


def test_the_classes_figures_are_those_of_a_plain_count(mnist_run: Path, capsys: Captured) -> None:
    said = report(capsys, mnist_run)
    model, data = load_run(mnist_run)[0], ImageDataModule("mnist")
    data.setup()
    labels_N, logits_NK = data.test.labels, model(data.test.images_NCHW).detach()
    predicted_N = logits_NK.argmax(1)
    recall_K = multiclass_recall(logits_NK, labels_N, 10, average=None)
    precision_K = multiclass_precision(logits_NK, labels_N, 10, average=None)
    assert [row["name"] for row in said["classes"]] == list("0123456789")
    for k, row in enumerate(said["classes"]):
        wrong = predicted_N[(labels_N == k) & (predicted_N != k)].bincount(minlength=10)
        assert row["images"] == int((labels_N == k).sum())
        assert row["recall"] == pytest.approx(recall_K[k].item()) and row["precision"] == pytest.approx(
            precision_K[k].item()
        )
        assert (row["confused"], wrong[int(row["most_confused_with"])]) == (wrong.max(), wrong.max())
    assert sum(row["images"] * row["recall"] for row in said["classes"]) == pytest.approx(said["correct"])
    balanced = multiclass_accuracy(logits_NK, labels_N, 10, average="macro")
    assert said["balanced_accuracy"] == pytest.approx(float(balanced), rel=1e-6)
    assert said["balanced_accuracy"] == read_record(mnist_run)["best/test/balanced_acc"] != said["accuracy"]
    assert said["top5_accuracy"] is None and said["classes"] == read_record(mnist_run)["best/test/classes"]


def test_the_tables_fit_80_columns_and_name_the_record(mnist_run: Path, capsys: Captured) -> None:
    assert main([str(mnist_run), "accelerator=cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and max(map(len, out.splitlines())) <= 80
    for word in ("95 % interval", "of 10,000", "loss", "recall", "precision", "most confused with", "the same"):
        assert word in out


def test_a_result_unlike_the_records_is_said(copy: Path, capsys: Captured) -> None:
    record = read_record(copy)
    write_json(copy / "record.json", record | {"best/test/acc": record["best/test/acc"] - 3 / record["test_images"]})
    assert main([str(copy), "accelerator=cpu"]) == 0
    assert "another device, precision or version?" in capsys.readouterr().out


def test_a_set_that_doesnt_fit_the_model_is_one_line(mnist_run: Path, synthetic_run: Path, capsys: Captured) -> None:
    for words, said in (
        (
            [mnist_run, "data=cifar10"],
            "this model takes images of (1, 28, 28) and 10 classes, but data=cifar10 has (3, 32, 32) and 10",
        ),
        ([mnist_run, "data=cats_dogs"], "has (3, 32, 32) and 2 classes"),
        ([synthetic_run, "data=mnist"], "data.image_size=8 would resize them"),
    ):
        assert main(list(map(str, words))) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and said in err


def test_another_set_that_fits_is_evaluated_and_other_class_names_are_said(mnist_run: Path, capsys: Captured) -> None:
    have("fashion_mnist")
    assert main([str(mnist_run), "data=fashion_mnist", "accelerator=cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["accuracy"] < 0.5 and said["recorded_accuracy"] is None
    assert "class 0 is 0 in the model and T-shirt" in err


def test_a_run_folder_may_be_called_like_a_setting(
    synthetic_run: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(synthetic_run, tmp_path / "lr=1")
    monkeypatch.chdir(tmp_path)
    assert report(capsys, "lr=1")["checkpoint"] == "lr=1/checkpoints/best.ckpt"


def test_a_bare_checkpoint_wants_its_data_named(synthetic_run: Path, tmp_path: Path, capsys: Captured) -> None:
    bare = shutil.copy(synthetic_run / "checkpoints" / "best.ckpt", tmp_path / "bare.ckpt")
    assert main([str(bare)]) == 2
    assert "add data=" in capsys.readouterr().err
    named = report(capsys, bare, "data=synthetic", "data.shape=[1,8,8]")
    assert named["correct"] == report(capsys, synthetic_run)["correct"]


def test_a_run_without_its_configuration_has_its_sets_name(mnist_run: Path, tmp_path: Path, capsys: Captured) -> None:
    bare = Path(shutil.copytree(mnist_run, tmp_path / "run"))
    shutil.rmtree(bare / ".hydra")
    said = report(capsys, bare)
    assert said["data"] == "mnist" and said["accuracy"] == pytest.approx(said["recorded_accuracy"], abs=1e-7)


def test_a_folder_of_images_is_found_again_from_another_folder(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    for label, name in enumerate(("cat", "[red]dog")):
        for n in range(20):  # whose names make 8.png and 10.png, 3.png and 12.png test images
            (tmp_path / "mine" / name).mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(100, 200, (9, 9, 3), dtype=np.uint8) + np.uint8(50 * label)
            Image.fromarray(pixels).save(tmp_path / "mine" / name / f"{n}.png")
    monkeypatch.chdir(tmp_path)
    run = train_run(tmp_path / "run", "data=image_folder", "data.path=mine", "data.image_size=6", "data.batch_size=8")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    said = report(capsys, run)
    assert said["images"] == 4 and said["accuracy"] == pytest.approx(said["recorded_accuracy"])
    assert main([str(run), "accelerator=cpu"]) == 0
    assert "[red]dog" in capsys.readouterr().out


def test_labels_of_a_file_are_found_again_from_another_folder(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, rows = np.random.default_rng(0), ["id,breed"]
    (tmp_path / "mine").mkdir()
    for n in range(120):
        pixels = draw.integers(100, 200, (6, 6, 3), dtype=np.uint8) + np.uint8(50 * (n % 2))
        Image.fromarray(pixels).save(tmp_path / "mine" / f"{n:03}.png")
        rows.append(f"{n:03},{'ab'[n % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    monkeypatch.chdir(tmp_path)
    words = ("data=image_folder", "data.path=mine", "data.labels=labels.csv", "data.batch_size=8")
    run = train_run(tmp_path / "run", *words)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    said = report(capsys, run)
    assert said["images"] > 4 and said["accuracy"] == pytest.approx(said["recorded_accuracy"])
    (tmp_path / "labels.csv").write_text("\n".join([*rows[:-1], "119,a"]))
    assert main([str(run)]) == 2
    said = "the same files, but their labels, their parts, the range of their greys or their packing differ"
    assert said in capsys.readouterr().err


def test_other_views_of_the_images_are_said(tmp_path: Path, capsys: Captured) -> None:
    """A JPEG pack shows the middle of each image and a folder the whole of it, so the same files give other results."""
    root = photographs(tmp_path / "images", splits=("train", "test"))
    folder = ImageDataModule("image_folder", path=root, image_size=32)
    jpegs = ImageDataModule(
        "packed", path=packed(tmp_path / "pack", "data=image_folder", f"data.path={root}", "--jpeg"), image_size=32
    )
    model = FlatNet((3, 32, 32), 2, class_names=folder.class_names)
    model.sees_middle = jpegs.sees_middle
    check_fit(model, jpegs)
    assert "which changes the accuracy" not in capsys.readouterr().err
    check_fit(model, folder)
    said = (
        "tested on the middle of larger images, but data=image_folder shows it whole images, which changes the accuracy"
    )
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("noted", [True, False])
def test_other_greys_are_read_as_the_model_saw_its_own(tmp_path: Path, capsys: Captured, noted: bool) -> None:
    """The model was trained on 12 bits. Alone, the other set would be taken for one of 9 bits, and look brighter. A
    checkpoint from before the greys were noted scaled all greys as 16 bits."""
    draw = np.random.default_rng(0)
    for part, high in (("mine", 4096), ("other", 500)):
        for split in ("train", "test"):
            for label in (0, 1):
                folder = tmp_path / part / split / "ab"[label]
                folder.mkdir(parents=True)
                for n in range(20):
                    values = draw.integers(high * label // 2, high * (label + 1) // 2, (6, 6)).astype(np.uint16)
                    Image.fromarray(values).save(folder / f"{n}.png")
    run = train_run(tmp_path / "run", "data=image_folder", f"data.path={tmp_path}/mine", "data.batch_size=8")
    assert read_record(run)["greys"] == "0 to 4095"
    if not noted:
        checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
        del checkpoint["dlintro"]["greys"]
        torch.save(checkpoint, run / "checkpoints" / "best.ckpt")
    model, _ = load_run(run)
    assert model.greys == ((0, 4095) if noted else (0, 65_535))
    capsys.readouterr()
    said = report(capsys, run, f"data.path={tmp_path}/other")
    files = sorted((tmp_path / "other" / "test").rglob("*.png"))
    white = 4095 if noted else 65_535
    images = [np.rint(np.asarray(Image.open(file)).astype(float) * 255 / white).astype(np.uint8) for file in files]
    with torch.no_grad():
        answers = model(torch.from_numpy(np.stack(images))[:, None]).argmax(1)
    right = sum("ab"[answer] == file.parent.name for answer, file in zip(answers.tolist(), files, strict=True))
    assert said["correct"] == right
    predictions, failed = classify(model, files)
    assert not failed
    assert [max(range(2), key=p.probabilities_K.__getitem__) for p in predictions] == answers.tolist()
    seen = read_image(files[-1], (1, 6, 6), False, model.greys)
    assert np.array_equal(seen.image_CHW[0].numpy(), images[-1])
    for part in ("mine", "other"):
        pack = packed(tmp_path / f"{part}_packed", "data=image_folder", f"data.path={tmp_path}/{part}")
        capsys.readouterr()
        alike = part == "mine" and noted
        assert main([str(run), "data=packed", f"data.path={pack}"]) == (0 if alike else 2)
        assert ("the greys from 0 to" in capsys.readouterr().err) != alike


def test_without_its_configuration_a_run_is_evaluated_on_the_set_that_it_names_or_not_at_all(
    copy: Path, capsys: Captured
) -> None:
    (copy / ".hydra" / "config.yaml").unlink()
    assert main([str(copy)]) == 2
    assert "this model takes images of (1, 8, 8) and 10 classes" in capsys.readouterr().err
    said = report(capsys, copy, "data.shape=[1,8,8]")
    assert said["accuracy"] == pytest.approx(read_record(copy)["best/test/acc"])
    write_json(copy / "record.json", read_record(copy) | {"data": "mine"})  # from a folder of --config-dir
    assert main([str(copy)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "data=mine is not one of dlintro's data sets; type data=NAME" in err


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Noise, of which a network can only learn by heart what it is trained on."""
    add_noise(tmp_path / "set", range(100))
    return tmp_path / "set"


def add_noise(folder: Path, numbers: Iterable[int]) -> None:
    for label, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for n in numbers:
            noise = np.random.default_rng([label, n]).integers(256, size=(8, 8), dtype=np.uint8)
            Image.fromarray(noise).save(folder / name / f"{n}.png")


@pytest.fixture
def folder_run(images: Path, tmp_path: Path, no_pictures: None) -> Path:
    words = ("data=image_folder", f"data.path={images}", "data.batch_size=16", "model.hidden=[64]")
    return train_run(tmp_path / "run", *words, "trainer.max_epochs=20", "optim.lr=0.01")


def test_a_grown_folder_is_refused_and_never_tested_on_what_was_trained_on(
    folder_run: Path, images: Path, capsys: Captured
) -> None:
    """By one image a class, 10 % and 100 %; what is there now can be asked for, and none of it was trained on."""
    recorded = read_record(folder_run)["best/test/acc"]
    assert report(capsys, folder_run)["accuracy"] == pytest.approx(recorded) and recorded < 0.8
    for numbers, added in ((range(100, 101), 2), (range(101, 110), 20), (range(110, 200), 200)):
        add_noise(images, numbers)
        assert main([str(folder_run), "accelerator=cpu"]) == 2
        out, err = capsys.readouterr()
        assert out == "" and f"not those that it was tested on ({added} added, 0 gone, 0 changed)" in err
        said = report(capsys, folder_run, f"data.path={images}")
        assert said["recorded_accuracy"] is None and said["accuracy"] < 0.8, "what it learnt by heart it knows better"
    for name in ("cat", "dog"):
        for n in range(100, 200):
            (images / name / f"{n}.png").unlink()
    assert report(capsys, folder_run)["accuracy"] == pytest.approx(recorded)


def test_test_images_that_were_trained_on_are_counted_where_the_folder_is_named(
    folder_run: Path, images: Path, capsys: Captured
) -> None:
    trained = [path for path, _ in ImageDataModule("image_folder", path=images).source.files["train"]][:3]
    test = [path for path, _ in ImageDataModule("image_folder", path=images).source.files["test"]][:3]
    for one, other in zip(trained, test, strict=True):
        kept = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(kept)
    assert main([str(folder_run), "accelerator=cpu"]) == 2
    assert "(0 added, 0 gone, 6 changed)" in capsys.readouterr().err
    words = [f"data.path={images}", "accelerator=cpu"]
    assert main([str(folder_run), *words]) == 0
    assert "trained or validated on 3 of these" in capsys.readouterr().err
    (folder_run / "images.json").write_text("[")
    assert main([str(folder_run), *words]) == 0
    assert "doesn't say which images the run had" in capsys.readouterr().err
    alone = shutil.copy(folder_run / "checkpoints" / "best.ckpt", folder_run.parent / "alone.ckpt")
    assert main([str(alone), "data=image_folder", *words]) == 0
    assert "the model may have been trained on some of these test images" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_refused_and_still_predicts(
    folder_run: Path, images: Path, capsys: Captured
) -> None:
    record = read_record(folder_run)
    del record["images_fingerprint"], record["code_fingerprint"], record["differences"]
    write_json(folder_run / "record.json", record)
    (folder_run / "images.json").unlink()
    for words in ([], [f"data.path={images}"], ["data=image_folder", f"data.path={images}"]):
        assert main([str(folder_run), *words]) == 2
        out, err = capsys.readouterr()
        line = err.splitlines()[-1]
        assert out == "" and "an earlier version made the run" in line and "rerun=run" in line
    assert predict([str(folder_run), str(images / "cat" / "0.png")]) == 0


NET = """
from torch import nn

def make_model(shape, k):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, k))
"""


def test_an_edited_network_is_said(tmp_path: Path, capsys: Captured, no_pictures: None) -> None:
    net = tmp_path / "net.py"
    net.write_text(NET)
    run = train_run(tmp_path / "run", *SYNTHETIC, "model=file", f"model.path={net}")
    capsys.readouterr()
    for edited in (False, True):
        assert main([str(run), f"model.path={net}", "accelerator=cpu"]) == 0
        assert (f"model.path={net}: edited since the run" in capsys.readouterr().err) == edited
        net.write_text(NET + "# edited")


def test_lower_precision_is_the_runs_unless_another_is_typed(copy: Path, capsys: Captured) -> None:
    write_json(copy / "record.json", read_record(copy) | {"precision": "bf16-mixed"})
    assert report(capsys, copy)["precision"] == "bf16-mixed"
    assert report(capsys, copy, "trainer.precision=32-true")["precision"] == "32-true"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "RUN_OR_CKPT"),
        (["none"], "no such file"),
        (["https://example.org/a.ckpt"], "not a URL"),
        (["RUN", "more"], "more"),
        (["RUN", "data=cifar11"], "the data sets are cats_dogs"),
        (["RUN", "batch_size=3"], "did you mean data.batch_size?"),
        (["RUN", "--batch-size", "3"], "--batch-size: settings have no dashes; type data.batch_size=VALUE"),
        (["RUN", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["RUN", "optim.lr=3"], "only training takes this key"),
        (["RUN", "data.batch_size=0"], "use a whole number from 1 to"),
        (["RUN", "data.shape=[1"], "list of 3"),
        (["RUN", "data=mnist", "data.path=here"], "data=image_folder"),
        (["RUN", "data=image_folder"], "data.path"),
        (["RUN", "data.batch_size=3", "data.batch_size=4"], "twice"),
        (["RUN", "accelerator=tpu"], "TPU"),
        (["RUN", "accelerator.index=99"], "accelerator.index"),
        (["RUN", "trainer.precision=8"], "trainer.precision"),
        (["RUN", "model.path=net.py"], "model.path"),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(
    synthetic_run: Path, capsys: Captured, words: list[str], said: str
) -> None:
    assert main([str(synthetic_run) if word == "RUN" else word for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dlintro: ") and err.count("\n") == 1 and said in err


@pytest.mark.parametrize("text", ["{", "data: 3", "data:\n  name: [1]", "data:\n  name: mnist\n  batch_size: -1"])
def test_a_strangers_configuration_is_checked_like_a_command(copy: Path, capsys: Captured, text: str) -> None:
    (copy / ".hydra" / "config.yaml").write_text(text)
    assert main([str(copy)]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1


def test_json_is_all_that_the_command_prints(synthetic_run: Path) -> None:
    command = "import sys; from dlintro.commands.evaluate import main; sys.exit(main())"
    words = [sys.executable, "-c", command, str(synthetic_run), "accelerator=cpu", "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["data"] == "synthetic"


def test_a_class_that_is_never_taken_has_no_precision_and_many_classes_are_cut_to_the_worst() -> None:
    labels_N = torch.arange(40)
    results = Results(
        torch.eye(40)[torch.where(labels_N == 5, 6, labels_N)], labels_N, [f"class {k}" for k in range(40)]
    )
    rows = results.class_rows()
    assert (rows[5].recall, rows[5].precision, rows[5].most_confused_with) == (0.0, None, "class 6")
    assert (rows[6].recall, rows[6].precision, rows[6].most_confused_with) == (1.0, 0.5, None)
    table = class_table(rows)
    assert table.row_count == 30 and str(table.columns[0]._cells[0]) == "class 5"


def test_help_needs_no_torch() -> None:
    blocked = "import sys; sys.modules['torch'] = None; from dlintro.commands.evaluate import main; "
    blocked += "sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0 and "data.image_size" in done.stdout
