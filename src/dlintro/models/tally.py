"""Counts the loss and accuracy of a stage. Each image has the same weight, so the batch size doesn't matter."""

from dataclasses import dataclass, field

import torch


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
