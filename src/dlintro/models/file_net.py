"""Loads a user's own network from a file that defines `make_model(image_shape, num_classes) -> nn.Module`."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dlintro.errors import UsageError
from dlintro.models.classifier import Classifier
from dlintro.settings.keys import Optim


class FileNet(Classifier):
    """The network that the file's `make_model` returns. It takes normalised float32 (B, C, H, W) and returns
    (B, num_classes).

    The file is run as code. Its path therefore comes from the user each time, and never from a checkpoint or a record:
    `FileNet.load_from_checkpoint(checkpoint, path="my_net.py")`.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        *,
        path: str | None = None,
        weights: str | None = None,
        freeze: str | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, optim, class_names)
        if path is None:
            raise UsageError(
                "model=file needs model.path=FILE.py, a file that defines make_model(image_shape, num_classes)"
            )
        network = load_function(Path(path), "make_model")(tuple(image_shape), self.num_outputs)
        if not isinstance(network, nn.Module):
            raise UsageError(f"model.path={path}: make_model returned a {type(network).__name__}, not an nn.Module")
        self.network = network
        self.try_out(f"model.path={path}")
        self.start_from(weights, freeze)


def load_function(path: Path, name: str) -> Any:
    if not path.is_file():
        raise UsageError(f"model.path={path}: there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"model.path={path}: type the name of a Python file, which ends in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(function := getattr(module, name, None)):
        raise UsageError(f"model.path={path}: the file doesn't define {name}(image_shape, num_classes)")
    return function
