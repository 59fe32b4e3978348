"""Tests that a checkpoint becomes a model again or one line says why not, and that no stranger's code runs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from dlintro.data import ImageDataModule
from dlintro.errors import RunError, UsageError
from dlintro.models import FileNet, FlatNet, MnistCNN, TorchvisionNet
from dlintro.run.restore import load_run
from tests.trained import SYNTHETIC, train_run

NET_FILE = """
from torch import nn

def make_model(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, {width}), nn.Linear({width}, num_classes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("restore") / "run", *SYNTHETIC, "model.hidden=[6]", "model.dropout=0.5")


@pytest.fixture
def content(run: Path) -> dict[str, Any]:
    """Return the checkpoint's content, to damage it."""
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


class TouchesAFile:
    """Runs code when a pickle is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def images(num: int = 5) -> torch.Tensor:
    return torch.randint(256, (num, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_run_folder_gives_its_val_best_weights_in_evaluation_mode(run: Path) -> None:
    model, record = load_run(run)
    assert type(model) is FlatNet and not model.training and not model.network.training
    assert record is not None and record["data"] == "synthetic"
    lightnings = FlatNet.load_from_checkpoint(run / "checkpoints" / "best.ckpt").eval()
    assert torch.equal(model(images()), lightnings(images()))
    assert torch.equal(model(images()), model(images())), "no dropout"
    assert (model.image_shape, model.class_names[3]) == ((1, 8, 8), "class 3")


def test_best_is_not_the_last_epoch_by_chance(run: Path, content: dict[str, Any], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    content["state_dict"]["network.1.bias"] += 1
    saved(copy / "checkpoints" / "last.ckpt", content)
    best, last = load_run(copy)[0], load_run(copy / "checkpoints" / "last.ckpt")[0]
    torch.testing.assert_close(last.network[1].bias, best.network[1].bias + 1)


def test_a_checkpoint_file_knows_its_run_only_inside_a_run_folder(run: Path, tmp_path: Path) -> None:
    assert (load_run(run / "checkpoints" / "last.ckpt")[1] or {})["model"] == "flatnet"
    model, record = load_run(shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "bare.ckpt"))
    assert type(model) is FlatNet and record is None


def test_a_checkpoint_from_a_notebook_is_one_too(tmp_path: Path) -> None:
    data, model = ImageDataModule("synthetic", shape=[1, 8, 8], train_size=64), MnistCNN([1, 8, 8], widths=[2, 3])
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "default_root_dir": tmp_path}
    L.Trainer(max_epochs=1, **settings).fit(model, data)
    [file] = tmp_path.rglob("*.ckpt")
    restored, record = load_run(file)
    assert record is None and torch.equal(restored(images()), model.eval()(images()))


@pytest.mark.parametrize("environment", [{}, {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}])
def test_a_pickle_is_never_run(
    content: dict[str, Any], tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    touched = tmp_path / "touched"
    hostile = saved(tmp_path / "hostile.ckpt", content | {"more": TouchesAFile(touched)})
    with pytest.raises(RunError, match="pickle"):
        load_run(hostile)
    assert not touched.exists()
    if environment:  # the malicious file does its work
        torch.load(hostile)
        assert touched.exists()


def test_a_pickle_is_never_run_by_the_command_either(content: dict[str, Any], tmp_path: Path) -> None:
    hostile = saved(tmp_path / "hostile.ckpt", content | {"more": TouchesAFile(tmp_path / "touched")})
    done = subprocess.run(
        [sys.executable, "-m", "dlintro.commands.evaluate", str(hostile), "data=synthetic"],
        env=os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_one_line(run: Path, tmp_path: Path, share: float) -> None:
    whole = (run / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunError, match=r"cut\.ckpt") as caught:
        load_run(tmp_path / "cut.ckpt")
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_one_line_and_never_a_wrong_score(run: Path, content: dict[str, Any], tmp_path: Path) -> None:
    whole = bytearray((run / "checkpoints" / "best.ckpt").read_bytes())
    weights = max(content["state_dict"].values(), key=lambda tensor: tensor.numel()).numpy().tobytes()
    whole[whole.index(weights) + len(weights) // 2] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(whole)
    with pytest.raises(RunError, match=r"flipped\.ckpt: damaged"):
        load_run(tmp_path / "flipped.ckpt")


@pytest.mark.parametrize("url", ["https://example.org/best.ckpt", "s3://bucket/run"])
def test_a_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="not a URL"):
        load_run(url)


def test_files_of_another_kind_are_one_line(run: Path, tmp_path: Path) -> None:
    (tmp_path / "text.ckpt").write_text("no checkpoint\n")
    (tmp_path / "list.ckpt").write_bytes(b"")
    saved(tmp_path / "list.ckpt", [1, 2])
    saved(tmp_path / "weights.pt", FlatNet().state_dict())
    saved(tmp_path / "theirs.ckpt", {"state_dict": {}, "hyper_parameters": {}, "epoch": 3})
    for name in ("text.ckpt", "list.ckpt", "weights.pt", "theirs.ckpt"):
        with pytest.raises(RunError, match=name):
            load_run(tmp_path / name)
    with pytest.raises(UsageError, match="no such file"):
        load_run(tmp_path / "none.ckpt")
    with pytest.raises(UsageError, match="not a run folder"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("dlintro", {"model": "Unpickler"}),
        ("dlintro", {"model": ["FlatNet"]}),
        ("dlintro", {"model": "MnistCNN"}),
        ("hyper_parameters", {"image_shape": [1, 9, 9]}),
        ("hyper_parameters", {"image_shape": [1, 2**40, 2**40]}),
        ("hyper_parameters", {"image_shape": "188"}),
        ("hyper_parameters", {"num_classes": 11}),
        ("hyper_parameters", {"class_names": "0123456789"[:3]}),
        ("hyper_parameters", {"class_names": list(range(10))}),
        ("hyper_parameters", {"activation": "os.system"}),
        ("hyper_parameters", {"optim": {"name": "adam", "more": 1}}),
        ("hyper_parameters", {"_instantiator": "os.system"}),
        ("state_dict", {"network.1.bias": torch.zeros(7)}),
        ("state_dict", {"network.1.bias": "no tensor"}),
        ("state_dict", {"more": torch.zeros(1)}),
        ("state_dict", {"network.1.bias": torch.full((6,), torch.nan)}),
    ],
)
def test_values_that_make_no_model_are_one_line(
    content: dict[str, Any], tmp_path: Path, part: str, values: dict[str, Any]
) -> None:
    content[part] = content[part] | values
    with pytest.raises(RunError, match=r"spoilt\.ckpt") as caught:
        load_run(saved(tmp_path / "spoilt.ckpt", content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("greys", [(5, 5), (9, 0), "ab", (0,), (0, 2.5), 7, (0, 2**40), {}])
def test_greys_that_no_run_notes_are_one_line(content: dict[str, Any], tmp_path: Path, greys: Any) -> None:
    content["dlintro"]["greys"] = greys
    with pytest.raises(RunError, match="the weights don't fit") as error:
        load_run(saved(tmp_path / "odd.ckpt", content))
    assert "\n" not in str(error.value)


def test_a_run_without_a_best_checkpoint_says_what_to_type(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(UsageError, match=r"checkpoints/last\.ckpt"):
        load_run(copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UsageError, match="no checkpoint"):
        load_run(copy)


# A user's own network: its file is named each time, and by nothing but the user.


@pytest.fixture
def file_net(tmp_path: Path) -> Path:
    """Make a checkpoint of a FileNet from tmp_path/my_net.py."""
    (tmp_path / "my_net.py").write_text(NET_FILE.format(width=5))
    model = FileNet([1, 8, 8], path=str(tmp_path / "my_net.py"))
    trainer = L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, ImageDataModule("synthetic", shape=[1, 8, 8], train_size=64))
    trainer.save_checkpoint(tmp_path / "file_net.ckpt")
    return tmp_path / "file_net.ckpt"


def test_a_users_own_network_wants_its_file_named_again(file_net: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.path=FILE"):
        load_run(file_net)
    model, _ = load_run(file_net, model_path=str(tmp_path / "my_net.py"))
    assert type(model) is FileNet and model(images()).shape == (5, 10)


def test_a_path_in_a_checkpoint_is_not_followed(file_net: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    content = torch.load(file_net, weights_only=True)
    content["hyper_parameters"]["path"] = str(tmp_path / "evil.py")
    with pytest.raises(UsageError, match=r"model\.path=FILE"):
        load_run(saved(tmp_path / "evil.ckpt", content))
    load_run(tmp_path / "evil.ckpt", model_path=str(tmp_path / "my_net.py"))
    assert not (tmp_path / "touched").exists()


def test_a_weights_file_named_in_a_checkpoint_is_not_read(tmp_path: Path) -> None:
    model = TorchvisionNet([3, 32, 32], name="squeezenet1_1")
    content = {"dlintro": {"model": "TorchvisionNet"}, "state_dict": model.state_dict()}
    content["hyper_parameters"] = dict(model.hparams) | {"weights": "https://example.org/weights.pt"}
    restored, _ = load_run(saved(tmp_path / "net.ckpt", content))
    x = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(restored(x), model.eval()(x))


def test_a_file_that_makes_another_network_or_none_is_one_line(file_net: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(NET_FILE.format(width=6))
    (tmp_path / "slip.py").write_text("def make_model(:\n")
    for name in ("other.py", "slip.py"):
        with pytest.raises(RunError, match=rf"model\.path=.*{name}") as caught:
            load_run(file_net, model_path=str(tmp_path / name))
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no such file"):
        load_run(file_net, model_path=str(tmp_path / "none.py"))
    with pytest.raises(UsageError, match="is a FlatNet"):
        load_run(run, model_path=str(tmp_path / "my_net.py"))
