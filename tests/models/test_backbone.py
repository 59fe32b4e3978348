"""model.freeze, optim.backbone_lr and optim.head_epochs: which weights learn, when, and how fast."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from dlintro.errors import UsageError
from dlintro.models import VGG16, FlatNet, MnistCNN, TorchvisionNet
from dlintro.models.backbone import backbone_modules
from dlintro.models.optim import make_optimizer, make_scheduler
from dlintro.models.weights import last_layer
from dlintro.run.parts import prepare
from dlintro.settings.keys import Optim
from tests.conftest import SMALL, composed
from tests.run_folder import checkpoint

Run = Callable[..., Path]
WORDS = (*SMALL, "model=mnist_cnn", "model.widths=[4,8,16]", "model.batch_norm=true", "model.dropout=0.5",
         "optim.weight_decay=0.1", "trainer.max_epochs=3", "optim.schedule=none")  # fmt: skip
HEAD = ("network.12.weight", "network.12.bias")

pytestmark = pytest.mark.usefixtures("no_pictures")


def initial(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights that a run with WORDS begins with."""
    model = prepare(composed(*WORDS), folder / "never").model
    return {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("network.")}


def changed(folder: Path, before: dict[str, torch.Tensor], name: str = "last.ckpt") -> set[str]:
    after = checkpoint(folder, name)["state_dict"]
    return {key for key in before if not torch.equal(before[key], after[key])}


@pytest.mark.parametrize("extra", [(), ("optim.ema=0.9",), ("trainer.eval_images=64", "optim.name=sgd")], ids="+".join)
def test_a_frozen_backbone_and_its_batch_norm_stay_bit_for_bit_what_they_were(
    run: Run, tmp_path: Path, extra: tuple[str, ...]
) -> None:
    folder = run(*WORDS, "model.freeze=backbone", *extra)
    assert changed(folder, initial(tmp_path)) == set(HEAD)


def test_without_freezing_all_of_them_change(run: Run, tmp_path: Path) -> None:
    before = initial(tmp_path)
    assert changed(run(*WORDS), before) == set(before)


def test_the_head_learns_alone_for_as_many_epochs_as_asked(run: Run, tmp_path: Path) -> None:
    """Weight decay would move a weight that gets a gradient of zeros, so the others must get none at all."""
    before = initial(tmp_path)
    words = (*WORDS, "optim.head_epochs=2")
    assert changed(run(*words, "trainer.max_epochs=3", "trainer.max_steps=14"), before) == set(HEAD)  # 7 an epoch
    assert changed(run(*words, "trainer.max_epochs=3", "trainer.max_steps=15"), before) == set(before)


def test_what_stands_before_the_head_works_for_it() -> None:
    model = MnistCNN((1, 8, 8), 10, widths=[4, 8, 16], batch_norm=True, dropout=0.5, freeze="backbone").train()
    layers = list(model.network)  # type: ignore[arg-type]
    assert {type(layer) for layer in layers if layer.training} >= {nn.Dropout, nn.Linear}
    assert not any(layer.training for layer in layers if isinstance(layer, nn.BatchNorm2d))
    model.eval()
    assert not any(module.training for module in model.modules())
    model.train()
    assert layers[-2].training and not layers[1].training
    with model.evaluating():
        assert not layers[-2].training
    assert layers[-2].training and not layers[1].training


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "vit_b_16", "swin_t"])
def test_the_head_of_torchvisions_networks_makes_the_logits_and_nothing_is_in_both_parts(name: str) -> None:
    with torch.device("meta"):
        network = torchvision.models.get_model(name, weights=None, num_classes=7)
    head = last_layer(network)
    assert network.get_submodule(head).weight.shape[0] == 7
    backbone = list(backbone_modules(network, head))
    norms = [module for module in network.modules() if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm))]
    assert norms or name == "squeezenet1_1"
    assert set(norms) <= set(backbone) and not set(network.get_submodule(head).modules()) & set(backbone)


def test_the_head_of_vgg16_is_its_last_layer_and_its_small_head_as_a_whole() -> None:
    with torch.device("meta"):
        assert (VGG16().head, VGG16((3, 224, 224), head="imagenet").head) == ("classifier", "classifier.6")
        assert TorchvisionNet((1, 32, 32)).head == TorchvisionNet().head == "fc"


@pytest.mark.parametrize("schedule", ["none", "onecycle", "cosine", "step"])
@pytest.mark.parametrize("decay_biases", [True, False])
def test_the_schedule_scales_both_rates(schedule: Any, decay_biases: bool) -> None:
    optim = Optim(lr=0.1, backbone_lr=0.01, schedule=schedule, decay_biases=decay_biases, weight_decay=0.5)
    head, backbone = nn.Linear(2, 2), nn.Linear(3, 3)
    # optim.lr_rule has doubled the rate.
    optimizer = make_optimizer(optim, head.parameters(), 0.2, False, backbone.parameters())
    scheduler = make_scheduler(optim, optimizer, 20)
    rates: dict[int, list[float]] = {}
    for _ in range(20):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                rates.setdefault(id(parameter), []).append(group["lr"])
                assert group["weight_decay"] == (0.5 if decay_biases or parameter.ndim > 1 else 0)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    first, *others = [rates[id(parameter)] for parameter in head.parameters()]
    assert max(first) == pytest.approx(0.2, rel=0.05) and others == [first]
    for parameter in backbone.parameters():
        assert rates[id(parameter)] == pytest.approx([rate / 10 for rate in first])


def test_a_run_gives_both_rates_to_the_right_layers(run: Run, tmp_path: Path) -> None:
    """After one step of SGD, a weight has moved by its rate times its gradient."""
    words = (*WORDS, "optim.name=sgd", "optim.momentum=0", "optim.weight_decay=0", "trainer.max_steps=1", "optim.lr=1")
    before = initial(tmp_path)
    even, apart = (checkpoint(run(*words, *extra))["state_dict"] for extra in ((), ("optim.backbone_lr=0.25",)))
    for name in (name for name in before if before[name].is_floating_point() and "running" not in name):
        share = 1 if name in HEAD else 0.25
        moved = (apart[name] - before[name], share * (even[name] - before[name]))
        torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("optim", "freeze", "said"),
    [
        ({}, "backbone", "model.freeze=backbone: a FlatNet of one layer is all head"),
        ({"backbone_lr": 0.1}, None, "optim.backbone_lr: a FlatNet of one layer is all head"),
        ({"head_epochs": 1}, None, "optim.head_epochs: a FlatNet of one layer is all head"),
        ({}, "head", "model.freeze=head: use backbone or null"),
    ],
)
def test_what_can_have_no_effect_is_refused(optim: dict[str, float], freeze: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        FlatNet(optim=optim, freeze=freeze)


@pytest.mark.parametrize("optim", [{"backbone_lr": 0.1}, {"head_epochs": 1}])
def test_a_frozen_backbone_has_no_rate_and_no_turn(optim: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"optim.{next(iter(optim))}: with model.freeze=backbone the backbone never"):
        FlatNet(hidden=[4], optim=optim, freeze="backbone")


def test_as_many_head_epochs_as_epochs_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"optim\.head_epochs=3: trainer\.max_epochs=3 ends the training"):
        run(*WORDS, "optim.head_epochs=3")
