"""What a run is made of, from its settings: the data module, the model, callbacks; and what can be said of them before
training."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from hydra.utils import get_object

from dlintro.accelerators import Device
from dlintro.data import ImageDataModule
from dlintro.errors import UsageError
from dlintro.models import Classifier
from dlintro.record import config_hash


def build_parts(config: Mapping[str, Any]) -> tuple[ImageDataModule, Classifier]:
    """The data module, and a model for its images. UsageError where they can't be, before a pixel is decoded."""
    data = build_data(config)
    return data, build_model(config, data)


def build_data(config: Mapping[str, Any]) -> ImageDataModule:
    data: ImageDataModule = build(config["data"], L.LightningDataModule, seed=config["seed"])
    return data


def build_model(config: Mapping[str, Any], data: ImageDataModule) -> Classifier:
    model: Classifier = build(
        config["model"],
        L.LightningModule,
        image_shape=data.image_shape,
        num_classes=data.num_classes,
        class_names=data.class_names,
        optim=config["optim"],
    )
    return model


def build(settings: Mapping[str, Any], kind: type, **known: Any) -> Any:
    """An object of the class that `_target_` resolves to. Judged by the class, not by its spelling: a path may lead
    through a module's imports to anything."""
    arguments = dict(settings)
    target = str(arguments.pop("_target_", ""))
    found = get_object(target) if target.split(".")[0] in ("dlintro", "lightning", "torch") else None
    home = getattr(found, "__module__", "").split(".")[0]
    if not (isinstance(found, type) and issubclass(found, kind) and home in ("dlintro", "lightning", "torch")):
        own = "; your own network goes in by model=file" if kind is L.LightningModule else ""
        raise UsageError(f"_target_: {target} is not a {kind.__name__} of dlintro's{own}")
    return found(**arguments, **known)


def fingerprints(config: Mapping[str, Any], data: ImageDataModule) -> dict[str, str | None]:
    """Of what may change between two sittings: the images, and the user's own file of code if the model is from one."""
    code = config["model"].get("path")
    digest = hashlib.sha256(Path(code).read_bytes()).hexdigest() if code else None
    return {"images": data.source.facts.fingerprint, "code": digest}


def facts(
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    data: ImageDataModule,
    model: Classifier,
    device: Device,
    precision: str,
) -> dict[str, Any]:
    """What the record can say before training."""
    optim, accumulate = model.optim, config["trainer"]["accumulate_grad_batches"]
    return {
        "model": config["model"].get("name", choices["model"]),
        "data": choices["data"],
        "classes": data.num_classes,
        "train_images": data.num_train,
        "accelerator": device.kind,
        "device": device.description,
        "precision": precision,
        "batch_size": data.batch_size,
        "accumulate": accumulate,
        "seed": config["seed"],
        "lr": optim.scaled_lr(data.images_per_step(accumulate)),
        "lr_rule": optim.lr_rule,
        "optimizer": optim.name,
        "schedule": optim.schedule,
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "config_hash": config_hash(config),
    }
