"""Weights load from files whose names come from DataParallel, torch.compile or a checkpoint."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dlintro.errors import UsageError
from dlintro.models import VGG16, Classifier, FileNet, FlatNet, MnistCNN, TorchvisionNet
from dlintro.models.weights import load_weights


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 10))


class Named(nn.Module):
    """A network that itself has a module called `module`."""

    def __init__(self) -> None:
        super().__init__()
        self.module, self.last = nn.Linear(64, 8), nn.Linear(8, 10)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("make", [small, Named])
@pytest.mark.parametrize("wraps", [[], ["dp"], ["compile"], ["compile", "dp"], ["dp", "compile"], ["dp", "dp"]])
@pytest.mark.parametrize("prefix", ["", "network."])
def test_wrappers_names_are_taken_off(make: Any, wraps: list[str], prefix: str, tmp_path: Path) -> None:
    theirs, ours = make(), make()
    wrapped = theirs
    for wrap in wraps:
        wrapped = nn.DataParallel(wrapped) if wrap == "dp" else torch.compile(wrapped)
    tensors = {f"{prefix}{name}": tensor for name, tensor in wrapped.state_dict().items()}
    if prefix:  # a checkpoint of dlintro's holds other parts of the model too
        tensors = {"state_dict": tensors | {"pixels.mean_C11": torch.zeros(1)}}
    torch.save(tensors, tmp_path / "theirs.pt")
    assert not same(ours, theirs)
    load_weights(ours, tmp_path / "theirs.pt")
    assert same(ours, theirs)


def test_a_whole_model_that_was_wrapped_is_taken_too(tmp_path: Path) -> None:
    theirs = VGG16((1, 28, 28), 3)
    for wrapped in (nn.DataParallel(theirs), torch.compile(theirs)):
        torch.save(wrapped.state_dict(), tmp_path / "theirs.pt")  # type: ignore[attr-defined]
        ours = VGG16((1, 28, 28), 3, weights=str(tmp_path / "theirs.pt"))
        assert same(ours.network, theirs.network)


@pytest.mark.parametrize("channels", [1, 3])
def test_other_classes_get_a_new_head_from_a_wrapped_file_too(channels: int, tmp_path: Path) -> None:
    theirs = TorchvisionNet((channels, 32, 32), 10)
    network: Any = theirs.network if channels == 3 else theirs.network[1]  # type: ignore[index]
    torch.save(nn.DataParallel(network).state_dict(), tmp_path / "theirs.pt")
    ours = TorchvisionNet((channels, 32, 32), 4, weights=str(tmp_path / "theirs.pt"))
    mine: Any = ours.network if channels == 3 else ours.network[1]  # type: ignore[index]
    assert torch.equal(mine.conv1.weight, network.conv1.weight) and mine.fc.out_features == 4


def test_a_wrapped_file_of_another_network_is_still_refused(tmp_path: Path) -> None:
    torch.save(nn.DataParallel(Named()).state_dict(), tmp_path / "theirs.pt")
    with pytest.raises(UsageError, match="weights of another network"):
        load_weights(small(), tmp_path / "theirs.pt")


@pytest.mark.parametrize("prefix", ["model.", "_orig_mod.model.", "network.", "module.network._orig_mod."])
@pytest.mark.parametrize("place", ["state_dict", "model", "model_state_dict", None])
def test_checkpoints_of_other_projects_load(prefix: str, place: str | None, tmp_path: Path) -> None:
    theirs, ours = small(), small()
    tensors = {f"{prefix}{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({place: tensors, "epoch": 3} if place else tensors, tmp_path / "theirs.pth")
    load_weights(ours, tmp_path / "theirs.pth")
    assert same(ours, theirs)


def test_every_model_starts_from_a_checkpoint_of_its_own_with_its_pixels(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make_model(image_shape, num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(image_shape[0], 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, num_classes))\n"
    )
    made: list[Callable[..., Classifier]] = [
        FlatNet,
        MnistCNN,
        VGG16,
        TorchvisionNet,
        lambda *arguments, **more: FileNet(*arguments, path=str(tmp_path / "net.py"), **more),
    ]
    for make in made:
        theirs = make((1, 32, 32), 5)
        theirs.pixels.set_statistics([0.25], [0.125])
        torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.ckpt")
        ours = make((1, 32, 32), 5, weights=str(tmp_path / "theirs.ckpt"))
        assert same(ours, theirs), "the pixels too"
        other = make((1, 32, 32), 3, weights=str(tmp_path / "theirs.ckpt"))
        assert other.num_outputs == 3 and other.pixels.mean_C11.item() == 0.25


def test_a_networks_of_grey_images_serves_colour_and_the_other_way_round(tmp_path: Path) -> None:
    for channels, others in ((1, 3), (3, 1)):
        theirs = TorchvisionNet((channels, 32, 32), 5)
        theirs.pixels.set_statistics([0.3] * channels, [0.2] * channels)
        torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.ckpt")
        ours = TorchvisionNet((others, 32, 32), 5, weights=str(tmp_path / "theirs.ckpt"))
        assert same(ours.core, theirs.core)
        torch.testing.assert_close(ours.pixels.mean_C11.flatten(), torch.full((others,), 0.3))


def test_the_training_images_decide_the_pixels_of_weights_that_say_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(FlatNet((1, 8, 8)).network.state_dict(), tmp_path / "theirs.pt")
    with caplog.at_level("INFO"):
        model = FlatNet((1, 8, 8), weights=str(tmp_path / "theirs.pt"))
    assert model.weights_statistics is None and "doesn't say how its pixels were normalised" in caplog.text


def test_a_misfit_names_the_first_tensor_with_both_shapes_and_the_key(tmp_path: Path) -> None:
    torch.save(FlatNet((1, 8, 8), hidden=[4, 6]).state_dict(), tmp_path / "theirs.pt")
    said = (
        r"model\.weights=.*theirs\.pt: these are the weights of another network or for images of another size, if "
        r"data\.image_size differs \(.* tensors don't fit, the first is .*4\.weight: 6x4 there, 5x4 here"
    )
    with pytest.raises(UsageError, match=said):
        FlatNet((1, 8, 8), hidden=[4, 5], weights=str(tmp_path / "theirs.pt"))


STRANGE = {
    "the weights 1.weight are not finite": {"network.1.weight": torch.full((10, 64), torch.nan)},
    "no pixels have the mean and the standard deviation": {"pixels.std_C11": torch.zeros(1, 1, 1)},
    "damaged: no pixels have": {"pixels.std_C11": torch.ones(3, 1, 1)},
}


@pytest.mark.parametrize("said", STRANGE)
def test_numbers_that_no_training_could_start_from_are_refused_in_one_line(said: str, tmp_path: Path) -> None:
    torch.save(FlatNet((1, 8, 8)).state_dict() | STRANGE[said], tmp_path / "theirs.pt")
    with pytest.raises(UsageError, match=rf"^model\.weights=[^\n]*theirs\.pt: [^\n]*{said}[^\n]*$"):
        FlatNet((1, 8, 8), weights=str(tmp_path / "theirs.pt"))


def test_a_network_without_parameters_has_nothing_to_start_from(tmp_path: Path) -> None:
    lines = [
        "from torch import nn",
        "def make_model(shape, num): return nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(num))",
    ]
    (tmp_path / "net.py").write_text("\n".join(lines))
    with pytest.raises(UsageError, match="this network has no parameters"):
        FileNet((1, 8, 8), path=str(tmp_path / "net.py"), freeze="backbone")
