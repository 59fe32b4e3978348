"""Weights load from files whose names come from DataParallel, torch.compile or a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dlintro.errors import UsageError
from dlintro.models import VGG16, TorchvisionNet
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
