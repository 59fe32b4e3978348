"""Image data sets as uint8 tensors: where they come from (sources) and how they become batches (module)."""

from dlintro.data.module import ImageDataModule

__all__ = ["ImageDataModule"]
