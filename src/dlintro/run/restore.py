"""A trained model from its run folder or checkpoint, ready to answer.

A checkpoint may come from anybody: it is read as tensors and plain values, its model is one of ours by name, and no
path in it is followed.
"""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlintro.callbacks.checkpoints import BEST, LAST, PREVIOUS
from dlintro.data.folder import MAX_SIDE
from dlintro.errors import RunError, Unresumable, UsageError, one_line, refuse_url
from dlintro.models import Classifier, FileNet, model_classes
from dlintro.models.classifier import FROM_THE_USER
from dlintro.models.weights import is_whole, read_tensors, state_dict
from dlintro.run.begin import ODD
from dlintro.run.inputs import code_fingerprint
from dlintro.run.record import read_record

log = logging.getLogger(__name__)

DAMAGED = "damaged.ckpt"
RESUMABLE = (  # what a run goes on from
    "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step", "random_state",
    "dlintro", "curves", "run",
)  # fmt: skip


@dataclass(frozen=True)
class Resumed:
    """Where a run goes on: its checkpoint, and how far the curves had come. `sizes`: bytes of the curves' files;
    `edited`: whether the user's file of code was changed since."""

    checkpoint: Path
    step: int
    images_seen: int
    seconds: float
    sizes: Mapping[str, int]
    edited: bool


def load_run(path: str | Path, model_path: str | None = None) -> tuple[Classifier, dict[str, Any] | None]:
    """The model in evaluation mode, and the record of its run (None for a checkpoint outside a run folder).

    `path`: a run folder, whose val-best checkpoint is taken, or a checkpoint file. `model_path`: the user's own file,
    for a model that came from one. UsageError or RunError, one line, for anything that isn't such a model.
    """
    checkpoint = find_checkpoint(path)
    folder = run_folder(checkpoint)
    return load_checkpoint(checkpoint, model_path), read_record(folder) if folder else None


def find_checkpoint(path: str | Path) -> Path:
    """The val-best checkpoint of a run folder; a file is one itself."""
    refuse_url(path)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return folder
    checkpoints = folder / "checkpoints"
    if (checkpoints / "best.ckpt").is_file():
        return checkpoints / "best.ckpt"
    if (checkpoints / "last.ckpt").is_file():
        raise UsageError(
            f"{path}: this run stopped before its first validation, so it has no val-best weights; "
            f"type {checkpoints}/last.ckpt"
        )
    read_record(folder)  # not a run folder at all?
    raise UsageError(f"{path}: this run has no checkpoint, as it stopped before its first one; name another run")


def newest_checkpoint(folder: Path) -> Path | None:
    """What the run in `folder` can go on from: its last checkpoint or, where that is damaged, the one before it. None
    where there is none; RunError where none is whole."""
    last, previous = (folder / "checkpoints" / name for name in (LAST, PREVIOUS))
    if not last.is_file() and not previous.is_file():
        return None
    if last.is_file() and is_whole(last):
        return last
    log.warning("%s: %s", last, "damaged" if last.is_file() else "gone")
    if not previous.is_file() or not is_whole(previous):
        raise RunError(f"{last}: damaged, and there is no whole checkpoint before it; rerun= starts the run again")
    log.warning("going on from the checkpoint before the last one, %s", previous)
    return previous


def put_aside_damaged(resumed: Resumed) -> bool:
    """Whether the best checkpoint was damaged: the best of the epochs from here on takes its place. A damaged last one
    is put aside, else the next save would keep it in the place of the good one."""
    last, best = (resumed.checkpoint.with_name(name) for name in (LAST, BEST))
    if resumed.checkpoint != last and last.is_file():
        last.replace(last.with_name(DAMAGED))
    if not best.is_file() or is_whole(best):
        return False
    log.warning("%s: damaged; the best epoch is chosen from here on alone", best)
    best.replace(best.with_name(f"damaged-{BEST}"))
    return True


def read_resumable(path: Path, model: Classifier, run: Mapping[str, Any]) -> Resumed:
    """A checkpoint to go on from with this model. `run`: fingerprints of the images and of the user's own code, as
    checkpoints note them. Unresumable for another run's checkpoint, UsageError for other images, before anything is
    touched. Its counts are compared once the images have been read (begin.py)."""
    checkpoint = read_tensors(path)
    if missing := [part for part in RESUMABLE if checkpoint.get(part) is None]:
        raise Unresumable(f"{path}: no checkpoint that a run can go on from, it lacks {', '.join(missing)}")
    own, found = ({k: tuple(v.shape) for k, v in s.items()} for s in (model.state_dict(), state_dict(checkpoint, path)))
    if other := [key for key in own | found if own.get(key) != found.get(key)]:
        raise Unresumable(
            f"{path}: this checkpoint belongs to another network ({len(other)} tensors differ, the "
            f"first is {other[0]}: "
            f"{found.get(other[0], 'none')} there, {own.get(other[0], 'none')} here)"
        )
    try:
        curves, images_seen = checkpoint["curves"], checkpoint["dlintro"]["images_seen"]
        images, code = (checkpoint["run"][key] == run[key] for key in ("images", "code"))
        sizes = dict(curves["sizes"])
        resumed = Resumed(path, checkpoint["global_step"], images_seen, curves["seconds"], sizes, edited=not code)
        counts = [resumed.step, resumed.images_seen, *resumed.sizes.values(), resumed.sizes["metrics.csv"]]
        whole = all(isinstance(n, int) and n >= 0 for n in counts) and all(isinstance(name, str) for name in sizes)
        whole = whole and isinstance(resumed.seconds, float) and math.isfinite(resumed.seconds)
    except ODD as error:
        raise Unresumable(f"{path}: damaged, it doesn't say how far the run had come") from error
    if not whole:
        raise Unresumable(f"{path}: damaged, it doesn't say how far the run had come")
    if not images:
        raise UsageError(
            f"resume={path.parent.parent.name}: the images are not those that {path.name} was trained on; "
            f"rerun={path.parent.parent.name} starts it again"
        )
    return resumed


def run_folder(checkpoint: Path) -> Path | None:
    """The run folder that a checkpoint lies in."""
    folder = checkpoint.absolute().parent.parent
    return (
        folder
        if checkpoint.absolute().parent.name == "checkpoints" and os.path.lexists(folder / "record.json")
        else None
    )


def load_checkpoint(path: Path, model_path: str | None = None) -> Classifier:
    classes = model_classes()  # a model's file that can't be imported is no damage of the checkpoint's
    try:
        content = read_tensors(path)
        kind = classes[content["dlintro"]["model"]]
        arguments = {key: value for key, value in content["hyper_parameters"].items() if key not in FROM_THE_USER}
        weights, noted = dict(content["state_dict"]), content.get("run")
    except (UsageError, RunError, MemoryError):
        raise
    except Exception as error:  # a stranger's bytes and values may fail anywhere
        raise RunError(f"{path}: damaged, or not a checkpoint of dlintro's") from error
    if kind is FileNet:
        arguments["path"] = named_again(path, model_path)
        if isinstance(noted, dict) and noted.get("code") not in (None, code_fingerprint(model_path)):
            log.warning("model.path=%s: edited since the run, so the network may be another one", model_path)
    elif model_path is not None:
        raise UsageError(
            f"model.path={model_path}: {path} is a {kind.__name__}, which needs no file; leave model.path out"
        )
    whose = f"model.path={model_path}" if kind is FileNet else f"{path}: damaged"
    try:
        check_facts(**arguments)
        model = kind(**arguments)
        model.load_state_dict(weights)
    except MemoryError:
        raise
    except Exception as error:  # so may the user's own file
        if kind is FileNet and isinstance(error, UsageError):  # says what is wrong with the file
            raise
        raise RunError(f"{whose}: no {kind.__name__} for these weights ({one_line(error)})") from error
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise RunError(f"{path}: its weights are not finite")
    return model.eval()


def named_again(path: Path, model_path: str | None) -> str:
    if model_path is None:
        raise UsageError(
            f"{path}: its network came from a file of yours, which is code and never taken from a checkpoint: "
            f"name it again, model.path=FILE.py"
        )
    return model_path


def check_facts(image_shape: Any, num_classes: Any, class_names: Any, **others: Any) -> None:
    """What others rely on: three sides, and as many names as classes. ValueError or TypeError if not so."""
    if len(image_shape) != 3 or not all(isinstance(side, int) and 1 <= side <= MAX_SIDE for side in image_shape):
        raise ValueError(f"images of the shape {image_shape}")
    if len(class_names) != num_classes or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"{len(class_names)} names for {num_classes} classes")
