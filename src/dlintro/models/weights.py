"""Starting from somebody's weights: a state dict, or one of our checkpoints, with a new head for other classes."""

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
    """torch.load of a local file of tensors and plain values. A pickle is never run."""
    refuse_url(path)
    if not Path(path).is_file():
        raise UsageError(f"{path}: there is no such file")
    if zipfile.is_zipfile(path) and not is_whole(path):  # torch.load doesn't look at the checksums
        raise RunError(f"{path}: damaged: its checksums are wrong")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a stranger's bytes may fail anywhere in the reader
        raise RunError(
            f"{path}: damaged, or it holds more than tensors and plain values (a pickle is never run)"
        ) from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds a {type(content).__name__}, not a state dict")
    return content


def is_whole(path: str | Path) -> bool:
    """Whether each part of a checkpoint has its checksum. OSError where the file can't be read, which says nothing of
    it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except OSError as error:
        if error.errno in UNREADABLE:
            raise
        return False
    except Exception:  # a disk's or a stranger's bytes may fail anywhere in the reader
        return False


def state_dict(content: dict[str, Any], path: str | Path) -> dict[str, torch.Tensor]:
    """Of a checkpoint, or what is one itself. RunError if it isn't names and tensors."""
    tensors = content.get("state_dict", content)
    pairs = tensors.items() if isinstance(tensors, dict) else [("", None)]
    if odd := [key for key, value in pairs if not (isinstance(key, str) and isinstance(value, torch.Tensor))]:
        raise RunError(f"{path}: no state dict: not everything in it is a tensor under a name ({odd[0]!r} is not)")
    return dict(tensors)


def under_its_names(own: Mapping[str, Any], tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors by the names that the network has for them: without our checkpoints' `prefix`, and without what
    DataParallel and torch.compile put before each name. A network's own module of that name stays."""
    wrapped = re.compile(rf"^({re.escape(prefix)}|network\.)?(?:module|_orig_mod)\.")
    while True:
        of_network = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        found = of_network or tensors
        if found.keys() == own.keys() or not any(map(wrapped.match, tensors)):
            return found
        tensors = {wrapped.sub(r"\1", key, count=1): value for key, value in tensors.items()}


def load_weights(network: nn.Module, path: str | Path, prefix: str = "network.") -> None:
    """Copies the weights at `path` into `network`; `prefix` is that of its keys in a checkpoint of ours.

    The last linear layer may have another number of classes: it then keeps its fresh weights. Anything else that
    doesn't fit is a RunError that names the first misfit.
    """
    own = network.state_dict()
    tensors = under_its_names(own, state_dict(read_tensors(path), path), prefix)
    head = [key for key in own if key.rsplit(".", 1)[0] == list(own)[-1].rsplit(".", 1)[0]]
    new_head = any(key in tensors and tensors[key].shape != own[key].shape for key in head)
    if new_head:
        log.info("%s: other classes, so the last layer (%s) starts afresh", path, ", ".join(head))
        tensors = {key: value for key, value in tensors.items() if key not in head}
    misfits = [key for key in own if key not in tensors and not (new_head and key in head)]
    misfits += [key for key in tensors if key not in own or tensors[key].shape != own[key].shape]
    if misfits:
        raise RunError(
            f"{path}: these are the weights of another network ({len(misfits)} tensors don't fit, "
            f"the first is {misfits[0]})"
        )
    network.load_state_dict(tensors, strict=False)
