"""Finds a data set by its name."""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from dlintro.data.image_file import MAX_SIDE
from dlintro.data.source import Source
from dlintro.errors import UsageError
from dlintro.settings.keys import TABLE


@functools.cache
def source_classes() -> dict[str, Callable[..., Source]]:
    """Return the data sets by name, from the `names` of the classes in this folder's files. A new file is found by
    itself; there is no list to add it to."""
    names = [f"{__package__}.{module.name}" for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(name) for name in names]
    kinds = [kind for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    return {name: kind for kind in kinds for name in vars(kind).get("names", ())}


def takes(name: str) -> dict[str, Parameter]:
    """Return the arguments of the data set's class, which are the keys data.* that it can use."""
    return dict(signature(source_classes()[name]).parameters)


def make_source(name: str, val_size: int | None = None, **arguments: Any) -> Source:
    """Make a data set. Raises UsageError for an unknown name and for an argument that is missing, useless or wrong."""
    if name not in source_classes():
        file = Path(__file__).with_name(f"{name}.py")
        hint = f"no class in {file} has names = ({name!r},)" if file.is_file() else "there is no such data set"
        raise UsageError(f"data={name}: {hint}; the data sets are {', '.join(source_classes())}")
    known = takes(name)
    given = {key: value for key, value in arguments.items() if value is not None and value is not False}
    for key in given:
        if key not in known:
            takers = [f"data={other}" for other in source_classes() if key in takes(other)]
            raise UsageError(f"data.{key} belongs to {' and '.join(takers) or 'no data set'}, not to data={name}")
    if not 1 <= given.get("image_size", 1) <= MAX_SIDE:
        raise UsageError(f"data.image_size={given['image_size']}: use a whole number from 1 to {MAX_SIDE}")
    given |= {"name": name} if "name" in known else {}
    given |= {"val_size": val_size} if "val_size" in known and val_size is not None else {}
    if lacking := [key for key, argument in known.items() if argument.default is Parameter.empty and key not in given]:
        row = TABLE.get(f"data.{lacking[0]}")
        raise UsageError(f"data={name} needs data.{lacking[0]}={row.example if row else '...'}")
    return source_classes()[name](**given)
