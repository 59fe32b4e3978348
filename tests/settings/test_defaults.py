"""The defaults in the YAML files and in Python's signatures agree, so README's Python lines train what scripts/train
trains."""

from dataclasses import asdict
from inspect import Parameter, signature
from typing import Any

import pytest

from dlintro.data import ImageDataModule
from dlintro.data.sources import source_classes, takes
from dlintro.models import MnistCNN, model_classes
from dlintro.settings.conf import defaults, options
from dlintro.settings.keys import TABLE, Optim
from tests.conftest import composed


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def given(kind: Any) -> dict[str, Any]:
    """Return the defaults of a signature."""
    found = signature(kind).parameters.items()
    return {name: plain(p.default) for name, p in found if p.default is not Parameter.empty}


@pytest.mark.parametrize("model", options("model"))
def test_a_models_signature_and_rate_are_those_of_its_file(model: str) -> None:
    settings = composed(f"model={model}")
    values = dict(settings.model)
    kind = model_classes()[values.pop("_target_").rpartition(".")[2]]
    assert values and values == {name: given(kind).get(name, "not in the signature") for name in values}
    assert kind.default_lr == settings.optim.lr


@pytest.mark.parametrize("data", options("data"))
def test_a_data_sets_signatures_are_those_of_its_file(data: str) -> None:
    values = {name: value for name, value in composed(f"data={data}").data.items() if name not in ("_target_", "name")}
    known = given(ImageDataModule) | {n: plain(p.default) for n, p in takes(data).items() if n != "val_size"}
    # A path that must be given has no default in Python. A set that can't resize has no image_size.
    assert known.pop("path", None) in (None, Parameter.empty) and values.pop("path", None) is None
    known.setdefault("image_size", None)
    assert values == {name: known.get(name, "not in the signature") for name in values}


def test_every_data_set_has_its_file_and_the_other_way_round() -> None:
    assert sorted(source_classes()) == options("data")


def test_optim_in_python_is_as_in_the_file() -> None:
    assert asdict(Optim()) == {key.argument: defaults()[key.name] for key in TABLE.values() if key.group == "optim"}


def test_readmes_python_lines_train_what_the_command_trains() -> None:
    settings, model, data = composed(), MnistCNN(), ImageDataModule("mnist")
    assert model.optim == settings.optim
    assert list(model.hparams["widths"]) == settings.model["widths"] and model.hparams["dropout"] == 0.0
    assert (data.batch_size, data.seed, data.drop_last, data.num_val) == (128, settings.seed, False, 5_000)


def test_a_keys_default_is_that_of_the_first_option_that_its_row_names() -> None:
    found = defaults()
    assert found["model.dropout"] == 0.0 and found["model.head"] == "small" and found["data.shape"] == [3, 32, 32]
    assert found["optim.lr"] == 0.003 and found["data.name"] == "mnist" and found["accelerator.name"] == "auto"
    assert set(found) == set(TABLE)
