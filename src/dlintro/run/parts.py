"""Makes a run's parts from its settings: the data module, the model and the callbacks, and the facts for its record."""

import inspect
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from hydra.utils import get_object
from lightning.pytorch.callbacks import Callback

from dlintro.accelerators import Device, resolve, resolve_precision
from dlintro.data import ImageDataModule
from dlintro.errors import UsageError, one_line
from dlintro.models import Classifier
from dlintro.run.inputs import Inputs, other_images
from dlintro.run.record import Record, read_record
from dlintro.run.restore import Resumed, newest_checkpoint, read_resumable
from dlintro.settings.conf import file_of
from dlintro.settings.identity import config_hash
from dlintro.settings.keys import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
OURS = ("dlintro", "lightning", "torch")
WEIGHTS_STATISTICS = "those of the weights that the training started from"  # beside the data module's two texts


@dataclass(frozen=True)
class Run:
    """One run, ready to train; nothing is decoded or written yet. `inputs` has the fingerprints of what the run reads.
    `resumed` tells where a resumed run continues."""

    settings: Settings
    folder: Path
    device: Device
    precision: str
    data: ImageDataModule
    model: Classifier
    inputs: Inputs
    record: Record
    callbacks: Sequence[Callback] = ()
    resumed: Resumed | None = None


def prepare(settings: Settings, folder: Path, resumes: bool = False, images: str | None = None) -> Run:
    """Make the run that the settings ask for. Raises UsageError if that is impossible, before a pixel is decoded. A
    sweep passes the fingerprint that it knows for the data set as `images`."""
    device = resolve(settings.accelerator.name, settings.accelerator.index)
    precision = resolve_precision(settings.trainer.precision, device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    L.seed_everything(settings.seed, verbose=False)
    data = build_data(settings)
    if images not in (None, data.source.facts.fingerprint):
        raise UsageError(f"data.path={settings.data.get('path')}: the images have changed since the sweep began")
    if resumes:
        refuse_other_images(folder, data)
    gone = resumes and is_gone(settings.model.get("weights"))
    model = build_model(settings, data, starts=not gone)
    refuse_one_image(model, data)
    if (asked := settings.data["batch_size"]) > data.batch_size:
        log.warning("%s", fewer_images([asked], data.num_train))
    callbacks = [build(f"callbacks.{name}", values, Callback) for name, values in settings.callbacks.items()]
    inputs = Inputs.of(data, settings.code, model.weights_file)
    if gone:
        inputs = replace(inputs, weights=read_record(folder).get("weights_fingerprint"))
    run = Run(settings, folder, device, precision, data, model, inputs, Record(folder), callbacks)
    if not resumes:
        return run
    if (checkpoint := newest_checkpoint(folder)) is None:
        if read_record(folder).get("status") == "ok":  # a job of a sweep keeps its best weights alone
            raise UsageError(
                f"resume={folder.name}: it has finished and kept no checkpoint to go on from; "
                f"model.weights={folder.name} without resume starts another run from its weights"
            )
        raise UsageError(
            f"resume={folder.name}: it stopped before its first checkpoint; rerun={folder.name} starts it again"
        )
    resumed = read_resumable(checkpoint, model, inputs.noted)
    if gone:
        log.info("model.weights=%s: gone, but the run's checkpoint has all weights", settings.model["weights"])
        if read_record(folder).get("statistics") == WEIGHTS_STATISTICS:
            model.weights_statistics = resumed.statistics
    return replace(run, resumed=resumed)


def is_gone(weights: str | None) -> bool:
    """Return whether `model.weights` names a file that is no longer there. A resumed run doesn't need it."""
    return weights not in (None, "imagenet") and not Path(weights).expanduser().is_file()


def refuse_other_images(folder: Path, data: ImageDataModule) -> None:
    """Raise UsageError if the run in `folder` began with other images: it might train on images it is tested on."""
    facts = data.source.facts
    if differ := other_images(folder, read_record(folder), facts.fingerprint, facts.images):
        raise UsageError(
            f"resume={folder.name}: the images are not those that it began with ({differ}); "
            f"rerun={folder.name} starts it again"
        )


def build_data(settings: Settings) -> ImageDataModule:
    return build(file_of("data", settings.choices.data), settings.data, ImageDataModule, seed=settings.seed)


def build_model(settings: Settings, data: ImageDataModule, starts: bool = True) -> Classifier:
    """Build the model. Without `starts` the weights that `model.weights` names are not loaded."""
    known = {"image_shape": data.image_shape, "num_classes": data.num_classes, "class_names": data.class_names}
    where = file_of("model", settings.choices.model)
    values = settings.model if starts else settings.model | {"weights": None}
    return build(where, values, Classifier, **known, optim=settings.optim)


def fewer_images(asked: Sequence[int], num_train: int) -> str:
    """Say which batch size the requested ones become with so few training images."""
    sizes = ", ".join(map(str, asked))
    return f"data.batch_size={sizes}: there are {num_train} training images, so this is data.batch_size={num_train}"


def refuse_one_image(model: Classifier, data: ImageDataModule) -> None:
    """Raise UsageError if a training batch would be one image and the network's batch normalisation can't train on it,
    because one value per channel has no spread. Batch normalisation over the pixels of an image can. A forward pass
    tells, because a network of the user's may normalise without a module of PyTorch's."""
    size, num = data.batch_size, data.num_train
    smallest = size if num % size == 0 or data.drop_last else num % size
    if smallest != 1:
        return
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]  # a forward pass in training mode changes them
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            model(torch.zeros(1, *model.image_shape, dtype=torch.uint8))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):  # another error, which the run will report
            return
        raise UsageError(where_one(size, num)) from error
    except Exception:  # a user's network may fail in any way, and the run will report it
        return
    finally:
        for buffer, before in buffers:
            buffer.copy_(before)


def where_one(size: int, num: int) -> str:
    """Say why there is a batch of one image, and what to type instead."""
    key = "data.train_size" if num == 1 else "data.batch_size"
    if 1 in (size, num):
        return f"{key}=1: the network's batch normalisation can't train on a batch of one image; use {key}=2 or more"
    return (
        f"{key}={size}: {num} training images leave a last batch of one image, on which the network's batch "
        f"normalisation can't train; use data.drop_last=true, or another {key}"
    )


def build(where: str, values: Mapping[str, Any], kind: type[T], **known: Any) -> T:
    """Make an object of the class that `_target_` resolves to. `where` names the file or key for messages. The class is
    judged and not its spelling, because a path may lead through a module's imports to anything."""
    arguments = dict(values)
    target = str(arguments.pop("_target_", ""))
    try:
        found = get_object(target) if target.split(".")[0] in OURS else None
    except Exception as error:  # importing a file may fail in any way
        raise UsageError(f"{where}: _target_: {target}: {one_line(error)}{classes_beside(target)}") from error
    home = getattr(found, "__module__", "").split(".")[0]
    if not (isinstance(found, type) and issubclass(found, kind) and home in OURS):
        own = "; type model=file model.path=FILE.py for your own network" if kind is Classifier else ""
        raise UsageError(f"{where}: _target_: {target} is not one of dlintro's {kind.__name__} classes{own}")
    try:
        inspect.signature(found).bind(**arguments, **known)
    except TypeError as error:
        raise UsageError(f"{where}: {target}'s constructor: {error}") from error
    return found(**arguments, **known)


def classes_beside(target: str) -> str:
    """Return the end of a message: the classes in the module of a misspelt class."""
    module = sys.modules.get(target.rpartition(".")[0])
    kinds = [value for value in vars(module).values() if isinstance(value, type)] if module else []
    names = [kind.__name__ for kind in kinds if module and kind.__module__ == module.__name__]
    return f"; {module.__file__} has {', '.join(names)}" if module and names else ""


def facts(run: Run) -> dict[str, Any]:
    """Return the record's fields that are known before the training."""
    settings, data, model = run.settings, run.data, run.model
    optim, accumulate = settings.optim, min(settings.trainer.accumulate_grad_batches, data.num_train_batches())
    return {
        "model": settings.model.get("name", settings.choices.model),
        "data": settings.choices.data,
        "classes": data.num_classes,
        "train_images": data.num_train,
        "statistics": WEIGHTS_STATISTICS if model.weights_statistics else data.statistics,
        "greys": None if data.greys is None else "{} to {}".format(*data.greys),
        "accelerator": run.device.kind,
        "device": run.device.description,
        "precision": run.precision,
        "batch_size": data.batch_size,
        "accumulate": accumulate,
        "seed": settings.seed,
        "lr": optim.scaled_lr(data.images_per_step(accumulate)),
        "lr_rule": optim.lr_rule,
        "optimizer": optim.name,
        "schedule": optim.schedule,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "config_hash": config_hash(settings.plain(), run.inputs.weights),
        "images_fingerprint": run.inputs.images,
        "code_fingerprint": run.inputs.code,
        "weights_fingerprint": run.inputs.weights,
    }
