"""The usual way to write a training, for comparison: torchvision's transforms image by image, a metric object, and
`self.log` in each step. Shapes are those of dlintro.models.classifier."""

from typing import Any

import lightning as L
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms

from dlintro.data import ImageDataModule
from dlintro.data.loader import Images


class PerImage(Dataset[tuple[torch.Tensor, int]]):
    """Does what torchvision's own data sets do: makes a PIL image of the pixels, then applies the transforms."""

    def __init__(self, part: Images, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        rows = slice(None) if part.indices is None else part.indices
        self.images_NHWC = part.images_NCHW[rows].permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = part.labels.tolist()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels_HWC = self.images_NHWC[index]
        image = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
        return self.transform(image), self.labels[index]


def per_image_loader(data: ImageDataModule, part: Images, shuffle: bool) -> DataLoader[tuple[torch.Tensor, int]]:
    assert data.mean is not None and data.std is not None
    return DataLoader(PerImage(part, data.mean, data.std), data.batch_size, shuffle=shuffle)


class UsualModule(L.LightningModule):
    """Trains a classifier's network with the same loss and optimizer."""

    def __init__(self, network: nn.Module, num_classes: int, lr: float) -> None:
        super().__init__()
        self.network, self.lr = network, lr
        self.loss = nn.CrossEntropyLoss()
        self.train_acc = MulticlassAccuracy(num_classes, average="micro")
        self.test_acc = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        images_BCHW, labels_B = batch
        logits_BK = self.network(images_BCHW)
        loss: torch.Tensor = self.loss(logits_BK, labels_B)
        self.train_acc(logits_BK, labels_B)
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def test_step(self, batch: Any, batch_idx: int) -> None:
        images_BCHW, labels_B = batch
        logits_BK = self.network(images_BCHW)
        self.test_acc(logits_BK, labels_B)
        self.log("test/loss", self.loss(logits_BK, labels_B))
        self.log("test/acc", self.test_acc)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.lr)
