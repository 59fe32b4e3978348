"""The networks have the right sizes, equal torchvision's, take any image shape, and load from a checkpoint alone."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
import torchvision

from dlintro.data import ImageDataModule
from dlintro.errors import RunError, UsageError
from dlintro.models import VGG16, Classifier, FileNet, FlatNet, MnistCNN, TorchvisionNet, model_classes
from dlintro.models.weights import load_weights
from tests.conftest import SMALL


def num_parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_the_published_ones() -> None:
    assert num_parameters(FlatNet()) == 7_850
    assert num_parameters(FlatNet(hidden=[512, 512])) == 784 * 512 + 512 + 512 * 512 + 512 + 512 * 10 + 10
    assert num_parameters(VGG16()) == 14_728_266
    with torch.device("meta"):
        assert num_parameters(VGG16((3, 224, 224), 1000, head="imagenet", batch_norm=False)) == 138_357_544
        assert num_parameters(VGG16((3, 224, 224), 1000, head="imagenet", batch_norm=True)) == 138_365_992


def test_a_deeper_mnist_cnn_is_what_its_keys_say() -> None:
    net = MnistCNN(widths=[8, 12, 14, 0], convs_per_block=2, batch_norm=True).network
    kinds = [type(layer).__name__ for layer in net]
    block = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
    assert kinds == [*block, *block, *block, "Flatten", "Dropout", "Linear"]
    convolutions = [layer for layer in net if isinstance(layer, torch.nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [8, 8, 12, 12, 14, 14]
    assert [c.kernel_size[0] for c in convolutions] == [5, 3, 3, 3, 3, 3]
    assert num_parameters(net) == sum(9 * i * o + o for i, o in [(8, 8), (8, 12), (12, 12), (12, 14), (14, 14)]) + (
        25 * 8 + 8 + 2 * 2 * (8 + 12 + 14) + 3 * 3 * 14 * 10 + 10
    )
    with pytest.raises(UsageError, match=r"model.widths=\[8, 0, 16\]: only the last width may be 0"):
        MnistCNN(widths=[8, 0, 16])
    with pytest.raises(UsageError, match=r"model.convs_per_block=0: use 1 or more"):
        MnistCNN(convs_per_block=0)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_dirac_filters_copy_their_channels_through_all_thirteen_convolutions(batch_norm: bool) -> None:
    """The channels of a positive image come out at the end, pooled five times. Batch norm scales them."""
    net = VGG16((3, 32, 32), batch_norm=batch_norm, init="dirac").network.eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        features = net.features(images)[:, :3, 0, 0]  # type: ignore[operator]
    torch.testing.assert_close(features, images.amax((2, 3)), rtol=1e-4, atol=1e-4)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            copied = layer.weight.detach()[: layer.in_channels]
            assert torch.equal(copied, torch.nn.init.dirac_(torch.empty_like(copied)))
    others = net.features[0].weight[3:].detach()  # type: ignore[index]
    assert others.std() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)  # He's, by the outputs
    with pytest.raises(UsageError, match=r"model\.init=ones: use he or dirac"):
        VGG16(init="ones")


@pytest.mark.parametrize("batch_norm", [False, True])
def test_vgg16_and_torchvisions_have_the_same_keys_and_output(batch_norm: bool) -> None:
    ours = VGG16((3, 64, 64), 7, head="imagenet", batch_norm=batch_norm).eval()
    theirs = torchvision.models.vgg16_bn(num_classes=7) if batch_norm else torchvision.models.vgg16(num_classes=7)
    ours.network.load_state_dict(theirs.state_dict())
    theirs.eval().load_state_dict(ours.network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.network(images), theirs(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 30, 45), (3, 64, 48)])
@pytest.mark.parametrize("model", [FlatNet, MnistCNN, VGG16, TorchvisionNet])
def test_every_model_takes_any_image_shape_and_number_of_classes(
    model: type[Classifier], shape: tuple[int, int, int]
) -> None:
    net = model(shape, 7).eval()
    images = torch.randint(0, 256, (2, *shape), dtype=torch.uint8)
    assert net(images).shape == (2, 7)


def test_vgg16_refuses_images_too_small_to_halve_five_times() -> None:
    with pytest.raises(UsageError, match="28x28"):
        VGG16((1, 8, 8))


def test_a_batch_of_one_trains_in_all_three_models() -> None:
    for model in (FlatNet, MnistCNN, VGG16):
        data = ImageDataModule("synthetic", batch_size=1, shape=(1, 28, 28), train_size=2, val_size=1)
        data.prepare_data()
        data.setup()
        data.val = data.test = data.train_eval = data.train
        trainer = L.Trainer(
            max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        trainer.fit(model((1, 28, 28)), data)
        assert trainer.global_step == 2


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=flatnet",),
        ("model=mnist_cnn",),
        ("model=torchvision", "data.train_size=64"),
        pytest.param(("model=vgg16", "data.shape=[1,28,28]", "data.train_size=64"), marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_loads_without_arguments_and_gives_the_same_test_accuracy(
    run: Callable[..., Path], overrides: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    folder = run(*SMALL, "trainer.max_epochs=1", *overrides)
    record = json.loads((folder / "record.json").read_text())
    path = folder / "checkpoints" / "best.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    model_class = model_classes()[checkpoint["dlintro"]["model"]]
    model = model_class.load_from_checkpoint(path)
    data = ImageDataModule("synthetic", shape=model.image_shape)
    data.prepare_data()
    data.setup()
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.test(model, data, verbose=False)
    assert model.values["test/acc"] == record["best/test/acc"]
    assert model.class_names == checkpoint["hyper_parameters"]["class_names"]


def test_a_pickle_is_refused_before_it_acts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import pickle

    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
            return os.system, (f"touch '{tmp_path}/acted'",)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    for name, dump in (("plain.ckpt", pickle.dump), ("zip.ckpt", torch.save)):
        with (tmp_path / name).open("wb") as file:
            dump({"state_dict": Hostile(), "hyper_parameters": {}}, file)
        with pytest.raises(RunError, match=name):
            load_weights(FlatNet().network, tmp_path / name)
        with pytest.raises(Exception, match=r"[Ww]eights"):
            FlatNet.load_from_checkpoint(tmp_path / name)
    assert not (tmp_path / "acted").exists()


def test_weights_from_a_file_get_a_new_head_where_the_classes_differ(tmp_path: Path) -> None:
    old = VGG16((1, 28, 28), 10)
    torch.save(old.network.state_dict(), tmp_path / "vgg.pt")
    new = VGG16((1, 28, 28), 3, weights=str(tmp_path / "vgg.pt"))
    assert torch.equal(new.network.features[0].weight, old.network.features[0].weight)
    assert new.network.classifier[0].weight.shape == (3, 512)
    with pytest.raises(UsageError, match="another network"):
        load_weights(FlatNet().network, tmp_path / "vgg.pt")
    (tmp_path / "short.pt").write_bytes((tmp_path / "vgg.pt").read_bytes()[:1000])
    with pytest.raises(RunError, match="damaged"):
        load_weights(new.network, tmp_path / "short.pt")
    with pytest.raises(UsageError, match="URL"):
        load_weights(new.network, "https://example.org/vgg.pt")


def test_a_users_own_file_is_a_model_and_its_mistakes_are_answered(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "from math import prod\nfrom torch import nn\n"
        "def make_model(image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(prod(image_shape), num_classes))\n"
    )
    assert FileNet((1, 8, 8), 4, path=str(net))(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 4)
    net.write_text("make_model = 3")
    with pytest.raises(UsageError, match="doesn't define make_model"):
        FileNet((1, 8, 8), 4, path=str(net))
    with pytest.raises(UsageError, match="did you mean resnet18"):
        TorchvisionNet(name="resnet81")


def test_compiling_in_place_keeps_the_names_of_the_weights() -> None:
    model = FlatNet()
    names = list(model.state_dict())
    model.network.compile()
    assert list(model.state_dict()) == names
