"""Loss and accuracy of a stage, weighted by images: exact for any batch size, one device-to-host copy per reading."""

from dataclasses import dataclass, field

import torch


@dataclass
class Tally:
    """Appending costs next to no arithmetic and no synchronisation, so a training step may do it (torchmetrics' update
    would take longer than FlatNet's whole step). Sums are lists [loss × images, correct, images] in float64: plain
    values that a checkpoint may hold."""

    interval: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since the last end_interval
    epoch: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since the last end_epoch
    _losses: list[torch.Tensor] = field(default_factory=list)
    _correct: list[torch.Tensor] = field(default_factory=list)
    _counts: list[int] = field(default_factory=list)

    def add(self, loss: torch.Tensor, logits_BK: torch.Tensor, labels_B: torch.Tensor) -> None:
        """One batch: its mean loss (a scalar), logits (B, K) and labels (B,)."""
        self._losses.append(loss.detach())
        self._correct.append((logits_BK.detach().argmax(1) == labels_B).sum())
        self._counts.append(len(labels_B))

    def read(self) -> int | None:
        """Moves what was added into the sums: one copy from the device. Returns how many batches back the first loss
        that is not finite was, if any (0: the last batch)."""
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
        """The interval's sums; the next interval starts. `read` comes first."""
        sums, self.interval = self.interval, [0.0, 0.0, 0.0]
        return sums

    def end_epoch(self) -> list[float]:
        """The epoch's sums, all batches included; the next epoch starts."""
        self.read()
        sums, self.epoch, self.interval = self.epoch, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
        return sums
