"""Makes batches as the slides teach it: splits a data set, shuffles the training images, hands out uint8."""

import functools
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import lightning as L
import psutil
import torch
from torch.utils.data import Sampler

from dlintro.accelerators import pinning_helps
from dlintro.data import split
from dlintro.data.augment import AUGMENTATIONS, augment
from dlintro.data.encoded import DistributedDraws, EpochDraws, RandomParts
from dlintro.data.image_file import Greys
from dlintro.data.loader import WORKERS_START, Batch, EpochOrder, Images, ResumableLoader, go_with, one_batch
from dlintro.data.pixels import Rows
from dlintro.data.source import Split
from dlintro.data.sources import make_source
from dlintro.data.statistics import OWN_STATISTICS, PUBLISHED_STATISTICS, channel_statistics
from dlintro.errors import UsageError
from dlintro.memory import device_free_bytes, on_accelerator

log = logging.getLogger(__name__)

TRAIN_EVAL_IMAGES = 5_000  # the fixed part of the training images that gives train_eval/*
EVAL_PIXELS = 256 * 32 * 32  # of a batch that is evaluated, at least: smaller batches cost more time than arithmetic


class ImageDataModule(L.LightningDataModule):
    """Serves a data set in batches of images, uint8 (B, C, H, W), and labels, int64 (B,).

    `name` is one of `dlintro.data.sources.source_classes()`. No batch is larger than the training set, so the attribute
    `batch_size` may be smaller than the argument. Small images are evaluated in larger batches. `val_size` images are
    kept for validation (None: the last 5,000 of an official set, else 10 % of each class). `train_size` takes a fixed,
    class-balanced part of the rest. `balance="classes"` gives `class_weights`, by which a Classifier multiplies its
    training loss. `augment` lists names from `dlintro.data.augment`; training images are changed anew each time.
    `in_ram="auto"` reads the set from disk, batch by batch, if it is a pack or larger than half of the free memory.
    `on_device` copies the set to the Trainer's accelerator if it fits into half of the free memory there. `source`
    holds the arguments of the data set itself: image_size, path, labels, shape, skip_broken.

    A Classifier normalises by the attributes `mean` and `std`. For MNIST, Fashion-MNIST, CIFAR-10 and ImageNet they are
    published constants, which include the images kept for validation. A pack has those of its packing. For other sets
    `setup` computes them from all training images without those kept for validation, whatever `train_size` is. `greys`
    are the two values of a folder's greys of more than 8 bits that become 0 and 255 (None: it has none). `train`, `val`
    and `test` stay on the CPU.

    Raises UsageError for impossible arguments, before a pixel is read.
    """

    def __init__(
        self,
        name: str = "mnist",
        batch_size: int = 128,
        *,
        val_size: int | None = None,
        train_size: int | None = None,
        num_workers: int = 0,
        drop_last: bool = False,
        in_ram: bool | Literal["auto"] = "auto",
        on_device: bool = False,
        balance: Literal["classes"] | None = None,
        augment: Sequence[str] = (),
        seed: int = 0,
        **source: Any,
    ) -> None:
        super().__init__()
        self.source = make_source(name, val_size, **source)
        facts = self.source.facts
        self.image_shape, self.class_names = facts.image_shape, facts.class_names
        self.mean, self.std = facts.mean, facts.std
        self.statistics = facts.statistics or (PUBLISHED_STATISTICS if facts.mean is not None else OWN_STATISTICS)
        self.drop_last, self.num_workers, self.seed = drop_last, num_workers, seed
        self.train_size, self.in_ram, self.on_device, self.augment = train_size, in_ram, on_device, tuple(augment)
        self.num_val = facts.sizes.get("val") or self._num_val(val_size)
        self.num_train = facts.sizes["train"] - (0 if "val" in facts.sizes else self.num_val)
        if train_size is not None:
            if not 1 <= train_size <= self.num_train:
                raise UsageError(
                    f"data.train_size={train_size}: {name} has {self.num_train} training images here; use a number "
                    f"from 1 to {self.num_train}"
                )
            self.num_train = train_size
        if batch_size < 1:
            raise UsageError(f"data.batch_size={batch_size}: use 1 or more")
        if drop_last and batch_size > self.num_train:
            raise UsageError(
                f"data.batch_size={batch_size} with data.drop_last=true leaves no batch, as there are only "
                f"{self.num_train} training images; use data.batch_size={self.num_train} or less"
            )
        if on_device and num_workers:
            raise UsageError(
                f"data.on_device=true with data.num_workers={num_workers}: a worker can't read a set on the device; "
                f"type data.num_workers=0"
            )
        if facts.encoded and (on_device or in_ram is True):
            raise UsageError(
                f"data.{'on_device' if on_device else 'in_ram'}=true: the images of data={name} are decoded anew each "
                f"time they are used; leave this key out"
            )
        self.batch_size = min(batch_size, self.num_train)
        if unknown := [name for name in self.augment if name not in AUGMENTATIONS]:
            raise UsageError(f"data.augment={unknown}: use names from {', '.join(AUGMENTATIONS)}")
        # Encoded images are cut while they are decoded, before anything else happens to them.
        self._cuts = facts.encoded and "resized_crop" in self.augment
        if self._cuts and (self.augment[0] != "resized_crop" or self.augment.count("resized_crop") > 1):
            raise UsageError(f"data.augment={list(self.augment)}: name resized_crop once, and first, with data={name}")
        if "trivial" in self.augment and self.image_shape[0] not in (1, 3):
            raise UsageError(
                f"data.augment: trivial needs images of 1 or 3 channels, not {self.image_shape[0]}; leave it out"
            )
        if balance not in ("classes", None):
            raise UsageError(f"data.balance={balance}: use classes or null")
        self.balance = balance
        self.class_weights: tuple[float, ...] | None = None  # one per class; `setup` counts the training images
        self._train: Images | None = None
        self._fits: dict[torch.device, bool] = {}  # computed once, because the copies take memory too
        self._copies: dict[tuple[torch.device, int], torch.Tensor] = {}  # by the id of the tensor in RAM

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def greys(self) -> tuple[int, int] | None:
        found = self.source.facts.greys
        return None if found is None else (found.black, found.white)

    @greys.setter
    def greys(self, black_and_white: tuple[int, int]) -> None:
        """Read another set's images as those were read that a model was trained on. `setup` comes later. Raises
        UsageError for a pack of other greys, whose pixels are made already."""
        if self.source.facts.name == "packed" and tuple(black_and_white) != self.greys:
            there, here = ("{} to {}".format(*some) for some in (self.greys or (0, 255), black_and_white))
            raise UsageError(
                f"data=packed: the greys from {there} became black to white when the set was packed, but the model was "
                f"trained on greys from {here}; name the images that were packed instead"
            )
        self.source.facts = replace(self.source.facts, greys=Greys(*black_and_white))

    @property
    def sees_middle(self) -> bool:
        """True if images are kept larger than those of the batches, and evaluation sees their middle."""
        return self.source.facts.encoded

    def num_train_batches(self, num_processes: int = 1) -> int:
        """Return the batches of each process in an epoch. `drop_last` leaves out a last batch that is smaller."""
        images = -(-self.num_train // num_processes)
        return images // self.batch_size if self.drop_last else -(-images // self.batch_size)

    @property
    def eval_batch_size(self) -> int:
        """Images in a batch that is only evaluated, which needs less memory than a training step."""
        _, height, width = self.image_shape
        return max(self.batch_size, EVAL_PIXELS // (height * width))

    def images_per_step(self, batches: int) -> int:
        """Return the images in an optimizer step of this many batches. A step ends with its epoch at the latest."""
        return min(self.batch_size * batches, self.num_train)

    def _num_val(self, val_size: int | None) -> int:
        facts = self.source.facts
        num_val = facts.val_size or round(0.1 * facts.sizes["train"]) if val_size is None else val_size
        if not 1 <= num_val < facts.sizes["train"]:
            raise UsageError(
                f"data.val_size={num_val}: {facts.name} has {facts.sizes['train']} images to train and validate on; "
                f"use a number from 1 to {facts.sizes['train'] - 1}"
            )
        return num_val

    def prepare_data(self) -> None:
        if self._train is None:
            self.source.prepare()

    def setup(self, stage: str | None = None) -> None:
        """Load and split the data set, once. Raises UsageError if there is nothing to learn from."""
        if self._train is not None:
            return
        parts = self.parts()
        train, self.val, self.test = parts["train"], parts["val"], parts["test"]
        images, labels, train_rows = train.images_NCHW, train.labels_N, train.indices
        assert train_rows is not None
        if self.mean is None or self.std is None:
            self.mean, self.std = channel_statistics(images, train_rows)
        if self.train_size is not None:
            train_rows = train_rows[split.class_balanced(labels[train_rows], self.train_size)]
        refuse_equal_images(self.source.facts.name, images, train_rows)
        self._train = Images(images, labels, train_rows)
        if self.balance == "classes":
            self.class_weights = inverse_frequencies(labels[train_rows], self.num_classes)
        self.num_train, self.num_val = len(train_rows), len(self.val)  # fewer if broken images were left out
        self.batch_size = min(self.batch_size, self.num_train)
        eval_rows = train_rows[split.stratified(labels[train_rows], TRAIN_EVAL_IMAGES)]  # like a test set
        self.train_eval = Images(images, labels, eval_rows)

    def parts(self) -> dict[str, Images]:
        """Load the set and return all its images for training, validation and test. No pixel of a set that is read from
        disk is decoded yet."""
        splits = self.source.load(self._fits_in_ram())
        images, labels = splits["train"]
        train_rows, val = self._split_off_val(splits, labels)
        return {"train": Images(images, labels, train_rows), "val": val, "test": Images(*splits["test"])}

    def _fits_in_ram(self) -> bool:
        facts, free = self.source.facts, psutil.virtual_memory().available
        if self.in_ram != "auto":
            return self.in_ram
        return not facts.encoded and (self.on_device or not facts.on_disk) and facts.num_bytes <= free / 2

    def _split_off_val(self, splits: dict[str, Split], labels: torch.Tensor) -> tuple[torch.Tensor, Images]:
        """Return the indices of the images that are left for training, and the validation images."""
        if "val" in splits:
            return torch.arange(len(labels)), Images(*splits["val"])
        if self.source.facts.val_size is not None:
            val_rows = torch.arange(len(labels) - self.num_val, len(labels))
        else:
            val_rows = split.stratified(labels, self.num_val)
        return split.others(len(labels), val_rows), Images(splits["train"][0], labels, val_rows)

    @property
    def train(self) -> Images:
        """The training images. `setup` comes first."""
        assert self._train is not None, "setup() comes first"
        return self._train

    def train_sample(self, num: int) -> torch.Tensor:
        """Return the first `num` training images, augmented as in training: uint8 (num, C, H, W), or fewer."""
        images_NCHW, _ = self._as_trained(self.train).__getitems__(list(range(min(num, len(self.train)))))
        return augment(images_NCHW, self._augment_batch, (self.seed,))

    def _as_trained(self, images: Images) -> Images:
        return RandomParts(images, self.seed) if self._cuts else images

    @property
    def _augment_batch(self) -> tuple[str, ...]:
        """The augmentations of a batch on its device, without the one that was applied while it was decoded."""
        return self.augment[1:] if self._cuts else self.augment

    def train_draw(self, num: int, draw: int) -> Batch:
        """Return `num` different training images, not augmented, and their labels. Each number `draw` gives others."""
        generator = torch.Generator().manual_seed(split.FIXED_SEED + 1_000_003 * self.seed + draw)
        return self.train.__getitems__(torch.randperm(len(self.train), generator=generator)[:num].tolist())

    def _on_device(self, images: Images, device: torch.device) -> Images:
        """Return this part of the set on the device, or as it is if the whole set doesn't fit. Parts that share a
        tensor share its copy."""
        if isinstance(images.images_NCHW, Rows):
            log.warning(
                "data.on_device: the set is read from disk batch by batch, as it is too large or data.in_ram=false"
            )
            return images
        if device not in self._fits:
            parts = (self.train, self.val, self.test)
            tensors = {id(t): t for part in parts for t in (part.images_NCHW, part.labels_N)}
            num_bytes, free = sum(t.nbytes for t in tensors.values()), device_free_bytes(device)
            self._fits[device] = num_bytes <= free / 2
            if not self._fits[device]:
                said = "data.on_device: the set (%.1f GB) stays in RAM, as it exceeds half of the %.1f GB free on %s"
                log.warning(said, num_bytes / 1e9, free / 1e9, device)
        if not self._fits[device]:
            return images
        for tensor in (images.images_NCHW, images.labels_N):
            if (device, id(tensor)) not in self._copies:
                self._copies[device, id(tensor)] = tensor.to(device)
        images_NCHW, labels_N = (self._copies[device, id(tensor)] for tensor in (images.images_NCHW, images.labels_N))
        return Images(images_NCHW, labels_N, images.indices)

    def _loader(self, images: Images, train: bool = False) -> ResumableLoader:
        device = self.trainer.strategy.root_device if self.trainer is not None else images.images_NCHW.device
        if self.on_device and on_accelerator(device):
            images = self._on_device(images, device)
        # Without a generator of its own, a loader draws from the global random state at each iter().
        return ResumableLoader(
            self._as_trained(images) if train else images,
            batch_size=self.batch_size if train else self.eval_batch_size,
            sampler=self._sampler(images) if train else None,
            collate_fn=one_batch,
            worker_init_fn=functools.partial(go_with, os.getpid()) if self.num_workers else None,
            multiprocessing_context=WORKERS_START if self.num_workers else None,
            drop_last=self.drop_last and train,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=pinning_helps(device) and images.images_NCHW.device != device,
            generator=torch.Generator().manual_seed(self.seed),
        )

    def _sampler(self, images: Images) -> Sampler[int]:
        if not self._cuts:
            return EpochOrder(images, self.seed)
        if self.trainer is not None and self.trainer.world_size > 1:
            return DistributedDraws(images, self.trainer.world_size, self.trainer.global_rank, seed=self.seed)
        return EpochDraws(images, self.seed)

    def train_dataloader(self) -> ResumableLoader:
        """Return the loader of shuffled training images. Each iteration is the next epoch, unless
        `loader.sampler.set_epoch` names another."""
        return self._loader(self.train, train=True)

    def val_dataloader(self) -> ResumableLoader | list[ResumableLoader]:
        """Return the loader of validation images. A module with `evaluates_training_images` (a Classifier) gets a
        second one, for the fixed part of the training images that is evaluated too."""
        module = self.trainer.lightning_module if self.trainer is not None else None
        if not getattr(module, "evaluates_training_images", False):
            return self._loader(self.val)
        return [self._loader(self.val), self._loader(self.train_eval)]

    def test_dataloader(self) -> ResumableLoader:
        return self._loader(self.test)

    def predict_dataloader(self) -> ResumableLoader:
        """Return the loader of test images, in their order."""
        return self._loader(self.test)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment a training batch, on its device."""
        if not self._augment_batch or self.trainer is None or not self.trainer.training:
            return batch
        images_BCHW, labels_B = batch
        loop = self.trainer.fit_loop.epoch_loop
        draw = (self.seed, self.trainer.current_epoch, loop.batch_progress.current.ready, self.trainer.global_rank)
        with self.trainer.profiler.profile("augment"):  # type: ignore[attr-defined]  # not declared (Lightning 2.6)
            return augment(images_BCHW, self._augment_batch, draw), labels_B


def refuse_equal_images(name: str, images_NCHW: torch.Tensor, rows: torch.Tensor) -> None:
    """Raise UsageError if all training images have the same pixels, as files do that came out black."""
    [first_CHW] = images_NCHW.index_select(0, rows[:1])
    if len(rows) == 1 or any(bool((images_NCHW.index_select(0, p) != first_CHW).any()) for p in rows.split(16)):
        return
    low, high = first_CHW.min().item(), first_CHW.max().item()
    same = f"all pixels are {low}" if low == high else "the same pixels in each"
    raise UsageError(
        f"data={name}: the {len(rows)} training images are all the same ({same}), so there is nothing to learn from "
        f"them; look at the files"
    )


def inverse_frequencies(labels_N: torch.Tensor, num_classes: int) -> tuple[float, ...]:
    """Return a weight per class, in inverse proportion to its images, so that all classes together weigh the same and
    the mean weight over the images is 1. A class without images gets 0, which no image is multiplied by."""
    images_K = labels_N.bincount(minlength=num_classes)
    present = int((images_K > 0).sum())
    return tuple(len(labels_N) / (present * num) if num else 0.0 for num in images_K.tolist())
