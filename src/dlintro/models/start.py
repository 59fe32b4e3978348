"""Loads the weights that `model.weights` names: ImageNet's, a file's, or those of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from dlintro.errors import RunError, UsageError, refuse_url
from dlintro.models import imagenet
from dlintro.models.weights import Statistics, load_weights

log = logging.getLogger(__name__)


def load_named(
    weights: str, network: nn.Module, head: str, imagenet_name: str | None, image_shape: Sequence[int]
) -> tuple[Path, Statistics | None]:
    """Load `weights`, "imagenet" or a path, into a network whose last layer is `head`. Return the file, and the mean
    and the standard deviation of the pixels that the weights are made for, if that is known.

    `imagenet_name` is the network of torchvision.models whose published weights fit (None: nobody has published any).
    Raises UsageError if there are no such weights or they don't fit.
    """
    known: imagenet.Published | None = None
    if weights == "imagenet":
        if imagenet_name is None:
            raise UsageError(
                "model.weights=imagenet: nobody has published ImageNet weights of this model; use model=vgg16 or "
                "model=torchvision"
            )
        path, known = imagenet.find(imagenet_name)
    else:
        path = Path(weights).expanduser()
    try:
        refuse_url(weights)
        if known is None and imagenet_name is not None and path.is_file():
            known = imagenet.recognised(imagenet_name, path)
        told = load_weights(network, path, head, imagenet.AUXILIARY if known else ())
    except (UsageError, RunError) as error:
        side = known.side if known else None
        hint = f"; they were made for images of {side} pixels a side: try data.image_size={side}" if side else ""
        raise UsageError(f"model.weights={error}{hint}") from error
    if known and 2 * min(image_shape[1:]) < known.side:
        log.info(
            "%s: made for images of %d pixels a side, and these have %d; a larger data.image_size usually helps",
            path, known.side, min(image_shape[1:]),
        )  # fmt: skip
    statistics = known.statistics if known else told
    if statistics is None:
        log.info("%s: it doesn't say how its pixels were normalised; as in other runs, the data set decides", path)
        return path, None
    return path, for_channels(statistics, image_shape[0])


def for_channels(statistics: Statistics, channels: int) -> Statistics:
    """Return the statistics for images of this many channels. Grey images get the mean over the colours, and colours
    all get those of grey."""
    mean_C, std_C = statistics
    if len(mean_C) == channels:
        return statistics
    mean, std = (sum(values) / len(values) for values in (mean_C, std_C))
    return (mean,) * channels, (std,) * channels
