"""An ordinary DataLoader that fetches a batch by one indexing operation, and remembers where it stopped.

Shapes: N images in the split, B in a batch, C channels, H height, W width.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from torch.utils.data import DataLoader, Dataset, RandomSampler

Batch = tuple[torch.Tensor, torch.Tensor]  # images uint8 (B, C, H, W), labels int64 (B,)


class Images(Dataset[Batch]):
    """A split: uint8 images and labels, or the part of them that `indices` names (in place: nothing is copied)."""

    def __init__(self, images_NCHW: torch.Tensor, labels_N: torch.Tensor, indices: torch.Tensor | None = None) -> None:
        self.images_NCHW, self.labels_N, self.indices = images_NCHW, labels_N, indices

    def __len__(self) -> int:
        return len(self.labels_N) if self.indices is None else len(self.indices)

    def __getitem__(self, index: int) -> Batch:
        images_1CHW, labels_1 = self.__getitems__([index])
        return images_1CHW[0], labels_1[0]

    def __getitems__(self, batch: list[int]) -> Batch:
        rows_B = torch.from_numpy(np.array(batch, np.int64))  # three times as fast as torch's own reading of a list
        if self.indices is not None:
            rows_B = self.indices.index_select(0, rows_B)
        if self.images_NCHW.device != rows_B.device:  # the set is on the accelerator: only the batch's indices are sent
            rows_B = move_data_to_device(rows_B, self.images_NCHW.device)  # without waiting, where that is safe
        # An image is copied whole; images_NCHW[rows_B] goes through it byte by byte and takes ten times as long.
        return self.images_NCHW.index_select(0, rows_B), self.labels_N.index_select(0, rows_B)

    @property
    def labels(self) -> torch.Tensor:
        """The labels of this part, int64 (N,)."""
        return self.labels_N if self.indices is None else self.labels_N[self.indices]


class EpochOrder(RandomSampler):
    """Each epoch's order is a function of (seed, epoch) alone: no random state to lose in a resume or a worker. Each
    iteration is the next epoch's, unless `set_epoch` says which one it is.

    A RandomSampler, so that Lightning knows to shuffle when it puts its distributed sampler in this one's place.
    """

    def __init__(self, images: Images, seed: int) -> None:
        super().__init__(images)
        self.seed, self.epoch, self.start = seed, 0, 0
        self._used = False

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        if epoch != self.epoch:  # the place in another epoch, where a limit had ended that one
            self.start = 0
        self.epoch, self._used = epoch, False

    def __iter__(self) -> Iterator[int]:
        self.epoch += self._used
        self._used = True
        # Seeds and epochs are mixed by a large odd factor so that seed 0, epoch 1 is not seed 1, epoch 0.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(len(self.data_source), generator=generator).tolist()
        start, self.start = self.start, 0
        return iter(order[start:])


def one_batch(batch: Any) -> Any:
    """The collate function: the dataset has made the batch already. At module level, so that workers can find it."""
    return batch


# How a worker starts. By default Python 3.14 lets a server start it. Each worker then imports torch again and runs a
# script without a main guard once more, and PyTorch's watch over the worker's parent watches the server.
# None is Python's default: on macOS, system libraries may hang after a fork.
WORKERS_START: str | None = "fork" if sys.platform == "linux" else None


def go_with(parent: int, worker: int) -> None:
    """A worker's first act: from here on it ends with its parent. PyTorch's own watch begins later and asks who the
    parent is only then. If the parent has died by that time, it takes whoever adopted the worker for the parent: the
    worker would wait for ever, and a sweep for it."""
    if WORKERS_START != "fork":
        return
    if isinstance(multiprocessing.current_process(), multiprocessing.get_context("fork").Process):
        threading.Thread(target=end_after, args=(parent,), daemon=True).start()  # a server starts the others


def end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class ResumableLoader(DataLoader[Batch]):
    """Carries (epoch, batches done) in Lightning's checkpoints. No __init__ of its own: under DDP Lightning makes the
    loader again from DataLoader's arguments."""

    _batches = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        first = self._batches = getattr(self.sampler, "start", 0) // (self.batch_size or 1)
        for done, batch in enumerate(super().__iter__(), start=first + 1):
            self._batches = done
            yield batch

    def state_dict(self) -> dict[str, int]:
        epoch = getattr(self.sampler, "epoch", 0)
        if self._batches < len(self):
            return {"epoch": epoch, "batches": self._batches}
        return {"epoch": epoch + 1, "batches": 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.sampler, EpochOrder):  # a distributed sampler starts its epoch again
            self.sampler.set_epoch(state["epoch"])
            self.sampler.start = state["batches"] * (self.batch_size or 1)
