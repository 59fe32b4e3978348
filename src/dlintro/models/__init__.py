"""The classifiers. Each takes plain constructor arguments and uint8 images of any (C, H, W), and gives logits."""

from dlintro.models.classifier import Classifier
from dlintro.models.file_net import FileNet
from dlintro.models.flatnet import FlatNet
from dlintro.models.mnist_cnn import MnistCNN
from dlintro.models.torchvision_net import TorchvisionNet
from dlintro.models.vgg16 import VGG16

MODELS: dict[str, type[Classifier]] = {
    model.__name__: model for model in (FlatNet, MnistCNN, VGG16, TorchvisionNet, FileNet)
}

__all__ = ["MODELS", "VGG16", "Classifier", "FileNet", "FlatNet", "MnistCNN", "TorchvisionNet"]
