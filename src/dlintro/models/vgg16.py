"""VGG16, model D of Simonyan & Zisserman 2014 (arXiv 1409.1556, table 1), built from its row of widths."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dlintro.errors import UsageError
from dlintro.models.classifier import Classifier
from dlintro.settings.keys import Optim

POOL = 0
ROW_D = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, POOL, 512, 512, 512, POOL, 512, 512, 512, POOL)


def features(channels: int, batch_norm: bool) -> nn.Sequential:
    """Make 3x3 convolutions with the row's widths, each with ReLU, and 2x2 max pooling where the row has POOL."""
    layers: list[nn.Module] = []
    for width in ROW_D:
        if width == POOL:
            layers += [nn.MaxPool2d(2)]
            continue
        norm = [nn.BatchNorm2d(width)] if batch_norm else []
        layers += [nn.Conv2d(channels, width, 3, padding=1), *norm, nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers)


def imagenet_head(num_outputs: int, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width_in in (512 * 7 * 7, 4096):
        layers += [nn.Linear(width_in, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(4096, num_outputs))


class VGG16(Classifier):
    """VGG16 with one of two heads. `head="imagenet"` is the paper's: 138,357,544 parameters for 1000 classes, 224x224.
    `head="small"` is one linear layer on 512 averaged features: 14,728,266 with batch norm for 10 classes, 32x32.
    `network` has torchvision's keys, so that its `vgg16` and `vgg16_bn` state dicts fit the imagenet head. `weights`
    names weights to start from: imagenet, or a file."""

    default_lr = 0.001
    smallest_side = 28
    padded_side = 32  # it halves five times: 32 -> 1
    channels_last = True  # 1.2 times the images per second on a CPU (AVX2, 2 cores, batch 128)

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        *,
        batch_norm: bool = True,
        init: str = "he",
        head: str = "small",
        dropout: float = 0.5,
        weights: str | None = None,
        freeze: str | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, optim, class_names)
        if head not in ("small", "imagenet"):
            raise UsageError(f"model.head={head}: use small or imagenet")
        if init not in ("he", "dirac"):
            raise UsageError(f"model.init={init}: use he or dirac")
        small = head == "small"
        classifier = (
            nn.Sequential(nn.Linear(512, self.num_outputs)) if small else imagenet_head(self.num_outputs, dropout)
        )
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            features=features(image_shape[0], batch_norm),
            avgpool=nn.AdaptiveAvgPool2d(1 if small else 7),
            flatten=nn.Flatten(),
            classifier=classifier,
        )
        self.network = self.laid_out(nn.Sequential(parts))
        self.network.apply(initialise)
        if init == "dirac":
            self.network.apply(pass_channels_on)
        self.imagenet_name = "vgg16_bn" if batch_norm else "vgg16"
        self.start_from(weights, freeze)

    @property
    def head(self) -> str:
        """The last of the imagenet head's three linear layers, or the whole small head. Files of the other head then
        give their convolutions."""
        return "classifier.6" if len(self.network.classifier) > 1 else "classifier"  # type: ignore[arg-type]


def initialise(layer: nn.Module) -> None:
    """Apply He's initialisation. Without batch norm, this network does not learn from PyTorch's default weights."""
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    elif isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight, 0, 0.01)
        nn.init.zeros_(layer.bias)


def pass_channels_on(layer: nn.Module) -> None:
    """Make the first filters of a convolution the identity, one for each channel that comes in. The other filters stay
    as they are. A signal then passes all layers from the first step on (Jordan 2024, arXiv 2404.00498)."""
    if isinstance(layer, nn.Conv2d):
        nn.init.dirac_(layer.weight.data[: layer.in_channels])
