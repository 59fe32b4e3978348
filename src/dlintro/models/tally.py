"""Counts the loss and accuracy of a stage. Each image has the same weight, so the batch size doesn't matter. Of stages
that are only evaluated, it also counts the right answers of each class.

Shapes: B images in a batch, K classes.
"""

from dataclasses import dataclass, field

import torch

FEW_CLASSES = 10  # up to so many, top-5 accuracy is not reported
MOST_KEPT = 100  # batches whose results wait on the device


@dataclass
class Tally:
    """Adding a batch takes next to no arithmetic and no synchronisation, so a training step can afford it: an update of
    torchmetrics would take longer than FlatNet's whole step. A reading makes one copy from the device. Sums are lists
    [loss × images, correct, images] in float64, plain values that a checkpoint can hold.

    The results of the batches go into one tensor. Small tensors that stay while the large ones beside them come and go
    would leave gaps in malloc's heap that the next batch doesn't fit into: in an epoch of evaluation, these once took
    twice the memory of all its images.
    """

    interval: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since the last end_interval
    epoch: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since the last end_epoch
    _results: torch.Tensor | None = None  # loss and correct answers of each batch: float32 (2, MOST_KEPT)
    _cells: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)  # views, as making one takes time
    _counts: list[int] = field(default_factory=list)
    _since_bad: int | None = None  # batches added since the first one whose loss is not finite

    def add(self, loss: torch.Tensor, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> None:
        """Add a batch: its mean loss (a scalar), logits (B, K) and labels (B,)."""
        if self._results is None or self._results.device != loss.device:
            self._results = new_zeros(loss, 2, MOST_KEPT, dtype=torch.float32)
            self._cells = list(zip(*self._results, strict=True))
        loss_cell, correct_cell = self._cells[len(self._counts)]
        loss_cell.copy_(loss.detach())
        correct_cell.copy_((logits_BK.detach().argmax(1) == labels_B).sum())
        self._counts.append(len(labels_B))
        if len(self._counts) == MOST_KEPT:
            self._count()

    def read(self) -> int | None:
        """Move the added batches into the sums. Returns how many batches ago the first loss that is not finite came (0
        for the last batch), or None if all since the last reading are finite."""
        self._count()
        since_bad, self._since_bad = self._since_bad, None
        return since_bad

    def _count(self) -> None:
        if self._results is None:
            return
        losses, correct = self._results[:, : len(self._counts)].cpu().double()
        counts = torch.tensor(self._counts, dtype=torch.float64)
        sums = [float(losses @ counts), float(correct.sum()), float(counts.sum())]
        self.interval = [old + new for old, new in zip(self.interval, sums, strict=True)]
        self.epoch = [old + new for old, new in zip(self.epoch, sums, strict=True)]
        self._counts = []
        if self._since_bad is not None:
            self._since_bad += len(losses)
        elif bad := (~losses.isfinite()).nonzero().flatten().tolist():
            self._since_bad = len(losses) - 1 - bad[0]

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
    _counts: torch.Tensor | None = None

    def add(self, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> None:
        if self._counts is None:
            self._counts = new_zeros(labels_B, 2 * self.num_classes + 1)
        self._counts.index_add_(0, labels_B, torch.ones_like(labels_B))
        self._counts.index_add_(0, self.num_classes + labels_B, (logits_BK.argmax(1) == labels_B).to(labels_B.dtype))
        if self.num_classes > FEW_CLASSES:
            self._counts[-1] += (logits_BK.topk(5).indices == labels_B[:, None]).sum()

    def end_epoch(self) -> torch.Tensor:
        """Return the counts of all batches as int64 (2 * K + 1,): the images of each class, the right answers of each
        class, and the images whose class is among the five largest logits. Start the next epoch."""
        counts, self._counts = self._counts, None
        return torch.zeros(2 * self.num_classes + 1, dtype=torch.int64) if counts is None else counts.cpu()

    def shares(self, counts: torch.Tensor) -> dict[str, float]:
        """Return the metrics of `end_epoch`'s counts by name. Balanced accuracy is the mean of the classes' recalls; a
        class without images has none. With few classes, five guesses say too little to be a metric."""
        images_K, right_K = counts[:-1].double().view(2, self.num_classes)
        there_K = images_K > 0
        found = {"balanced_acc": float((right_K[there_K] / images_K[there_K]).mean())}
        if self.num_classes > FEW_CLASSES:
            found["top5_acc"] = float(counts[-1] / images_K.sum())
        return found


def new_zeros(like: torch.Tensor, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Make zeros on a tensor's device that can be changed within inference mode and outside."""
    with torch.inference_mode(False):
        return like.new_zeros(shape, dtype=dtype)
