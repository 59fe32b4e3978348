"""Loads weights to start from: a state dict or a checkpoint of dlintro's. For other classes the head is new."""

import errno
import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dlintro.errors import RunError, UsageError, refuse_url

log = logging.getLogger(__name__)

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
    tensors = content.get("state_dict", content)
    pairs = tensors.items() if isinstance(tensors, dict) else [("", None)]
    if odd := [key for key, value in pairs if not (isinstance(key, str) and isinstance(value, torch.Tensor))]:
        raise RunError(f"{path}: not a state dict: the entry {odd[0]!r} is not a tensor with a name")
    return dict(tensors)


def under_its_names(own: Mapping[str, Any], tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Rename tensors as in the network `own`: drop the `prefix` of checkpoints and what DataParallel and torch.compile
    put before each name. A module of the network that has such a name itself keeps it."""
    wrapped = re.compile(rf"^({re.escape(prefix)}|network\.)?(?:module|_orig_mod)\.")
    while True:
        of_network = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        found = of_network or tensors
        if found.keys() == own.keys() or not any(map(wrapped.match, tensors)):
            return found
        tensors = {wrapped.sub(r"\1", key, count=1): value for key, value in tensors.items()}


def load_weights(network: nn.Module, path: str | Path, prefix: str = "network.") -> None:
    """Copy the weights at `path` into `network`. `prefix` is what its keys begin with in a checkpoint of dlintro's.

    If the last linear layer has another number of classes, it keeps its initial weights. Raises RunError, which names
    the first tensor that doesn't fit, for any other difference.
    """
    own = network.state_dict()
    tensors = under_its_names(own, state_dict(read_tensors(path), path), prefix)
    head = [key for key in own if key.rsplit(".", 1)[0] == list(own)[-1].rsplit(".", 1)[0]]
    new_head = any(key in tensors and tensors[key].shape != own[key].shape for key in head)
    if new_head:
        log.info(
            "%s: the number of classes differs, so the last layer (%s) keeps its initial weights", path, ", ".join(head)
        )
        tensors = {key: value for key, value in tensors.items() if key not in head}
    misfits = [key for key in own if key not in tensors and not (new_head and key in head)]
    misfits += [key for key in tensors if key not in own or tensors[key].shape != own[key].shape]
    if misfits:
        raise RunError(
            f"{path}: these are the weights of another network ({len(misfits)} tensors don't fit, "
            f"the first is {misfits[0]})"
        )
    network.load_state_dict(tensors, strict=False)
