"""Every key of a run, one row each, as the typed settings that the code below sees. The values are in conf/.

A row says all there is to know of its key: the annotation its type, `key(...)` its meaning, limits and what another
value changes (see `Key`). What is computed from the rows stands at the end.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, Self, get_type_hints

from dlintro.errors import UsageError
from dlintro.settings.key import Key, group, key, rows

Metric = Literal["val/acc", "val/loss", "train_eval/acc", "train_eval/loss"]
PATH = r"(?!.*://)[^\0]+"
LR_RULES: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "linear": lambda ratio: ratio,
    "sqrt": math.sqrt,
}

# A row a line.
# fmt: off


@dataclass(frozen=True, kw_only=True)
class Model:
    """Rows only: the values stay a mapping, the arguments of the model's own class."""

    hidden: list[int] = key("widths of FlatNet's hidden layers; [] leaves W·x + b alone", 1, 65536, only=("flatnet",))
    activation: Literal["relu", "sigmoid", "identity"] = key("activation after each hidden layer", only=("flatnet",))
    dropout: float = key("share of the activations that is dropped", 0, 0.95, only=("flatnet", "mnist_cnn", "vgg16"))
    widths: list[int] = key("output channels of each convolution, then the linear layer's width", 1, 4096, only=("mnist_cnn",), length=(2, 6))
    batch_norm: bool = key("batch normalisation after each convolution", only=("vgg16",))
    head: Literal["small", "imagenet"] = key("one linear layer, or the paper's three of 4096", only=("vgg16",))
    weights: str | None = key("start from this file's weights (a state dict or checkpoint)", pattern=PATH, example="FILE", only=("vgg16", "torchvision"), effect="file")
    name: str = key("a classifier of torchvision.models", pattern=r"[a-z0-9_]+", example="resnet18 or another name there", only=("torchvision",))
    path: str | None = key("your Python file, which defines make_model(image_shape, num_classes) -> nn.Module", pattern=PATH, example="FILE.py", only=("file",), effect="code", may_change="sweep")


@dataclass(frozen=True, kw_only=True)
class Data:
    """Rows only: the values stay a mapping, ImageDataModule's arguments."""

    name: str = key("the data set; type data=NAME", pattern=r"[a-z0-9_]+", example="a file of conf/data/")
    batch_size: int = key("images in a batch, per device; never more than there are training images", 1, 1_000_000, test="reading")
    val_size: int | None = key("images kept for validation; null takes the last 5,000, or 10 % of each class (the published mean and spread that mnist, fashion_mnist and cifar10 are normalised by include them)", 1, 10_000_000, test="images")
    train_size: int | None = key("train on a fixed class-balanced part of this many images; null takes all", 1, 10_000_000)
    num_workers: int = key("processes that fetch batches; with 0 the training process does", 0, 64, effect="none", may_change="sweep", test="reading")
    drop_last: bool = key("leave out the last training batch where it is smaller than the others")
    in_ram: bool | Literal["auto"] = key("true holds the set in RAM, false maps it from disk; auto takes RAM if the set fits into half of what is free", effect="none", may_change="sweep", test="reading")
    on_device: bool = key("keep the set on the accelerator, if it takes no more than half of the free memory there; needs data.num_workers=0", effect="none", may_change="sweep", test="reading")
    augment: list[Literal["crop", "flip", "rotate", "cutout"]] = key("random changes of the training images, drawn anew for each image")
    image_size: int | None = key("resize the images to this many pixels a side; null keeps their size", 4, 1024, test="images")
    path: str | None = key("your folder of class folders", pattern=PATH, example="DIR", only=("image_folder",), effect="file", test="images")
    skip_broken: bool = key("leave out images that can't be read, and say how many", only=("image_folder",), test="images")
    shape: list[int] = key("channels, height, width of random images", 1, 1024, only=("synthetic",), length=(3, 3), test="images")


@dataclass(frozen=True, kw_only=True)
class Optim:
    """How a classifier learns. Models take it from Python too, as a whole or as a mapping of what differs."""

    name: Literal["sgd", "adam", "adamw"] = key("optimizer", default="adam")
    lr: float = key("learning rate, with optim.schedule=onecycle its peak (default of mnist_cnn 0.005, of vgg16 0.001)", 0, 100, above=True, default=0.003)
    momentum: float = key("momentum (SGD only)", 0, 0.9999, default=0.9)
    weight_decay: float = key("how strongly the weights are pulled towards 0 (adam and sgd add it to the gradient, adamw does not)", 0, 10, default=0.0)
    nesterov: bool = key("Nesterov's momentum (SGD only)", default=False)
    betas: list[float] = key("decays of Adam's two running averages (adam and adamw only)", 0, 0.999999, length=(2, 2), default=[0.9, 0.999])
    schedule: Literal["none", "step", "cosine", "onecycle"] = key("how the learning rate changes from batch to batch", default="onecycle")
    warmup: float = key("share of the steps in which the rate rises at first (onecycle reads 0 as 0.3)", 0, 0.9, default=0.0)
    lr_rule: Literal["none", "linear", "sqrt"] = key("how the learning rate grows with the batch size", default="none")
    lr_reference_batch: int = key("the batch size at which all rules give optim.lr", 1, 1_000_000, default=128)
    label_smoothing: float = key("label smoothing of the training loss (cross_entropy only)", 0, 0.9, default=0.0)
    loss: Literal["cross_entropy", "mse", "bce"] = key("loss to train on, train/loss (val/loss and test/loss are always the cross entropy); bce needs two classes and has one logit, mse compares with one-hot labels", default="cross_entropy")
    ema: float = key("decay of the averaged weights, which warms up; 0 averages nothing", 0, 0.999999, default=0.0)

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
    max_epochs: int | None = key("passes over the training images; null takes as many as trainer.max_steps need", 1, 100_000, may_change="resume")
    max_steps: int | None = key("train for this many optimizer steps; with trainer.max_epochs typed too, the first of the two ends the training", 1, 1_000_000_000)
    max_time: str | None = key("stop after this time at the latest, as days:hours:minutes:seconds", pattern=r"(?!0+:00:00:00$)\d{1,3}:\d\d:\d\d:\d\d", example="DAYS:HH:MM:SS, such as 00:01:30:00")
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = key("number format of the computation; auto takes bf16-mixed where the hardware is faster in it")
    devices: int = key("how many devices train together; more than 1 is not supported yet", 1, 1)
    accumulate_grad_batches: int = key("batches per optimizer step", 1, 100_000)
    gradient_clip_val: float | None = key("largest norm of the gradient; null sets no limit", 0, 1e6, above=True)
    log_every_n_steps: int = key("batches between two points of the training curves", 1, 1_000_000, effect="none")
    deterministic: bool = key("use deterministic algorithms only (slower on a GPU)")
    eval_images: int | None = key("evaluate whenever this many more images were trained on, and measure the gradient noise; null evaluates at epoch ends only", 1, 1_000_000_000)
    early_stopping: int | None = key("stop after this many epochs without a better val/acc; null never stops early", 1, 100_000)


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    name: Literal["auto", "cpu", "cuda", "mps"] = key("the device; type accelerator=NAME")
    index: int | Literal["auto"] = key("which of the devices; auto takes the least used", 0, 1023)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    every_steps: int | None = key("write a checkpoint every N steps, besides each epoch's", 1, 1_000_000_000, effect="none")
    every_minutes: float | None = key("write a checkpoint every N minutes, besides each epoch's (and before an epoch's evaluation, if the last one is 30 s old)", 0, 100_000, above=True, effect="none")


@dataclass(frozen=True, kw_only=True)
class Target:
    metric: Metric = key("the curve up to whose target steps, images and seconds are counted", effect="none")
    value: float | None = key("the target; null lets a sweep's report pick one from the curves", 0, 1000, above=True, effect="none")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    name: str | None = key("the sweep's folder in outputs/sweeps/; null names it after its first key and a hash of its words", pattern=r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", example="a NAME of letters, digits, '_', '.' and '-'", effect="none")
    retry: Literal["failed"] | None = key("run the sweep's failed jobs again", effect="none", may_change="sweep")
    n_jobs: int | None = key("jobs at a time, which share the CPU threads; null runs one on each accelerator, or one on the CPU", 1, 1024, effect="none", may_change="sweep")
    budget: Literal["epochs", "steps"] | None = key("what all settings have in common: trainer.max_epochs, or trainer.max_steps (null: the steps that max_epochs take at optim.lr_reference_batch)")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The option chosen of each config group; None: none."""

    model: str
    data: str
    accelerator: str
    callbacks: str
    experiment: str | None
    sweep: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All that a run is told."""

    seed: int = key("seed of the weights, of the images' order and of all augmentation", 0, 2**32 - 1)
    threads: int | None = key("CPU threads; null leaves the number to PyTorch", 1, 1024, effect="none", may_change="sweep")
    compile: bool = key("torch.compile the network in place (needs a C++ compiler)")
    resume: str | None = key("the folder of an interrupted run or sweep to go on with", pattern=PATH, example="RUN or SWEEP", effect="none")
    rerun: str | None = key("the folder of a run to repeat in a new folder", pattern=PATH, example="RUN", effect="none")
    model: dict[str, Any] = group(Model)
    data: dict[str, Any] = group(Data)
    optim: Optim
    trainer: Trainer
    accelerator: Accelerator
    checkpoint: Checkpoint
    target: Target
    sweep: Sweep
    callbacks: dict[str, Any] = key("extra callbacks; type callbacks=NAME", effect="none", may_change="sweep")
    choices: Choices

    def __post_init__(self) -> None:
        if self.trainer.max_epochs is None and self.sweep.budget == "epochs":
            raise UsageError("trainer.max_epochs=null with sweep.budget=epochs: use a number of epochs for all settings")
        if self.trainer.max_epochs is None and self.trainer.max_steps is None:
            raise UsageError("trainer.max_epochs=null needs trainer.max_steps: use a number for one of the two")

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """From a composed configuration that has passed `limits.check`, with its choices."""
        return cls(**{**config, **{name: kind(**config[name]) for name, kind in PARTS.items()}})

    @property
    def code(self) -> str | None:
        """The user's file of code, if the model comes from one."""
        return self.model.get("path")

    def plain(self) -> dict[str, Any]:
        """As in conf/: plain values, without the choices."""
        return {name: value for name, value in asdict(self).items() if name != "choices"}


# fmt: on
PARTS: dict[str, Any] = {name: kind for name, kind in get_type_hints(Settings).items() if is_dataclass(kind)}
GROUPS = tuple(field.name for field in fields(Choices))
ROWS = {row.name: row for row in rows(Settings)}
TABLE: dict[str, Key] = {name: row for name, row in ROWS.items() if row.kind != "group"}


def named(**facts: Any) -> tuple[str, ...]:
    """The keys whose rows say so: `named(effect="file")`."""
    return tuple(n for n, row in ROWS.items() if all(getattr(row, fact) == value for fact, value in facts.items()))


FILES, CODE, HOW_RUN = named(effect="file"), named(effect="code"), named(effect="none")
NOT_HASHED = (*FILES, *CODE, *HOW_RUN)
OF_THE_SWEEP = named(group="sweep", effect="none")  # and not of its jobs
MAY_CHANGE_IN_SWEEP, MAY_CHANGE_ON_RESUME = named(may_change="sweep"), named(may_change="resume")
TEST_IMAGES, TEST_READING = named(test="images"), named(test="reading")
