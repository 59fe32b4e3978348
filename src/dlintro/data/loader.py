"""A DataLoader that fetches a batch with one indexing operation and remembers where it stopped.

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

from dlintro.errors import RunError

Batch = tuple[torch.Tensor, torch.Tensor]  # images uint8 (B, C, H, W), labels int64 (B,)


class Images(Dataset[Batch]):
    """The images of a split, a uint8 tensor or Rows on disk, and its labels, or the part that `indices` selects without
    copying it."""

    def __init__(self, images_NCHW: Any, labels_N: torch.Tensor, indices: torch.Tensor | None = None) -> None:
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
        if self.images_NCHW.device != rows_B.device:  # the set is on the accelerator, so only indices are sent
            rows_B = move_data_to_device(rows_B, self.images_NCHW.device)  # without waiting, where that is safe
        # index_select copies an image as a whole; images_NCHW[rows_B] copies byte by byte and takes ten times as long.
        return self.images_NCHW.index_select(0, rows_B), self.labels_N.index_select(0, rows_B)

    @property
    def labels(self) -> torch.Tensor:
        """The labels of this part, int64 (N,)."""
        return self.labels_N if self.indices is None else self.labels_N[self.indices]


class EpochOrder(RandomSampler):
    """Shuffles each epoch by (seed, epoch) alone, so that a resume or a worker has no random state to restore. Each
    iteration starts the next epoch, unless `set_epoch` names another.

    It is a RandomSampler so that Lightning keeps shuffling when it puts its distributed sampler in its place.
    """

    def __init__(self, images: Images, seed: int) -> None:
        super().__init__(images)
        self.seed, self.epoch, self.start = seed, 0, 0
        self._used = False

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch."""
        if epoch != self.epoch:  # `start` is a place in another epoch, which a limit has ended
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
    """The collate function. The dataset has already made the batch. Workers need it at module level to find it."""
    return batch


# How a worker starts. By default, Python 3.14 lets a server process start it. Each worker would then import torch again
# and run a script without a main guard a second time, and PyTorch's watchdog would watch the server instead of us.
# None keeps Python's default, because on macOS system libraries may hang after a fork.
WORKERS_START: str | None = "fork" if sys.platform == "linux" else None


def go_with(parent: int, worker: int) -> None:
    """Make a worker end when its parent process ends. PyTorch's own watchdog starts later and only then asks for the
    parent. If the parent is dead by then, it watches whichever process adopted the worker. The worker would wait for
    ever, and so would a sweep."""
    if WORKERS_START != "fork":
        return
    if isinstance(multiprocessing.current_process(), multiprocessing.get_context("fork").Process):
        threading.Thread(target=end_after, args=(parent,), daemon=True).start()  # others are started by a server


def end_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class ResumableLoader(DataLoader[Batch]):
    """Stores (epoch, batches done) in Lightning's checkpoints. It has no __init__, as Lightning makes the loader again
    from DataLoader's arguments under DDP."""

    _batches = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        first = self._batches = getattr(self.sampler, "start", 0) // (self.batch_size or 1)
        try:
            for done, batch in enumerate(super().__iter__(), start=first + 1):
                self._batches = done
                yield batch
        except RunError as error:
            if not self.num_workers:
                raise
            # PyTorch raises a worker's error with its traceback as the text. The last line has its class and our text.
            raise RunError(str(error).strip().splitlines()[-1].partition(": ")[2]) from error

    def state_dict(self) -> dict[str, int]:
        epoch = getattr(self.sampler, "epoch", 0)
        if self._batches < len(self):
            return {"epoch": epoch, "batches": self._batches}
        return {"epoch": epoch + 1, "batches": 0}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if isinstance(self.sampler, EpochOrder):  # a distributed sampler starts its epoch again
            self.sampler.set_epoch(state["epoch"])
            self.sampler.start = state["batches"] * (self.batch_size or 1)
