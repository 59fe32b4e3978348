"""Computes a test's results from its logits: accuracy with its interval, the confusion matrix, the figures of each
class, the worst mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

Z_95 = 1.959964  # standard normal quantile of 97.5 %


@dataclass(frozen=True)
class ClassRow:
    """The figures of one class on the test set. Recall is None if the set has no image of it, precision if no image was
    taken for this class."""

    name: str
    images: int
    recall: float | None
    precision: float | None
    most_confused_with: str | None
    confused: int  # how many of its images were taken for that one


@dataclass(frozen=True)
class Results:
    """One test: N images, K classes."""

    logits_NK: torch.Tensor
    labels_N: torch.Tensor
    class_names: Sequence[str]

    @property
    def probabilities_NK(self) -> torch.Tensor:
        return self.logits_NK.float().softmax(1)

    @property
    def num_correct(self) -> int:
        return int((self.logits_NK.argmax(1) == self.labels_N).sum())

    @property
    def acc(self) -> float:
        return self.num_correct / len(self.labels_N)

    def confusion_KK(self) -> torch.Tensor:
        """Return the confusion matrix: a row per true class, a column per predicted class."""
        return multiclass_confusion_matrix(self.logits_NK, self.labels_N, num_classes=len(self.class_names))

    def class_rows(self) -> list[ClassRow]:
        """Return the figures of each class, in the order of the names."""
        confusion_KK = self.confusion_KK()
        rows = []
        for k, name in enumerate(self.class_names):
            right, images, taken = (
                int(n) for n in (confusion_KK[k, k], confusion_KK[k].sum(), confusion_KK[:, k].sum())
            )
            wrong_K = confusion_KK[k].clone()
            wrong_K[k] = 0
            confused, other = int(wrong_K.max()), self.class_names[int(wrong_K.argmax())]
            recall, precision = right / images if images else None, right / taken if taken else None
            rows.append(ClassRow(name, images, recall, precision, other if confused else None, confused))
        return rows

    def worst(self, num: int) -> list[int]:
        """Return the indices of the wrong images with the smallest probability of their true class, worst first."""
        probability_N = self.probabilities_NK[torch.arange(len(self.labels_N)), self.labels_N]
        wrong = (self.logits_NK.argmax(1) != self.labels_N).nonzero().flatten()
        return wrong[probability_N[wrong].argsort(stable=True)[:num]].tolist()


def viewable(images_NCHW: torch.Tensor) -> torch.Tensor:
    """Return the images as a screen can show them: grey and RGB images unchanged, else their first channel."""
    return images_NCHW if images_NCHW.shape[-3] in (1, 3) else images_NCHW[..., :1, :, :]


def wilson_interval(num_correct: int, num: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927). It is also right near 0 and 1, unlike the normal one."""
    share, z2 = num_correct / num, Z_95**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = Z_95 / (1 + z2 / num) * sqrt(share * (1 - share) / num + z2 / (4 * num**2))
    return max(0.0, centre - half), min(1.0, centre + half)
