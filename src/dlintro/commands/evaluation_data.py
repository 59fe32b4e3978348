"""Which test set a model is evaluated on: its run's own, or the one named on the command line."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.errors import RunError, UsageError
from dlintro.reader import read_yaml
from dlintro.settings.conf import options
from dlintro.settings.keys import TEST_IMAGES, TEST_READING
from dlintro.settings.limits import check
from dlintro.text import printable

if TYPE_CHECKING:
    from dlintro.data import ImageDataModule
    from dlintro.models import Classifier

log = logging.getLogger(__name__)


def stored_data(folder: Path | None, record: Mapping[str, Any] | None, named: bool) -> dict[str, Any]:
    """The data settings that the run was trained with; without its configuration, the data set's name, which is all
    that a published set needs. UsageError for a damaged configuration, and for a name that only the user's own
    configuration knows, unless the command says itself which set it is (`named`)."""
    if folder is None or record is None:
        return {}
    file = folder / ".hydra" / "config.yaml"
    if not os.path.lexists(file):
        if record.get("data") not in options("data") and not named:
            raise UsageError(
                f"{file} is missing, and the record's data={printable(record.get('data'))} is no data set of "
                f"dlintro's; type data=NAME and the other keys data.* of the run"
            )
        return {"name": record.get("data")}
    try:
        stored = dict(read_yaml(file)["data"])
        if stored.get("path"):  # relative to where the user was
            hydra = read_yaml(file.parent / "hydra.yaml")["hydra"]
            stored["path"] = str(Path(hydra["runtime"]["cwd"], Path(stored["path"]).expanduser()))
    except (RunError, ValueError, TypeError, KeyError) as error:
        if named:
            return {}
        raise UsageError(
            f"{file.parent} is damaged, so the run's test set isn't known; type data={record.get('data')} and the "
            f"other keys data.* of the run"
        ) from error
    return stored


def data_settings(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """ImageDataModule's arguments: the run's, with those given now in their place; another set has its defaults."""
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
    check({"data": arguments}, {"data": name})  # the stored ones too: a run folder may come from anybody
    return arguments


def refuse_other_images(
    data: "ImageDataModule", checkpoint: Path, record: Mapping[str, Any] | None, stored: str | None, named: bool
) -> None:
    """UsageError where the images are not those that the run was tested on, and the command doesn't say itself which
    they are (`named`); where it does, a warning of test images that the run was trained on. `stored`: the name of the
    run's own set."""
    from dlintro.models.weights import read_tensors
    from dlintro.run.inputs import num_trained_on, other_images, read_images

    facts, folder = data.source.facts, checkpoint.absolute().parent.parent
    if not facts.fingerprint:
        return
    if record is None:  # a checkpoint alone
        noted = read_tensors(checkpoint).get("run")
        if not isinstance(noted, Mapping) or noted.get("images") not in ("", facts.fingerprint):
            log.warning(
                "the model may have been trained on some of these test images: it wasn't trained on this folder as it "
                "is now, or the checkpoint doesn't say so"
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
            f"to test it on those that are there now, or train it on them with rerun={printable(folder.name)}"
        )
    if (old := read_images(folder)) is None:
        if record.get("images_fingerprint"):
            log.warning("%s doesn't say which images the run had: it may have been trained on some of these", folder)
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
            f"this model takes {wants[0]} and {wants[1]} classes, data={name} has {has[0]} and {has[1]} classes{hint}"
        )
    if model.class_names != list(data.class_names):
        log.warning("the classes have other names: %s", difference(model.class_names, data.class_names))


def difference(ours: Sequence[str], theirs: Sequence[str]) -> str:
    first = next(k for k, names in enumerate(zip(ours, theirs, strict=True)) if names[0] != names[1])
    return printable(f"the model's class {first} is {ours[first]}, the data's {theirs[first]}")
