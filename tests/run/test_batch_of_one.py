"""Tests that a batch of one image is refused before training if batch normalisation can't train on it."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dlintro.commands import train as entry
from dlintro.models import TorchvisionNet
from dlintro.run.parts import prepare
from tests.conftest import SMALL, composed

NET = """from torch import nn
def make_model(image_shape, num_classes):
    c, h, w = image_shape
    layers = [nn.Flatten(), nn.Linear(c * h * w, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout()]
    return nn.Sequential(*layers, nn.Linear(32, num_classes))
"""
# The same without a module, as in a network that keeps its statistics itself.
FUNCTIONAL = """import torch
from torch import nn
class Net(nn.Module):
    def __init__(self, inputs, classes):
        super().__init__()
        self.first, self.second = nn.Linear(inputs, 32), nn.Linear(32, classes)
        self.register_buffer("mean", torch.zeros(32))
        self.register_buffer("variance", torch.ones(32))
    def forward(self, x):
        x = self.first(x.flatten(1))
        x = nn.functional.batch_norm(x, self.mean, self.variance, training=self.training)
        return self.second(x.relu())
def make_model(image_shape, num_classes):
    c, h, w = image_shape
    return Net(c * h * w, num_classes)
"""
MINE = (*SMALL, "model=file", "model.path=net.py", "trainer.max_epochs=1")
RESNET = (*SMALL, "model=torchvision", "model.name=resnet18", "data.shape=[3,32,32]", "trainer.max_epochs=1")


def last_of_each(words: tuple[str, ...]) -> list[str]:
    """Return the words without those that a later word of the same key replaces."""
    return list({word.split("=")[0]: word for word in words}.values())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "functional.py").write_text(FUNCTIONAL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*MINE, "data.train_size=65"), "data.batch_size=32: 65 training images leave a last batch of one image"),
        (
            (*MINE, "model.path=functional.py", "data.train_size=65"),
            "65 training images leave a last batch of one image",
        ),
        ((*MINE, "data.train_size=1"), "use data.train_size=2 or more"),
        ((*MINE, "data.batch_size=1"), "use data.batch_size=2 or more"),
        ((*RESNET, "data.train_size=129", "data.batch_size=128"), "data.drop_last=true"),
        ((*RESNET, "model.name=mobilenet_v2", "data.train_size=65"), "data.drop_last=true"),
        ((*RESNET, "data.train_size=1"), "use data.train_size=2 or more"),
        ((*RESNET, "data.batch_size=100,64", "data.train_size=101", "-m"), "data.drop_last=true"),
    ],
)
def test_it_is_one_line_with_what_to_type(
    words: tuple[str, ...], said: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert entry.main(last_of_each(words)) == 2
    line = capfd.readouterr().err
    assert line.count("\n") == 1 and "the network's batch normalisation can't train" in line and said in line
    assert not list(folder.glob("outputs/*/*"))


@pytest.mark.parametrize(
    "words",
    [
        (*MINE, "data.train_size=65", "data.drop_last=true"),
        (*MINE, "data.train_size=66"),
        (*SMALL, "model=flatnet", "data.train_size=33", "trainer.max_epochs=1"),
    ],
)
@pytest.mark.usefixtures("no_pictures")
def test_what_can_train_trains(words: tuple[str, ...], folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.main(last_of_each(words)) == 0, capfd.readouterr().err


def test_images_that_turn_out_to_be_broken_count_too(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One of 66 training images is cut in its middle, which is found when it is decoded."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 80, 8, 8), np.uint8)
    for label, name in enumerate("ab"):
        for part, places in (("train", range(33)), ("val", range(33, 43)), ("test", range(43, 53))):
            (folder / "images" / part / name).mkdir(parents=True)
            for place in places:
                Image.fromarray(pixels[label, place]).save(folder / "images" / part / name / f"{place}.png")
    cut = folder / "images" / "train" / "a" / "7.png"
    cut.write_bytes(cut.read_bytes()[:60])
    words = ("data=image_folder", "data.path=images", "data.skip_broken=true", "data.batch_size=32", "threads=1")
    mine = ("model=file", "model.path=net.py", "accelerator=cpu", "trainer.max_epochs=1")
    assert entry.main([*words, *mine]) == 2
    said = capfd.readouterr().err
    assert "data.batch_size=32: 65 training images leave a last batch of one image" in said, said


def test_to_ask_leaves_no_trace_in_the_model_or_the_random_state(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = composed(*last_of_each((*SMALL, "model=vgg16", "data.shape=[1,28,28]", "data.train_size=33")))
    asked = prepare(settings, folder).model.state_dict()
    drawn = torch.rand(3)
    monkeypatch.setattr("dlintro.run.parts.refuse_one_image", lambda model, data: None)
    unasked = prepare(settings, folder).model.state_dict()
    assert all(torch.equal(asked[name], unasked[name]) for name in asked)
    assert torch.equal(drawn, torch.rand(3))


def test_the_reason_is_pytorchs_own() -> None:
    """PyTorch's error has the words that `refuse_one_image` looks for."""
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        TorchvisionNet((3, 32, 32), 10).train()(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
