"""Every key of a run, one row each, as typed settings. The defaults are in conf/.

A row says everything about its key. The annotation is its type; `key(...)` gives its meaning, its limits and what a
change of its value affects (see `Key`). The tables at the end of the file are computed from the rows.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Self, get_type_hints

from dlintro.errors import UsageError
from dlintro.settings.key import Key, group, key, rows

Metric = Literal["val/acc", "val/loss", "train_eval/acc", "train_eval/loss"]
BestBy = Literal["val/acc", "val/loss", "val/balanced_acc"]
PATH = r"(?!.*://)[^\0]+"
LR_RULES: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
}

MODELS = ("flatnet", "mnist_cnn", "vgg16", "torchvision", "file")

# One row per line, so the formatter stays off.
# fmt: off


@dataclass(frozen=True, kw_only=True)
class Model:
    """Rows only. The values stay a mapping: they are the arguments of the model's class."""

    hidden: list[int] = key("widths of FlatNet's hidden layers; [] leaves a single linear layer, W·x + b", 1, 65536, only=("flatnet",))
    activation: Literal["relu", "sigmoid", "identity"] = key("activation after each hidden layer", only=("flatnet",))
    dropout: float = key("share of the activations that is dropped", 0, 0.95, only=("flatnet", "mnist_cnn", "vgg16"))
    widths: list[int] = key("output channels of each block of convolutions, then the width of the linear layer before the logits; 0 there leaves that layer out", 0, 4096, only=("mnist_cnn",), length=(2, 6))
    convs_per_block: int = key("convolutions in each block, before its pooling", 1, 8, only=("mnist_cnn",))
    batch_norm: bool = key("batch normalisation after each convolution", only=("mnist_cnn", "vgg16"))
    init: Literal["he", "dirac"] = key("initial weights of the convolutions: he draws them at random (He 2015); with dirac, the first filters of each copy one channel each", only=("vgg16",))
    head: Literal["small", "imagenet"] = key("layers after the convolutions: small is one linear layer, imagenet is the paper's three, the first two 4096 wide", only=("vgg16",))
    weights: str | Literal["imagenet"] | None = key("weights to start from: imagenet takes those that torchvision published for this network (model=vgg16 or torchvision), FILE is a state dict or a checkpoint, RUN is a training whose best weights are taken; null starts from random weights", pattern=PATH, example="FILE or RUN", only=MODELS, effect="file")
    freeze: Literal["backbone"] | None = key("backbone trains only the last layer, the head: all layers before it keep their weights and the averages of their batch normalisation; null trains all", only=MODELS)
    name: str = key("name of a classifier in torchvision.models", pattern=r"[a-z0-9_]+", example="resnet18 or another name from torchvision.models", only=("torchvision",))
    path: str | None = key("your Python file; it defines make_model(image_shape, num_classes) -> nn.Module", pattern=PATH, example="FILE.py", only=("file",), effect="code", may_change="sweep")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows only. The values stay a mapping: they are ImageDataModule's arguments."""

    name: str = key("the data set; type data=NAME instead of this key", pattern=r"[a-z0-9_]+", example="the name of a file in conf/data/")
    batch_size: int = key("images per training batch on each device, at most all training images; small images are evaluated in larger batches", 1, 1_000_000, test="reading")
    val_size: int | None = key("training images kept for validation; null keeps the last 5,000 of mnist, fashion_mnist and cifar10, your folder DIR/val, or else a tenth of each class", 1, 10_000_000, test="images")
    train_size: int | None = key("train on this many images only, always the same ones, equally many of each class; null takes all", 1, 10_000_000)
    num_workers: int = key("processes that load batches; with 0 the training process loads them itself", 0, 64, effect="none", may_change="sweep", test="reading")
    drop_last: bool = key("leave out the last training batch of an epoch if it is smaller than the others")
    in_ram: bool | Literal["auto"] = key("keep the data set in RAM (true) or read it from disk batch by batch (false); auto keeps it in RAM if it fits into half of the free memory and is not packed", effect="none", may_change="sweep", test="reading")
    on_device: bool = key("keep the data set in the accelerator's memory if it fits into half of what is free there; needs data.num_workers=0", effect="none", may_change="sweep", test="reading")
    balance: Literal["classes"] | None = key("classes weights the training loss of each image by how rare its class is among the training images, so that all classes count equally; null weights all images equally")
    augment: list[Literal["crop", "shift", "flip", "rotate", "affine", "elastic", "trivial", "cutout", "erase", "resized_crop"]] = key("random changes to the training images, drawn anew each time an image is used")
    image_size: int | None = key("resize the images to squares with this many pixels a side; null keeps their size (64 for a folder of mixed sizes)", 4, 1024, test="images")
    path: str | None = key("your folder: with a folder of images for each class (image_folder), written by scripts/pack (packed), or ImageNet's train/ and val/ (imagenet)", pattern=PATH, example="DIR", only=("image_folder", "packed", "imagenet"), effect="file", test="images")
    labels: str | None = key("CSV file with a line of file,label for each image below data.path; null takes the classes from the folders", pattern=PATH, example="FILE.csv", effect="file", test="images", only=("image_folder",))
    skip_broken: bool = key("leave out images that can't be read, and say how many", only=("image_folder",), test="images")
    shape: list[int] = key("channels, height and width of the random images", 1, 1024, only=("synthetic",), length=(3, 3), test="images")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How a classifier learns. From Python, a model takes an `Optim` or a mapping with the values that differ."""

    name: Literal["sgd", "adam", "adamw"] = key("the optimizer", default="adam")
    lr: float = key("learning rate; with optim.schedule=onecycle its peak. 0.003 is the default unless the model has another: 0.005 with model=mnist_cnn, 0.001 with model=vgg16", 0, 100, above=True, default=0.003)
    backbone_lr: float | None = key("learning rate of all layers before the last one, to start from weights that are good already, such as a tenth of optim.lr; null takes optim.lr for all", 0, 100, above=True, default=None)
    head_epochs: int = key("epochs at the beginning in which only the last layer learns, as with model.freeze=backbone; then all layers do", 0, 100_000, default=0)
    momentum: float = key("momentum (SGD only)", 0, 0.9999, default=0.9)
    weight_decay: float = key("how strongly the weights are pulled towards 0; sgd and adam add it to the gradient, adamw shrinks the weights directly", 0, 10, default=0.0)
    decay_biases: bool = key("false leaves parameters with fewer than two dimensions out of optim.weight_decay: biases, and the scales of normalisation layers", default=True)
    nesterov: bool = key("Nesterov momentum (SGD only)", default=False)
    betas: list[float] = key("decay rates of Adam's two running averages (adam and adamw only)", 0, 0.999999, length=(2, 2), default=[0.9, 0.999])
    schedule: Literal["none", "step", "cosine", "onecycle"] = key("how the learning rate changes during training: none keeps it, step divides it by 10 after each third, cosine lowers it to 0, onecycle raises and then lowers it", default="onecycle")
    warmup: float = key("share of the steps in which the learning rate first rises (with optim.schedule=onecycle, 0 means 0.3)", 0, 0.9, default=0.0)
    lr_rule: Literal["none", "linear", "sqrt"] = key("how the learning rate grows with the batch size: not at all, in proportion, or with its square root", default="none")
    lr_reference_batch: int = key("the batch size at which every optim.lr_rule gives optim.lr", 1, 1_000_000, default=128)
    label_smoothing: float = key("label smoothing of the training loss (cross_entropy only)", 0, 0.9, default=0.0)
    loss: Literal["cross_entropy", "mse", "bce"] = key("loss to minimise. bce needs two classes and computes one logit, mse compares the logits with one-hot labels. val/loss and test/loss are the cross entropy whatever you choose", default="cross_entropy")
    ema: float = key("decay of an exponential moving average of the weights; the averaged weights are validated and tested. 0 takes no average", 0, 0.999999, default=0.0)

    def __post_init__(self) -> None:
        for row in rows(Optim, "optim."):
            value = getattr(self, row.argument)
            if row.kind == "choice" and value not in row.words:
                raise UsageError(f"{row.name}={value}: use one of {', '.join(row.words)}")
        if self.nesterov and not (self.name == "sgd" and self.momentum > 0):
            raise UsageError("optim.nesterov=true needs optim.name=sgd and an optim.momentum above 0, such as 0.9")
        if self.label_smoothing and self.loss != "cross_entropy":
            raise UsageError(f"optim.label_smoothing={self.label_smoothing} needs optim.loss=cross_entropy")

    @property
    def has_length(self) -> bool:
        """True if the learning rate depends on where the training ends."""
        return self.schedule != "none" or self.warmup > 0

    def scaled_lr(self, images_per_step: int) -> float:
        """The learning rate for this batch size: `lr` at `lr_reference_batch`, scaled by `lr_rule`."""
        return self.lr * LR_RULES[self.lr_rule](images_per_step / self.lr_reference_batch)


@dataclass(frozen=True, kw_only=True)
class Trainer:
    max_epochs: int | None = key("passes over the training images; null trains until trainer.max_steps is reached", 1, 100_000, may_change="resume")
    max_steps: int | None = key("train for this many optimizer steps. If you type trainer.max_epochs too, training ends at whichever comes first", 1, 1_000_000_000)
    max_time: str | None = key("stop training after this much time", pattern=r"(?!0+:00:00:00$)\d{1,3}:\d\d:\d\d:\d\d", example="DAYS:HH:MM:SS, such as 00:01:30:00")
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = key("number format of the computation; auto takes bf16-mixed where the hardware computes faster with it, else 32-true")
    devices: int = key("devices that train together; more than 1 is not supported yet", 1, 1)
    accumulate_grad_batches: int = key("batches per optimizer step", 1, 100_000)
    gradient_clip_val: float | None = key("largest norm of the gradient; null sets no limit", 0, 1e6, above=True)
    log_every_n_steps: int = key("batches between two points of the training curves", 1, 1_000_000, effect="none")
    deterministic: bool = key("use deterministic algorithms only (slower on a GPU)")
    eval_images: int | None = key("evaluate each time this many more images were trained on, and measure the gradient noise; null evaluates only after each epoch", 1, 1_000_000_000)
    early_stopping: int | None = key("stop after this many epochs without a better trainer.best; null never stops early", 1, 100_000)
    best: BestBy = key("what chooses the best epoch, whose weights are kept and tested, and what trainer.early_stopping waits for. val/balanced_acc is the mean of the classes' recalls")


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    name: Literal["auto", "cpu", "cuda", "mps"] = key("the kind of device; type accelerator=NAME instead of this key")
    index: int | Literal["auto"] = key("number of the device, from 0; auto takes the one with the most free memory", 0, 1023)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    every_steps: int | None = key("write a checkpoint every N optimizer steps; null turns this off", 1, 1_000_000_000, effect="none")
    every_minutes: float | None = key("write a checkpoint every N minutes. One is also written before an epoch's evaluation if the last is 30 s old", 0, 100_000, above=True, effect="none")


@dataclass(frozen=True, kw_only=True)
class Target:
    metric: Metric = key("the curve whose way to target.value is measured in steps, images and seconds", effect="none")
    value: float | None = key("the value to reach; null lets a sweep's report choose one from the curves", 0, 1000, above=True, effect="none")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    name: str | None = key("name of the sweep's folder in outputs/sweeps/; null makes one of the first key that varies and a hash of the command", pattern=r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", example="a NAME of letters, digits, '_', '.' and '-'", effect="none")
    retry: Literal["failed"] | None = key("type failed to run the sweep's failed jobs again", effect="none", may_change="sweep")
    n_jobs: int | None = key("jobs that run at the same time and share the CPU threads; null runs one per accelerator, or one on the CPU", 1, 1024, effect="none", may_change="sweep")
    budget: Literal["epochs", "steps"] | None = key("give every setting of a sweep equally many epochs (trainer.max_epochs) or steps (trainer.max_steps; if that is null, as many as trainer.max_epochs takes at optim.lr_reference_batch). A sweep takes both, epochs,steps")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The option chosen in each config group, or None."""

    model: str
    data: str
    accelerator: str
    callbacks: str
    experiment: str | None
    sweep: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a run."""

    seed: int = key("seed of the initial weights, of the order of the images and of the augmentation", 0, 2**32 - 1)
    threads: int | None = key("CPU threads; null lets PyTorch choose", 1, 1024, effect="none", may_change="sweep")
    compile: bool = key("compile the network with torch.compile (needs a C++ compiler)")
    resume: str | None = key("interrupted run or sweep to continue", pattern=PATH, example="RUN or SWEEP", effect="none")
    rerun: str | None = key("run to repeat in a new folder", pattern=PATH, example="RUN", effect="none")
    model: dict[str, Any] = group(Model)
    data: dict[str, Any] = group(Data)
    optim: Optim
    trainer: Trainer
    accelerator: Accelerator
    checkpoint: Checkpoint
    target: Target
    sweep: Sweep
    callbacks: dict[str, Any] = key("extra callbacks; type callbacks=NAME instead of this key", effect="none", may_change="sweep")
    choices: Choices

    def __post_init__(self) -> None:
        if self.trainer.max_epochs is None and self.sweep.budget == "epochs":
            raise UsageError("trainer.max_epochs=null with sweep.budget=epochs: type the number of epochs that all settings get")
        if self.trainer.max_epochs is None and self.trainer.max_steps is None:
            raise UsageError("trainer.max_epochs=null needs trainer.max_steps: type a number for one of the two")
        if self.trainer.max_epochs is not None and 0 < self.trainer.max_epochs <= self.optim.head_epochs:
            raise UsageError(f"optim.head_epochs={self.optim.head_epochs}: trainer.max_epochs={self.trainer.max_epochs} ends the training before the backbone learns; type fewer, or model.freeze=backbone")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Make them from a composed configuration that has passed `limits.check`, with its choices."""
        return cls(**{**config, **{name: kind(**config[name]) for name, kind in PARTS.items()}})

    @property
    def code(self) -> str | None:
        """The path of the user's code, if the model comes from a file."""
        return self.model.get("path")

    def plain(self) -> dict[str, Any]:
        """Return plain values as in conf/, without the choices."""
        return {name: value for name, value in asdict(self).items() if name != "choices"}


# fmt: on
PARTS: dict[str, Any] = {name: kind for name, kind in get_type_hints(Settings).items() if is_dataclass(kind)}
GROUPS = tuple(field.name for field in fields(Choices))
ROWS = {row.name: row for row in rows(Settings)}
TABLE: dict[str, Key] = {name: row for name, row in ROWS.items() if row.kind != "group"}


def named(**facts: Any) -> tuple[str, ...]:
    """Return the names of the keys whose rows have these facts, such as `named(effect="file")`."""
    return tuple(n for n, row in ROWS.items() if all(getattr(row, fact) == value for fact, value in facts.items()))


FILES, CODE, HOW_RUN = named(effect="file"), named(effect="code"), named(effect="none")
NOT_HASHED = (*FILES, *CODE, *HOW_RUN)
OF_THE_SWEEP = named(group="sweep", effect="none")  # these belong to the sweep, not to its jobs
MAY_CHANGE_IN_SWEEP, MAY_CHANGE_ON_RESUME = named(may_change="sweep"), named(may_change="resume")
TEST_IMAGES, TEST_READING = named(test="images"), named(test="reading")
