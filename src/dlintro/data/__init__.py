"""Image data sets as uint8 tensors: where they come from (sources) and how they become batches (module)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dlintro.data.module import ImageDataModule
else:

    def __getattr__(name):
        """Import the module on demand, because importing Lightning takes seconds."""
        if name != "ImageDataModule":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from dlintro.data.module import ImageDataModule

        return ImageDataModule


__all__ = ["ImageDataModule"]
