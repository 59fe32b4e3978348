"""A data set's name -> the Source that has its pixels. Nothing random, no device."""

from collections.abc import Sequence

from dlintro.data.folder import MAX_SIDE, ImageFolder
from dlintro.data.official import CatsDogs, Official
from dlintro.data.source import Source
from dlintro.data.synthetic import Synthetic
from dlintro.errors import UsageError

# A data set and the arguments that mean something to it, beside val_size.
SOURCES: dict[str, tuple[str, ...]] = {
    "mnist": ("image_size",),
    "fashion_mnist": ("image_size",),
    "cifar10": ("image_size",),
    "cats_dogs": ("image_size",),
    "image_folder": ("path", "image_size", "skip_broken"),
    "synthetic": ("shape",),
}


def make_source(
    name: str,
    path: str | None = None,
    image_size: int | None = None,
    shape: Sequence[int] | None = None,
    val_size: int | None = None,
    skip_broken: bool = False,
) -> Source:
    """Raises UsageError for an unknown name, for an argument that `name` can't use, and for impossible ones."""
    if name not in SOURCES:
        raise UsageError(f"data={name}: there are {', '.join(SOURCES)}")
    given = {"path": path, "image_size": image_size, "shape": shape, "skip_broken": skip_broken or None}
    for key, value in given.items():
        if value is not None and key not in SOURCES[name]:
            takers = [f"data={other}" for other, keys in SOURCES.items() if key in keys]
            raise UsageError(f"data.{key} means nothing to data={name}: it is for {', '.join(takers)}")
    if image_size is not None and not 1 <= image_size <= MAX_SIDE:
        raise UsageError(f"data.image_size={image_size}: type a number from 1 to {MAX_SIDE}")
    if val_size is not None and val_size < 1:
        raise UsageError(f"data.val_size={val_size}: type a number from 1 up")
    if name == "image_folder":
        if path is None:
            raise UsageError("data=image_folder needs the folder: type data.path=DIR")
        return ImageFolder(path, image_size, val_size, skip_broken)
    if name == "synthetic":
        return Synthetic() if shape is None else Synthetic(shape)
    if name == "cats_dogs":
        source: Official = CatsDogs(image_size)
    else:
        source = Official(name, image_size) if val_size is None else Official(name, image_size, val_size)
    num_train = source.facts.sizes["train"]
    if val_size is not None and val_size >= num_train:
        raise UsageError(f"data.val_size={val_size}: {name} has {num_train} images to train and validate on")
    return source
