"""Loads weights to start from: a state dict or a checkpoint that holds one. For other classes the head is new."""

import errno
import logging
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlintro.errors import RunError, UsageError, refuse_url

log = logging.getLogger(__name__)

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation, per channel

STATE_DICTS = ("state_dict", "model_state_dict", "model")  # under which checkpoints keep their state dict
# What stands before the names of a network's tensors: DataParallel and torch.compile put the first two there, Lightning
# the name of the attribute; with grey images, the classifiers of torchvision stand behind a layer of ours.
PREFIXES = ("module.", "_orig_mod.", "network.1.", "network.", "model.")
UNREADABLE = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT)


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Load a local file of tensors and plain values with torch.load. A pickle is never run. Raises UsageError if there
    is no such file, and RunError if it is damaged or holds anything else."""
    refuse_url(path)
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    if zipfile.is_zipfile(path) and not is_whole(path):  # torch.load ignores the checksums
        raise RunError(f"{path}: damaged: its checksums are wrong")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # foreign bytes may fail anywhere in the reader
        raise RunError(
            f"{path}: damaged, or it holds more than tensors and plain values (a pickle is never run)"
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content


def is_whole(path: str | Path) -> bool:
    """Return whether all checksums in a checkpoint are right. Raises OSError if the file can't be read, as it may be
    whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError as error:
        if error.errno in UNREADABLE:
            raise
        return False
    except Exception:  # damaged or foreign bytes may fail anywhere in the reader
        return False


def state_dict(content: dict[str, Any], path: str | Path) -> dict[str, torch.Tensor]:
    """Return the state dict of a checkpoint, or `content` if it is one. RunError if it isn't names and tensors."""
    tensors = next((content[key] for key in STATE_DICTS if key in content), content)
    pairs = tensors.items() if isinstance(tensors, dict) else [("", None)]
    if odd := [key for key, value in pairs if not (isinstance(key, str) and isinstance(value, torch.Tensor))]:
        raise RunError(f"{path}: not a state dict: the entry {odd[0]!r} is not a tensor with a name")
    return dict(tensors)


def under_its_names(own: Collection[str], tensors: dict[str, Any]) -> dict[str, Any]:
    """Rename tensors as in the network whose names are `own`: take off the prefixes of checkpoints and of wrappers, in
    whatever order they come. A module of the network that has such a name itself keeps it, as the renaming with the
    most names in common is chosen. Tensors of a checkpoint outside the network are dropped."""
    found, waiting = tensors, [tensors]
    while waiting:
        these = waiting.pop(0)
        if len(these.keys() & own) > len(found.keys() & own):
            found = these
        shorter = ({k.removeprefix(p): v for k, v in these.items() if k.startswith(p)} for p in PREFIXES)
        waiting += [some for some in shorter if some]
    return found


def load_weights(
    network: nn.Module, path: str | Path, head: str | None = None, unused: tuple[str, ...] = ()
) -> Statistics | None:
    """Copy the weights at `path` into `network`: a state dict, or a checkpoint that holds one. Return by which mean and
    standard deviation their pixels were normalised, if the file says so, as dlintro's checkpoints do.

    If the layer `head` (None: the last one) has another number of classes, it keeps its initial weights. Tensors whose
    names begin with one of `unused` are left out. If the first convolution sees one channel here and three there, the
    sum of its three filters sees in a grey image what they see in the same image with three equal channels. Raises
    UsageError, which names the first tensor that doesn't fit, for any other difference, and RunError for a damaged
    file. The network then stays as it is.
    """
    own = network.state_dict()
    head = head or last_layer(network)
    whole = state_dict(read_tensors(path), path)
    found = under_its_names(own.keys(), whole)
    tensors = {key: value for key, value in found.items() if not key.startswith(unused)}
    of_head = [key for key in own if key.startswith(f"{head}.")]
    new_head = any(key in tensors and tensors[key].shape != own[key].shape for key in of_head)
    if new_head:
        log.info(
            "%s: the number of classes differs, so the last layer (%s) is new and keeps its initial weights",
            path,
            head,
        )
        tensors = {key: value for key, value in tensors.items() if not key.startswith(f"{head}.")}
    first = next((key for key in own if own[key].ndim == 4), "")
    if first in tensors and is_colour(tensors[first]) and own[first].shape[1] == 1:
        log.info("%s: made for colour images, so the first layer (%s) adds its filters for grey ones", path, first)
        tensors[first] = tensors[first].sum(1, keepdim=True)
    misfits = [key for key in own if key not in tensors and not (new_head and key in of_head)]
    misfits += [key for key in tensors if key not in own or tensors[key].shape != own[key].shape]
    if misfits:
        there, here = (described(some.get(misfits[0])) for some in (tensors, own))
        alike = own.keys() - of_head == tensors.keys() - of_head
        size = " or for images of another size, if data.image_size differs" if alike else ""
        num = "1 tensor doesn't" if len(misfits) == 1 else f"{len(misfits)} tensors don't"
        raise UsageError(
            f"{path}: these are the weights of another network{size} ({num} fit, the first is {misfits[0]}: {there} "
            f"there, {here} here)"
        )
    if odd := next((key for key, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise RunError(f"{path}: the weights {odd} are not finite, as those of a training that diverged")
    statistics = statistics_in(whole)
    if statistics is not None and not are_of_pixels(*statistics):
        raise RunError(f"{path}: damaged: no pixels have the mean and the standard deviation in it")
    network.load_state_dict(tensors, strict=False)
    return statistics


def is_colour(filters: torch.Tensor) -> bool:
    return filters.ndim == 4 and filters.shape[1] == 3


def described(tensor: torch.Tensor | None) -> str:
    return "none" if tensor is None else "x".join(map(str, tensor.shape)) or "a number"


def statistics_in(tensors: Mapping[str, torch.Tensor]) -> Statistics | None:
    """Return the mean and the standard deviation by which a model of dlintro's normalises pixels, or None if these are
    the tensors of another model."""
    both = [next((t for k, t in tensors.items() if k.endswith(f"pixels.{name}_C11")), None) for name in ("mean", "std")]
    mean_C, std_C = (None if tensor is None else tuple(tensor.double().flatten().tolist()) for tensor in both)
    return (mean_C, std_C) if mean_C and std_C else None


def are_of_pixels(mean: Sequence[float], std: Sequence[float]) -> bool:
    return len(mean) == len(std) and all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)


def last_layer(network: nn.Module) -> str:
    """Return the name of the last module that has parameters of its own: the layer that makes the logits."""
    names: list[str] = [name for name, module in network.named_modules() if module._parameters]
    if not names:
        raise UsageError("this network has no parameters, so there is nothing to start from, to freeze or to train")
    return names[-1]
