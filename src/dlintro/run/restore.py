"""Restores a trained model from its run folder or checkpoint, and finds the checkpoint that a run resumes from.

A checkpoint may come from anybody. It is read as tensors and plain values, its model must be one of dlintro's by name,
and no path in it is followed.
"""

import logging
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlintro.callbacks.checkpoints import BEST, LAST, PREVIOUS
from dlintro.data.image_file import MAX_SIDE
from dlintro.errors import RunError, Unresumable, UsageError, one_line, refuse_url
from dlintro.models import Classifier, FileNet, model_classes
from dlintro.models.classifier import ALL_16_BITS, FROM_THE_USER
from dlintro.models.weights import Statistics, is_whole, read_tensors, state_dict, statistics_in
from dlintro.run.begin import ODD
from dlintro.run.inputs import file_fingerprint
from dlintro.run.record import read_record

log = logging.getLogger(__name__)

DAMAGED = "damaged.ckpt"
RESUMABLE = (  # the parts of a checkpoint that a run needs to resume
    "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step", "random_state",
    "dlintro", "curves", "run",
)  # fmt: skip


@dataclass(frozen=True)
class Resumed:
    """The checkpoint that a run resumes from, and how long the curves were then. `sizes` has the bytes of the curves'
    files. `edited` tells whether the user's file of code has changed since. `statistics` are the mean and the standard
    deviation by which the model normalises pixels."""

    checkpoint: Path
    step: int
    images_seen: int
    seconds: float
    sizes: Mapping[str, int]
    edited: bool
    statistics: Statistics | None


def load_run(path: str | Path, model_path: str | None = None) -> tuple[Classifier, dict[str, Any] | None]:
    """Return the model in evaluation mode and the record of its run (None for a checkpoint outside a run folder).

    `path` is a checkpoint file, or a run folder, whose val-best checkpoint is taken. `model_path` is the user's own
    file for a model that came from one. Raises UsageError or RunError, in one line, for anything that isn't such a
    model."""
    checkpoint = find_checkpoint(path)
    folder = run_folder(checkpoint)
    return load_checkpoint(checkpoint, model_path), read_record(folder) if folder else None


def find_checkpoint(path: str | Path) -> Path:
    """Return the val-best checkpoint of a run folder. Any other path is taken for a checkpoint itself."""
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
    read_record(folder)  # raises if this is no run folder
    raise UsageError(f"{path}: this run has no checkpoint, as it stopped before its first one; name another run")


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint that the run in `folder` can resume from: the last one or, if that is damaged, the one
    before it. Returns None if there is none, and raises RunError if none is whole."""
    last, previous = (folder / "checkpoints" / name for name in (LAST, PREVIOUS))
    if not last.is_file() and not previous.is_file():
        return None
    if last.is_file() and is_whole(last):
        return last
    log.warning("%s: %s", last, "damaged" if last.is_file() else "gone")
    if not previous.is_file() or not is_whole(previous):
        raise RunError(f"{last}: damaged, and no whole checkpoint is left; rerun= starts the run again")
    log.warning("resuming from the checkpoint before the last one, %s", previous)
    return previous


def put_aside_damaged(resumed: Resumed) -> bool:
    """Rename damaged checkpoints, and return whether the best one was damaged; the best of the following epochs then
    takes its place. A damaged last one must go, or the next save would keep it instead of the good one."""
    last, best = (resumed.checkpoint.with_name(name) for name in (LAST, BEST))
    if resumed.checkpoint != last and last.is_file():
        last.replace(last.with_name(DAMAGED))
    if not best.is_file() or is_whole(best):
        return False
    log.warning("%s: damaged; the best epoch is chosen among the following ones only", best)
    best.replace(best.with_name(f"damaged-{BEST}"))
    return True


def read_resumable(path: Path, model: Classifier, run: Mapping[str, Any]) -> Resumed:
    """Read the checkpoint from which this model resumes. `run` has the fingerprints of the images and of the user's
    code, as checkpoints note them. Raises Unresumable for another run's checkpoint and UsageError for other images or
    other weights to start from, before anything is changed. begin.py compares the counts later, when the images have
    been read."""
    checkpoint = read_tensors(path)
    if missing := [part for part in RESUMABLE if checkpoint.get(part) is None]:
        raise Unresumable(f"{path}: no run can resume from this checkpoint, because it lacks {', '.join(missing)}")
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
        weights = checkpoint["run"].get("weights", run["weights"])  # earlier versions noted none
        sizes = dict(curves["sizes"])
        step, statistics = checkpoint["global_step"], statistics_in(checkpoint["state_dict"])
        resumed = Resumed(path, step, images_seen, curves["seconds"], sizes, not code, statistics)
        counts = [resumed.step, resumed.images_seen, *resumed.sizes.values(), resumed.sizes["metrics.csv"]]
        whole = all(isinstance(n, int) and n >= 0 for n in counts) and all(isinstance(name, str) for name in sizes)
        whole = whole and isinstance(resumed.seconds, float) and math.isfinite(resumed.seconds)
    except ODD as error:
        raise Unresumable(f"{path}: damaged: it doesn't say how far the run had trained") from error
    if not whole:
        raise Unresumable(f"{path}: damaged: it doesn't say how far the run had trained")
    if not images:
        raise UsageError(
            f"resume={path.parent.parent.name}: the images are not those that {path.name} was trained on; "
            f"rerun={path.parent.parent.name} starts it again"
        )
    if weights != run["weights"]:
        raise UsageError(
            f"resume={path.parent.parent.name}: model.weights is not the file that the run started from, which has the "
            f"SHA-256 {str(weights)[:12]}…; name that one, model.weights=FILE"
        )
    return resumed


def run_folder(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint lies in, or None if there is none."""
    folder = checkpoint.absolute().parent.parent
    return (
        folder
        if checkpoint.absolute().parent.name == "checkpoints" and os.path.lexists(folder / "record.json")
        else None
    )


def load_checkpoint(path: Path, model_path: str | None = None) -> Classifier:
    classes = model_classes()  # outside the try: if a model's file can't be imported, the checkpoint may be whole
    try:
        content = read_tensors(path)
        kind = classes[content["dlintro"]["model"]]
        arguments = {key: value for key, value in content["hyper_parameters"].items() if key not in FROM_THE_USER}
        weights, noted = dict(content["state_dict"]), content.get("run")
        greys = content["dlintro"].get("greys", ALL_16_BITS)
        sees_middle = content["dlintro"].get("sees_middle", False) is True
    except (UsageError, RunError, MemoryError):
        raise
    except Exception as error:  # a stranger's file may fail anywhere
        raise RunError(f"{path}: damaged, or not a dlintro checkpoint") from error
    if kind is FileNet:
        arguments["path"] = named_again(path, model_path)
        if isinstance(noted, dict) and noted.get("code") not in (None, file_fingerprint(model_path)):
            log.warning("model.path=%s: edited since the run, so the network may be another one", model_path)
    elif model_path is not None:
        raise UsageError(
            f"model.path={model_path}: {path} is a {kind.__name__}, which needs no file; leave model.path out"
        )
    whose = f"model.path={model_path}" if kind is FileNet else f"{path}: damaged"
    try:
        check_facts(**arguments)
        check_greys(greys)
        model = kind(**arguments)
        model.load_state_dict(weights)
    except MemoryError:
        raise
    except Exception as error:  # the user's own file may fail anywhere, too
        if kind is FileNet and isinstance(error, UsageError):  # it already says what is wrong with the file
            raise
        raise RunError(f"{whose}: the weights don't fit a {kind.__name__} ({one_line(error)})") from error
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise RunError(f"{path}: its weights are not finite")
    model.greys, model.sees_middle = greys, sees_middle
    return model.eval()


def named_again(path: Path, model_path: str | None) -> str:
    if model_path is None:
        raise UsageError(
            f"{path}: its network came from your own file, and code is never taken from a checkpoint: "
            f"name the file again, model.path=FILE.py"
        )
    return model_path


def check_greys(greys: Any) -> None:
    """Raise ValueError or TypeError unless these are the values of black and of white, or None."""
    if greys is not None:
        black, white = greys
        if not (isinstance(black, int) and isinstance(white, int) and -(2**31) <= black < white < 2**32):
            raise ValueError(f"its greys are {greys}")


def check_facts(image_shape: Any, num_classes: Any, class_names: Any, **others: Any) -> None:
    """Raise ValueError or TypeError unless the shape has three sides and there are as many names as classes."""
    if len(image_shape) != 3 or not all(isinstance(side, int) and 1 <= side <= MAX_SIDE for side in image_shape):
        raise ValueError(f"its images have the shape {image_shape}")
    if len(class_names) != num_classes or not all(isinstance(name, str) for name in class_names):
        raise ValueError(f"{len(class_names)} names for {num_classes} classes")
