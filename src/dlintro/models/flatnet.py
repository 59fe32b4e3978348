"""FlatNet, the slides' first classifier: W·x + b, a weight for each pixel and class. With hidden layers, an MLP."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from torch import nn

from dlintro.errors import UsageError
from dlintro.models.classifier import Classifier
from dlintro.settings.keys import Optim

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "identity": nn.Identity}


class FlatNet(Classifier):
    """Flattens the image and applies a linear layer, with (C·H·W + 1)·K parameters, 7,850 on MNIST. `hidden` lists the
    widths of hidden layers. Each is followed by the activation (relu, sigmoid or identity) and dropout."""

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        num_classes: int = 10,
        *,
        hidden: Sequence[int] = (),
        activation: str = "relu",
        dropout: float = 0.0,
        weights: str | None = None,
        freeze: str | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, optim, class_names)
        if activation not in ACTIVATIONS:
            raise UsageError(f"model.activation={activation}: use one of {', '.join(ACTIVATIONS)}")
        widths = [prod(image_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for width_in, width_out in pairwise(widths):
            layers += [nn.Linear(width_in, width_out), ACTIVATIONS[activation](), nn.Dropout(dropout)]
        self.network = nn.Sequential(*layers, nn.Linear(widths[-1], self.num_outputs))
        self.start_from(weights, freeze)
