"""Says before the training where a small or uneven set doesn't suit the settings, and what to type instead."""

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dlintro.data import ImageDataModule
from dlintro.data.encoded import ImageFiles
from dlintro.settings.keys import TEST_IMAGES, Settings
from dlintro.settings.words import key_of
from dlintro.text import printable, typed

FEW_STEPS, ENOUGH_STEPS = 100, 600  # 600 images: 8 steps reach 50 to 80 %, 200 steps 85 to 93 %, 600 steps 92 to 98 %
SMALL_BATCH, MOST_EPOCHS = 16, 100
# Whoever types one of these has decided how long to train.
DECIDE_LENGTH = (
    "data.batch_size", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time", "sweep.budget", "experiment",
    "resume", "rerun",
)  # fmt: skip
MOST_OF_ALL = 0.95  # share of the training images beyond which naming one class always seems a good result
HANDFUL = 10  # images of a class, below which a recall says little
MOST_NAMED = 3
WITH_BALANCE = ("data.balance=classes", "trainer.best=val/balanced_acc")


def longer_words(num_train: int, batch_size: int) -> list[str]:
    """Return the words with which so few training images give ENOUGH_STEPS steps, as far as MOST_EPOCHS allow. No last
    batch has one image, because batch normalisation couldn't train on it."""
    most = min(batch_size, SMALL_BATCH)
    size = next((size for size in range(most, 1, -1) if num_train % size != 1), most)
    epochs = min(MOST_EPOCHS, math.ceil(ENOUGH_STEPS / math.ceil(num_train / size)))
    return [f"data.batch_size={size}", f"trainer.max_epochs={epochs}"]


def few_steps(data: ImageDataModule, command: str, max_epochs: int, accumulate: int) -> str:
    """Say what to type if the training will have few steps, and if no word of the command has decided that; else ""."""
    an_epoch = math.ceil(data.num_train_batches() / accumulate)
    decided = any(key_of(word) in DECIDE_LENGTH for word in shlex.split(command))
    if decided or an_epoch * max_epochs >= FEW_STEPS:
        return ""
    steps = "1 step" if an_epoch == 1 else f"{an_epoch} steps"
    return f"only {steps} an epoch: try {' '.join(longer_words(data.num_train, data.batch_size))}"


def slow_files(data: ImageDataModule, command: str) -> str:
    """Say how to read images faster that are files decoded anew at each use; "" for others."""
    if not isinstance(data.train.images_NCHW, ImageFiles):
        return ""
    words = [word for word in shlex.split(command) if key_of(word) in ("data", *TEST_IMAGES)]
    packing = f"{typed('pack')} {shlex.join(words)} -o PACK"
    if not any(key_of(word) == "data" for word in words):  # an experiment or an earlier run names the set
        packing = f"{typed('pack')}, with the data.* words of this set and -o PACK,"
    return (
        f"each image is decoded anew whenever it is used: {packing} writes them once, and data=packed data.path=PACK "
        f"reads them faster"
    )


def warnings(data: ImageDataModule, settings: Settings, max_epochs: int) -> list[str]:
    """Return a sentence for each thing that makes this set's accuracy misleading, such as one class that outweighs the
    others, or classes with a handful of images to be judged by, or that makes it needlessly low."""
    by_recalls = settings.trainer.best == "val/balanced_acc"
    said = [one_class_outweighs(data, settings), few_images("test", data.test.labels, data.class_names)]
    said.append(few_images("validation", data.val.labels, data.class_names) if by_recalls else "")
    said.append(unvalidated_class(data))
    said.append(freezes_random_weights(settings.model))
    said.append(never_learns(settings.optim.head_epochs, max_epochs))
    return [sentence for sentence in said if sentence]


def freezes_random_weights(model: Mapping[str, Any]) -> str:
    if model.get("freeze") is None or model.get("weights") is not None or "path" in model:  # code may load its own
        return ""
    return "model.freeze=backbone without model.weights: only the last layer learns, and the others stay random"


def never_learns(head_epochs: int, max_epochs: int) -> str:
    """Say if the head alone learns to the end, in a training whose length was given in steps."""
    if not 0 < max_epochs <= head_epochs:
        return ""
    return f"optim.head_epochs={head_epochs}: the training ends in epoch {max_epochs}, so the backbone never learns"


def one_class_outweighs(data: ImageDataModule, settings: Settings) -> str:
    images_K = data.train.labels.bincount(minlength=data.num_classes)
    most, num, name = int(images_K.max()), data.num_train, printable(data.class_names[int(images_K.argmax())])
    asked = (f"data.balance={data.balance}", f"trainer.best={settings.trainer.best}")
    # Without its validation images, a class has no part in val/balanced_acc, which then favours the large class.
    helpful = WITH_BALANCE[:1] if unvalidated_class(data) else WITH_BALANCE
    missing = [word for word in helpful if word not in asked]
    if most < MOST_OF_ALL * num or most == num or not missing:
        return ""
    return (
        f"{most:,} of {num:,} training images are {name}, so a network that always answers {name} seems right: judge "
        f"it by its balanced accuracy, and try {' '.join(missing)}"
    )


def unvalidated_class(data: ImageDataModule) -> str:
    """Say which class has no validation image, or return ""."""
    images_K = data.val.labels.bincount(minlength=data.num_classes).tolist()
    without = [printable(name) for name, num in zip(data.class_names, images_K, strict=True) if num == 0]
    if not without:
        return ""
    others = f" (as of {len(without) - 1} more)" if len(without) > 1 else ""
    return (
        f"no validation image is of the class {without[0]}{others}, so the epoch is chosen as if it didn't exist: add "
        f"images of it, or type a larger data.val_size"
    )


def few_images(split: str, labels_N: torch.Tensor, class_names: Sequence[str]) -> str:
    """Say which classes have fewer than HANDFUL images in this split, or return ""."""
    images_K = labels_N.bincount(minlength=len(class_names)).tolist()
    few = [f"{printable(name)} has {num}" for name, num in zip(class_names, images_K, strict=True) if num < HANDFUL]
    if not few:
        return ""
    more = len(few) - MOST_NAMED
    others = f" and {more} other {'class has' if more == 1 else 'classes have'} few" if more > 0 else ""
    return (
        f"few {split} images ({', '.join(few[:MOST_NAMED])}{others}): with fewer than {HANDFUL} images, a class's "
        f"recall and the balanced accuracy say little; add {split} images"
    )
