"""The classifiers. Each has plain constructor arguments, takes uint8 images of any (C, H, W), and returns logits."""

import functools
import importlib
import pkgutil

from dlintro.models.classifier import Classifier
from dlintro.models.file_net import FileNet
from dlintro.models.flatnet import FlatNet
from dlintro.models.mnist_cnn import MnistCNN
from dlintro.models.torchvision_net import TorchvisionNet
from dlintro.models.vgg16 import VGG16

__all__ = ["VGG16", "Classifier", "FileNet", "FlatNet", "MnistCNN", "TorchvisionNet", "model_classes"]


@functools.cache
def model_classes() -> dict[str, type[Classifier]]:
    """Return the classifiers in this folder's files, by the class name that checkpoints store. A new file is found by
    itself; there is no list to add it to."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [(module, kind) for module in modules for kind in vars(module).values() if isinstance(kind, type)]
    defined = [kind for module, kind in found if issubclass(kind, Classifier) and kind.__module__ == module.__name__]
    return {kind.__name__: kind for kind in defined if kind is not Classifier}
