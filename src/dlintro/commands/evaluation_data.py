"""Finds the test set that a model is evaluated on: its run's own, or the one named on the command line."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.errors import RunError, UsageError
from dlintro.reader import read_yaml
from dlintro.settings.conf import options
from dlintro.settings.keys import TEST_IMAGES, TEST_READING
from dlintro.settings.limits import check, is_known, read_value, unknown
from dlintro.text import printable

if TYPE_CHECKING:
    from dlintro.data import ImageDataModule
    from dlintro.models import Classifier

log = logging.getLogger(__name__)


def typed_settings(given: Mapping[str, str], keys: Sequence[str]) -> dict[str, Any]:
    """Return the values of the words, as training would read them. Raises UsageError for a key that is not among `keys`
    and for an illegal value."""
    for key in given:
        if key not in keys:
            raise UsageError(
                f"{key}: only training takes this key; use {', '.join(keys)}" if is_known(key) else unknown(key)
            )
    if (name := given.get("data")) is not None and name not in options("data"):
        raise UsageError(f"data={name}: there is no such data set; the data sets are {', '.join(options('data'))}")
    return {key: read_value(key, text) for key, text in given.items()}


def stored_data(folder: Path | None, record: Mapping[str, Any] | None, named: bool) -> dict[str, Any]:
    """Return the data settings of the run. Without its configuration, this is the name of the data set, which is enough
    for a published set. Unless the command names the set itself (`named`), raises UsageError for a damaged
    configuration and for a data set that only the user's own configuration has."""
    if folder is None or record is None:
        return {}
    file = folder / ".hydra" / "config.yaml"
    if not os.path.lexists(file):
        if record.get("data") not in options("data") and not named:
            raise UsageError(
                f"{file} is missing, and the record's data={printable(record.get('data'))} is not one of dlintro's "
                f"data sets; type data=NAME and the other keys data.* of the run"
            )
        return {"name": record.get("data")}
    try:
        stored = dict(read_yaml(file)["data"])
        for key in ("path", "labels"):
            if stored.get(key):  # relative to the folder where the user started the run
                hydra = read_yaml(file.parent / "hydra.yaml")["hydra"]
                stored[key] = str(Path(hydra["runtime"]["cwd"], Path(stored[key]).expanduser()))
    except (RunError, ValueError, TypeError, KeyError) as error:
        if named:
            return {}
        raise UsageError(
            f"{file.parent} is damaged, so the run's test set isn't known; type data={record.get('data')} and the "
            f"other keys data.* of the run"
        ) from error
    return stored


def data_settings(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ImageDataModule's arguments: the run's, replaced by those typed now. Another set has its defaults."""
    name = settings.get("data", stored.get("name"))
    if name is None:
        names = ", ".join(options("data"))
        raise UsageError(
            f"a checkpoint outside a run folder doesn't say which test set it belongs to; add data=NAME, one of {names}"
        )
    kept = stored if name == stored.get("name") else {}
    asked = [key.removeprefix("data.") for key in (*TEST_IMAGES, *TEST_READING)]
    arguments = {key: kept[key] for key in asked if kept.get(key) is not None}
    arguments |= {key.removeprefix("data."): value for key, value in settings.items() if key.startswith("data.")}
    arguments["name"] = name
    check({"data": arguments}, {"data": name})  # also the stored ones, as a run folder may come from anybody
    return arguments


def refuse_other_images(
    data: "ImageDataModule", checkpoint: Path, record: Mapping[str, Any] | None, stored: str | None, named: bool
) -> None:
    """Raise UsageError if the images are not those that the run was tested on. If the command names the images itself
    (`named`), only warn of test images that the run was trained on. `stored` is the name of the run's own data set."""
    from dlintro.models.weights import read_tensors
    from dlintro.run.inputs import num_trained_on, other_images, read_images

    facts, folder = data.source.facts, checkpoint.absolute().parent.parent
    if not facts.fingerprint:
        return
    if record is None:  # a checkpoint without a run folder
        noted = read_tensors(checkpoint).get("run")
        if not isinstance(noted, Mapping) or noted.get("images") not in ("", facts.fingerprint):
            log.warning(
                "the model may have been trained on some of these test images: the folder has changed since, or the "
                "checkpoint doesn't say which images it was trained on"
            )
        return
    differ = other_images(folder, record, facts.fingerprint, facts.images)
    if differ is None:
        return
    if record.get("images_fingerprint") is None and facts.name in (stored, record.get("data")):
        raise UsageError(
            f"{printable(folder.name)}: {differ}, so it may have been trained on some of these test images; "
            f"rerun={printable(folder.name)} trains it again"
        )
    if not named:
        raise UsageError(
            f"{printable(folder.name)}: the images are not those that it was tested on ({differ}); type data.path=DIR "
            f"to test it on the images that are there now, or rerun={printable(folder.name)} to train it on them"
        )
    if (old := read_images(folder)) is None:
        if record.get("images_fingerprint"):
            log.warning("%s doesn't say which images the run had, so it may have been trained on some of these", folder)
    elif trained_on := num_trained_on(old, facts.images):
        log.warning(
            "the model was trained or validated on %d of these %d test images, so the accuracy is too high",
            trained_on, facts.sizes["test"],
        )  # fmt: skip


def check_fit(model: "Classifier", data: "ImageDataModule") -> None:
    from dlintro.data.sources import takes

    name, shape = data.source.facts.name, data.image_shape
    wants, has = (model.image_shape, model.num_classes), (shape, data.num_classes)
    if wants != has:
        side = model.image_shape[1]
        resizable = "image_size" in takes(name) and model.image_shape == (shape[0], side, side) and wants[1] == has[1]
        hint = f"; data.image_size={side} would resize them" if resizable else ""
        raise UsageError(
            f"this model takes images of {wants[0]} and {wants[1]} classes, but data={name} has {has[0]} and {has[1]} "
            f"classes{hint}"
        )
    if model.sees_middle != data.sees_middle:
        middle, whole = "the middle of larger images", "whole images"
        used, here = (middle, whole) if model.sees_middle else (whole, middle)
        log.warning("the model was tested on %s, but data=%s shows it %s, which changes the accuracy", used, name, here)
    if model.class_names != list(data.class_names):
        log.warning("the names of the classes differ: %s", difference(model.class_names, data.class_names))


def difference(models: Sequence[str], datas: Sequence[str]) -> str:
    first = next(k for k, names in enumerate(zip(models, datas, strict=True)) if names[0] != names[1])
    return printable(f"class {first} is {models[first]} in the model and {datas[first]} in the data")
