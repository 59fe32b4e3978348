"""Any classifier of torchvision, by name."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dlintro.errors import UsageError, one_line
from dlintro.models.classifier import Classifier
from dlintro.settings.keys import Optim

NO_AUXILIARY_LOGITS = ("googlenet", "inception_v3")  # their further outputs are only for training


class TorchvisionNet(Classifier):
    """`torchvision.models.NAME` for this number of classes, with random weights or with `weights`: imagenet for those
    that torchvision published, or a file. Grey images are repeated to three channels."""

    channels_last = True

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        *,
        name: str = "resnet18",
        weights: str | None = None,
        freeze: str | None = None,
        optim: Optim | Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(image_shape, num_classes, optim, class_names)
        import torchvision  # here, so that other models don't wait half a second for it

        names = torchvision.models.list_models(module=torchvision.models)
        if name not in names:
            import difflib

            near = difflib.get_close_matches(name, names, n=3) or ["resnet18", "vgg11_bn", "mobilenet_v3_small"]
            raise UsageError(f"model.name={name}: torchvision has no such classifier; did you mean {', '.join(near)}?")
        arguments: dict[str, Any] = {"weights": None, "num_classes": self.num_outputs}
        if name in NO_AUXILIARY_LOGITS:
            arguments |= {"aux_logits": False}
        if name.startswith(("vit_", "maxvit")):  # these need the image size at construction
            side = max(image_shape[1:])
            arguments |= {"input_size": (side, side)} if name.startswith("maxvit") else {"image_size": side}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # about a change of their initial weights
                network = torchvision.models.get_model(name, **arguments)
        except (AssertionError, ValueError) as error:
            raise UsageError(
                f"model.name={name}: this network can't take {tuple(image_shape)} images ({one_line(error)})"
            ) from error
        self.network = self.laid_out(nn.Sequential(Repeat(3), network) if image_shape[0] == 1 else network)
        self.try_out(f"model.name={name}")
        self.imagenet_name = name
        self.start_from(weights, freeze)

    @property
    def title(self) -> str:
        return str(self.imagenet_name)

    @property
    def core(self) -> nn.Module:
        """torchvision's network, without the layer that repeats grey images."""
        return self.network[1] if isinstance(self.network, nn.Sequential) else self.network


class Repeat(nn.Module):
    """Repeats a grey image to `channels` equal channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images_B1HW: Any) -> Any:
        return images_B1HW.expand(-1, self.channels, -1, -1)
