"""A data set's name -> the Source that has its pixels. Nothing random, no device."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from dlintro.data.folder import MAX_SIDE
from dlintro.data.source import Source
from dlintro.errors import UsageError
from dlintro.settings.keys import TABLE


@functools.cache
def source_classes() -> dict[str, Callable[..., Source]]:
    """The data sets by their names: the `names` of the classes in this folder's files. A new file is found here; there
    is no list to add it to."""
    names = [f"{__package__}.{module.name}" for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(name) for name in names]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return {name: kind for kind in kinds for name in vars(kind).get("names", ())}


def takes(name: str) -> dict[str, Parameter]:
    """The arguments that mean something to the data set, of data.* and of the constructor of its class."""
    return dict(signature(source_classes()[name]).parameters)


def make_source(name: str, val_size: int | None = None, **arguments: Any) -> Source:
    """Raises UsageError for an unknown name, for an argument that the set can't use or lacks, or that is impossible."""
    if name not in source_classes():
        file = Path(__file__).with_name(f"{name}.py")
        hint = f"no class in {file} has names = ({name!r},)" if file.is_file() else "there is no such data set"
        raise UsageError(f"data={name}: {hint}; there are {', '.join(source_classes())}")
    known = takes(name)
    given = {key: value for key, value in arguments.items() if value is not None and value is not False}
    for key in given:
        if key not in known:
            takers = [f"data={other}" for other in source_classes() if key in takes(other)]
            raise UsageError(f"data.{key} means nothing to data={name}: it is for {', '.join(takers) or 'no data set'}")
    if not 1 <= given.get("image_size", 1) <= MAX_SIDE:
        raise UsageError(f"data.image_size={given['image_size']}: use a whole number from 1 to {MAX_SIDE}")
    given |= {"name": name} if "name" in known else {}
    given |= {"val_size": val_size} if "val_size" in known and val_size is not None else {}
    if lacking := [key for key, argument in known.items() if argument.default is Parameter.empty and key not in given]:
        row = TABLE.get(f"data.{lacking[0]}")
        raise UsageError(f"data={name} needs data.{lacking[0]}={row.example if row else '...'}")
    return source_classes()[name](**given)
