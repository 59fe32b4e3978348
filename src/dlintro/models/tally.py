"""Counts the loss and accuracy of a stage. Each image has the same weight, so the batch size doesn't matter. Of stages
that are only evaluated, it also counts the right answers of each class.

Shapes: B images in a batch, K classes.
"""

from dataclasses import dataclass, field

import torch

FEW_CLASSES = 10  # up to so many, top-5 accuracy is not reported


@dataclass
class Tally:
    """Appending takes next to no arithmetic and no synchronisation, so a training step can afford it: an update of
    torchmetrics would take longer than FlatNet's whole step. A reading makes one copy from the device. Sums are lists
    [loss × images, correct, images] in float64, plain values that a checkpoint can hold."""

    interval: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since the last end_interval
    epoch: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since the last end_epoch
    _losses: list[torch.Tensor] = field(default_factory=list)
    _correct: list[torch.Tensor] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    def add(self, loss: torch.Tensor, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> None:
        """Add a batch: its mean loss (a scalar), logits (B, K) and labels (B,)."""
        self._losses.append(loss.detach())
        self._correct.append((logits_BK.detach().argmax(1) == labels_B).sum())
        self._counts.append(len(labels_B))

    def read(self) -> int | None:
        """Move the added batches into the sums. Returns how many batches ago the first loss that is not finite came (0
        for the last batch), or None if all are finite."""
        if not self._counts:
            return None
        losses, correct = (
            torch.stack([torch.stack(self._losses).float(), torch.stack(self._correct).float()]).cpu().double()
        )
        counts = torch.tensor(self._counts, dtype=torch.float64)
        sums = [float(losses @ counts), float(correct.sum()), float(counts.sum())]
        self.interval = [old + new for old, new in zip(self.interval, sums, strict=True)]
        self.epoch = [old + new for old, new in zip(self.epoch, sums, strict=True)]
        self._losses, self._correct, self._counts = [], [], []
        bad = (~losses.isfinite()).nonzero().flatten().tolist()
        return len(losses) - 1 - bad[0] if bad else None

    def end_interval(self) -> list[float]:
        """Return the interval's sums and start the next one. Call `read` first."""
        sums, self.interval = self.interval, [0.0, 0.0, 0.0]
        return sums

    def end_epoch(self) -> list[float]:
        """Return the sums of all batches of the epoch, and start the next one."""
        self.read()
        sums, self.epoch, self.interval = self.epoch, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        return sums


@dataclass
class ClassTally:
    """Counts images and right answers by class. A batch is added without synchronisation; the end of an epoch makes one
    copy from the device."""

    num_classes: int
    _labels: list[torch.Tensor] = field(default_factory=list)
    _right: list[torch.Tensor] = field(default_factory=list)
    _top5: list[torch.Tensor] = field(default_factory=list)

    def add(self, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> None:
        self._labels.append(labels_B)
        self._right.append(logits_BK.argmax(1) == labels_B)
        if self.num_classes > FEW_CLASSES:
            self._top5.append((logits_BK.topk(5).indices == labels_B[:, None]).any(1))

    def end_epoch(self) -> torch.Tensor:
        """Return the counts of all batches as int64 (2 * K + 1,): the images of each class, the right answers of each
        class, and the images whose class is among the five largest logits. Start the next epoch."""
        if not self._labels:
            return torch.zeros(2 * self.num_classes + 1, dtype=torch.int64)
        # A bincount with weights would not be deterministic on every device.
        keys_N = 2 * torch.cat(self._labels) + torch.cat(self._right)
        counts_K2 = keys_N.bincount(minlength=2 * self.num_classes).view(self.num_classes, 2)
        top5 = torch.cat(self._top5).sum()[None] if self._top5 else counts_K2.new_zeros(1)
        self._labels, self._right, self._top5 = [], [], []
        return torch.cat([counts_K2.sum(1), counts_K2[:, 1], top5]).cpu()

    def shares(self, counts: torch.Tensor) -> dict[str, float]:
        """Return the metrics of `end_epoch`'s counts by name. Balanced accuracy is the mean of the classes' recalls; a
        class without images has none. With few classes, five guesses say too little to be a metric."""
        images_K, right_K = counts[: self.num_classes].double(), counts[self.num_classes : -1].double()
        there_K = images_K > 0
        found = {"balanced_acc": float((right_K[there_K] / images_K[there_K]).mean())}
        if self.num_classes > FEW_CLASSES:
            found["top5_acc"] = float(counts[-1] / images_K.sum())
        return found
