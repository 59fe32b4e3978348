"""scripts/evaluate: the numbers of training again, to the last image, and those of each class."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_precision, multiclass_recall

from dlintro.commands.evaluate import class_rows, class_table, main
from dlintro.data import ImageDataModule
from dlintro.run.record import read_record, write_json
from dlintro.run.restore import load_run
from dlintro.run.results import Results, wilson_interval
from tests.conftest import have
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


def test_the_tables_fit_80_columns_and_name_the_record(mnist_run: Path, capsys: Captured) -> None:
    assert main([str(mnist_run), "accelerator=cpu"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and max(map(len, out.splitlines())) <= 80
    for word in ("95 % interval", "n=10,000", "loss", "recall", "precision", "most confused with", "the same"):
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
            "this model takes (1, 28, 28) and 10 classes, data=cifar10 has (3, 32, 32) and 10",
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
    assert "the model's class 0 is 0, the data's T-shirt" in err


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
        for n in range(20):
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
        (["RUN", "data=cifar11"], "there are cats_dogs"),
        (["RUN", "batch_size=3"], "did you mean data.batch_size?"),
        (["RUN", "optim.lr=3"], "only for training"),
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
    rows = class_rows(results)
    assert (rows[5].recall, rows[5].precision, rows[5].most_confused_with) == (0.0, None, "class 6")
    assert (rows[6].recall, rows[6].precision, rows[6].most_confused_with) == (1.0, 0.5, None)
    table = class_table(rows)
    assert table.row_count == 30 and str(table.columns[0]._cells[0]) == "class 5"


def test_help_needs_no_torch() -> None:
    blocked = "import sys; sys.modules['torch'] = None; from dlintro.commands.evaluate import main; "
    blocked += "sys.exit(main(['--help']))"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0 and "data.image_size" in done.stdout
