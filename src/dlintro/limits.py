"""The table of limits: every configuration key with its type, legal values, unit and meaning. It answers --help and
stops a wrong command before torch is imported. A key that has no row here is an unknown key.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlintro.errors import UsageError

HERE = Path(__file__).resolve().parent
CONF = next(p for p in (HERE / "conf", HERE.parents[1] / "conf") if p.is_dir())  # in a wheel; in the repository
GROUPS = ("model", "data", "accelerator", "callbacks", "experiment", "sweep")


@dataclass(frozen=True)
class Key:
    """`kind`: int, float, bool, choice, text, or a list of one of these ("int list"). `low`/`high` are inclusive; with
    `above`, low itself is not legal. `words` are legal besides; `only` names the options of its group that have it."""

    name: str
    kind: str
    meaning: str
    low: float = 0
    high: float = 0
    above: bool = False
    null: bool = False
    words: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    length: tuple[int, int] = (0, 10)  # of a list
    pattern: str = ""  # of a text
    example: str = ""

    def legal(self) -> str:
        """The legal values in words."""
        base = self.kind.removesuffix(" list")
        if base == "choice":
            said = " | ".join(self.words)
        elif base in ("int", "float"):
            low, high = (f"{int(end):,}" if end == int(end) else f"{end:g}" for end in (self.low, self.high))
            said = f"{'whole number' if base == 'int' else 'number'}{' above' if self.above else ''} {low} to {high}"
            said += "".join(f" | {word}" for word in self.words)
        else:
            said = {"bool": "true | false", "text": self.example or "text"}[base]
            said += "".join(f" | {word}" for word in self.words)
        if self.kind.endswith("list"):
            said = f"list of {said}" if self.length[0] != self.length[1] else f"list of {self.length[0]}: {said}"
            said += f", typed '{self.name}=[...,...]'"
        return said + (" | null" if self.null else "")

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.null
        if self.kind.endswith(" list"):
            element = self.kind.removesuffix(" list")
            return (
                isinstance(value, Sequence)
                and not isinstance(value, str)
                and self.length[0] <= len(value) <= self.length[1]
                and all(self._accepts_one(element, item) for item in value)
            )
        return self._accepts_one(self.kind, value)

    def _accepts_one(self, kind: str, value: Any) -> bool:
        if isinstance(value, str) and kind != "text":
            return value in self.words
        if kind == "bool":
            return isinstance(value, bool)
        if kind == "text":
            return isinstance(value, str) and bool(re.fullmatch(self.pattern or r".+", value, re.DOTALL))
        if isinstance(value, bool) or not isinstance(value, (int,) if kind == "int" else (int, float)):
            return False
        return (
            (isinstance(value, int) or math.isfinite(value))
            and self.low <= value <= self.high
            and not (self.above and value == self.low)
        )


_PATH = r"(?!.*://)[^\0]+"
KEYS = (
    Key("seed", "int", "of the weights, the order of the images and all augmentation", 0, 2**32 - 1),
    Key("threads", "int", "CPU threads; null: PyTorch's choice", 1, 1024, null=True),
    Key("compile", "bool", "torch.compile the network in place (needs a C++ compiler)"),
    Key("resume", "text", "go on with an interrupted run or sweep: its folder", null=True, pattern=_PATH, example="RUN or SWEEP"),
    Key("rerun", "text", "the same run again, in a new folder: the folder of the old one", null=True, pattern=_PATH, example="RUN"),
    Key("model.hidden", "int list", "widths of FlatNet's hidden layers; none: W·x + b", 1, 65536, only=("flatnet",)),
    Key("model.activation", "choice", "after each hidden layer", words=("relu", "sigmoid", "identity"), only=("flatnet",)),
    Key("model.dropout", "float", "share of the activations that is dropped", 0, 0.95, only=("flatnet", "mnist_cnn", "vgg16")),
    Key("model.widths", "int list", "output channels of each convolution, then the linear layer's width", 1, 4096, only=("mnist_cnn",), length=(2, 6)),
    Key("model.batch_norm", "bool", "batch normalisation after each convolution", only=("vgg16",)),
    Key("model.head", "choice", "one linear layer, or the paper's three of 4096", words=("small", "imagenet"), only=("vgg16",)),
    Key("model.weights", "text", "start from this file's weights (a state dict or checkpoint)", null=True, pattern=_PATH, example="FILE", only=("vgg16", "torchvision")),
    Key("model.name", "text", "a classifier of torchvision.models", pattern=r"[a-z0-9_]+", example="resnet18 or another of their names", only=("torchvision",)),
    Key("model.path", "text", "your file; it defines make_model(image_shape, num_classes) -> nn.Module", null=True, pattern=_PATH, example="FILE.py", only=("file",)),
    Key("data.name", "choice", "set by data=NAME", words=("mnist", "fashion_mnist", "cifar10", "cats_dogs", "image_folder", "synthetic")),
    Key("data.batch_size", "int", "images in a batch, per device", 1, 1_000_000),
    Key("data.val_size", "int", "images kept for validation; null: the last 5,000, or 10 % of each class", 1, 10_000_000, null=True),
    Key("data.train_size", "int", "train on a fixed class-balanced part of so many images; null: on all", 1, 10_000_000, null=True),
    Key("data.num_workers", "int", "processes that fetch batches; 0: the training process itself", 0, 64),
    Key("data.drop_last", "bool", "leave out the last training batch where it is smaller than the others"),
    Key("data.in_ram", "bool", "hold the set in RAM, or map it from disk; auto: RAM up to half of what is free", words=("auto",)),
    Key("data.on_device", "bool", "keep the set on the accelerator, if it takes no more than half of the free memory there; with data.num_workers=0"),
    Key("data.augment", "choice list", "of the training images, on the device, one draw per image", words=("crop", "flip", "rotate", "cutout")),
    Key("data.image_size", "int", "resize to this many pixels a side; null: as they are", 4, 1024, null=True),
    Key("data.path", "text", "your folder of class folders", null=True, pattern=_PATH, example="DIR", only=("image_folder",)),
    Key("data.skip_broken", "bool", "leave out images that can't be read, and say how many", only=("image_folder",)),
    Key("data.shape", "int list", "channels, height, width of random images", 1, 1024, only=("synthetic",), length=(3, 3)),
    Key("optim.name", "choice", "optimizer", words=("sgd", "adam", "adamw")),
    Key("optim.lr", "float", "learning rate (onecycle: its peak); mnist_cnn: 0.005, vgg16: 0.001", 0, 100, above=True),
    Key("optim.momentum", "float", "of sgd", 0, 0.9999),
    Key("optim.weight_decay", "float", "pull of the weights towards 0 (adam, sgd: added to the gradient; adamw: apart from it)", 0, 10),
    Key("optim.nesterov", "bool", "Nesterov's momentum, for sgd"),
    Key("optim.betas", "float list", "decays of adam's two averages", 0, 0.999999, length=(2, 2)),
    Key("optim.schedule", "choice", "of the learning rate, stepped after each batch", words=("none", "step", "cosine", "onecycle")),
    Key("optim.warmup", "float", "share of the steps in which the rate rises (onecycle: 0 means 0.3)", 0, 0.9),
    Key("optim.lr_rule", "choice", "how the rate grows with the batch size", words=("none", "linear", "sqrt")),
    Key("optim.lr_reference_batch", "int", "the batch size at which all rules give optim.lr", 1, 1_000_000),
    Key("optim.label_smoothing", "float", "of cross_entropy", 0, 0.9),
    Key("optim.loss", "choice", "bce: two classes, one logit; mse: on one-hot labels", words=("cross_entropy", "mse", "bce")),
    Key("optim.ema", "float", "decay of averaged weights, warmed up; 0: none", 0, 0.999999),
    Key("trainer.max_epochs", "int", "passes over the training images", 1, 100_000),
    Key("trainer.max_steps", "int", "stop after so many optimizer steps", 1, 1_000_000_000, null=True),
    Key("trainer.max_time", "text", "stop after days:hours:minutes:seconds", null=True, pattern=r"(?!0+:00:00:00$)\d{1,3}:\d\d:\d\d:\d\d", example="DAYS:HH:MM:SS, 00:01:30:00 say"),
    Key("trainer.precision", "choice", "auto: bf16-mixed where the hardware is faster in it", words=("32-true", "bf16-mixed", "16-mixed", "auto")),
    Key("trainer.devices", "int", "how many devices train together; more than 1 is not supported yet", 1, 1),
    Key("trainer.accumulate_grad_batches", "int", "batches per optimizer step", 1, 100_000),
    Key("trainer.gradient_clip_val", "float", "largest norm of the gradient; null: any", 0, 1e6, above=True, null=True),
    Key("trainer.log_every_n_steps", "int", "batches between two readings of the training curves", 1, 1_000_000),
    Key("trainer.deterministic", "bool", "only deterministic algorithms (slower on a GPU)"),
    Key("trainer.eval_images", "int", "evaluate each time so many images were trained on (null: at epoch ends only), and measure the gradient noise", 1, 1_000_000_000, null=True),
    Key("trainer.early_stopping", "int", "stop after so many epochs without a better val/acc; null: never", 1, 100_000, null=True),
    Key("accelerator.name", "choice", "set by accelerator=NAME", words=("auto", "cpu", "cuda", "mps")),
    Key("accelerator.index", "int", "which device; auto: the least used", 0, 1023, words=("auto",)),
    Key("checkpoint.every_steps", "int", "write a checkpoint every so many steps, besides each epoch's", 1, 1_000_000_000, null=True),
    Key("checkpoint.every_minutes", "float", "write a checkpoint every so many minutes, besides each epoch's (and, if the last is 30 s old, before its evaluation)", 0, 100_000, above=True, null=True),
    Key("target.metric", "choice", "whose target the steps, images and seconds are counted to", words=("val/acc", "val/loss", "train_eval/acc", "train_eval/loss")),
    Key("target.value", "float", "the target; null: a sweep's report picks it from the curves", 0, 1000, above=True, null=True),
    Key("sweep.name", "text", "the sweep's folder in outputs/sweeps/; null: named by its first key and a hash of its words", null=True, pattern=r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", example="NAME"),
    Key("sweep.retry", "choice", "run the sweep's failed jobs again", null=True, words=("failed",)),
    Key("sweep.n_jobs", "int", "jobs at a time, the CPU threads divided between them; null: one for each accelerator, one on the CPU", 1, 1024, null=True),
    Key("sweep.budget", "choice", "what settings have in common: trainer.max_epochs, or the steps (trainer.max_steps; null: as many as max_epochs take at optim.lr_reference_batch)", null=True, words=("epochs", "steps")),
)  # fmt: skip
TABLE = {key.name: key for key in KEYS}


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; a list is a leaf."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def check(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> None:
    """UsageError with one line where a leaf of the composed configuration is unknown or has an illegal value."""
    for name, value in leaves(config):
        if name.endswith("._target_"):
            continue  # judged by the class it resolves to, when it is built
        key = TABLE.get(name)
        group = name.split(".")[0]
        if key is None:
            raise UsageError(unknown(name))
        if key.only and choices.get(group) not in key.only:
            raise UsageError(
                f"{name}: {group}={choices.get(group)} has no such key; it belongs to {group}={'|'.join(key.only)}"
            )
        if not key.accepts(value):
            raise UsageError(f"{name}={shown(value)}: {key.meaning}; legal: {key.legal()}")


def shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def unknown(name: str) -> str:
    near = difflib.get_close_matches(name, [*GROUPS, *TABLE], n=1, cutoff=0.5)
    # a key given without its group (batch_size=32) is the most common slip
    near = [key for key in TABLE if key.split(".")[-1] == name][:1] or near
    return f"unknown key {name}" + (f"; did you mean {near[0]}?" if near else "; scripts/train --help lists all keys")


def defaults() -> dict[str, Any]:
    """The value of each key in conf/, without Hydra: quick enough for --help."""
    import yaml

    def read(path: Path) -> dict[str, Any]:
        content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        for parent in content.pop("defaults", []) if path.parent != CONF else []:
            content = read(path.parent / f"{parent}.yaml") | content
        return content

    found = {name: value for name, value in leaves(read(CONF / "train.yaml")) if name in TABLE}
    chosen = default_options()
    for group in ("model", "data", "accelerator"):
        for name in dict.fromkeys([str(chosen[group]), *options(group)]):  # what is chosen where nothing is said, first
            content = read(CONF / group / f"{name}.yaml")
            for name, value in leaves(content.get(group, content)):  # nested where the file sets other groups' keys too
                found.setdefault(f"{group}.{name}", value)
    return found


def no_option(group: str, name: str) -> str:
    found = options(group)
    near = difflib.get_close_matches(name, found, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{group}={name}: there is no such option; {hint}There are {', '.join(found)}"


def options(group: str) -> list[str]:
    """What may stand behind `group=`."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def default_options() -> dict[str, str | None]:
    """Of each group."""
    import yaml

    composed = yaml.safe_load((CONF / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    return {name: option for line in composed if isinstance(line, dict) for name, option in line.items()}


def print_help() -> None:
    print("scripts/train [GROUP=OPTION] [KEY=VALUE] ...    train an image classifier\n")
    chosen = default_options()
    for group in GROUPS:
        print(f"  {group}={' | '.join(options(group))}    ({chosen[group] or 'none'} where nothing is said)")
    print("\n  lists in quotes:         'model.hidden=[512,512]'")
    print("  several runs:            -m data.batch_size=32,64 'seed=range(3)'; the same line again resumes them")
    print("  the whole configuration: --cfg job")
    print("  your own config files:   --config-dir DIR\n\nKeys, with their defaults:")
    found = defaults()
    for key in KEYS:
        default = found.get(key.name)
        said = shown(default).lower() if isinstance(default, bool) else shown(default)
        only = f"  ({key.name.split('.')[0]}={'|'.join(key.only)})" if key.only else ""
        print(f"\n{key.name}={said}{only}\n    {key.meaning}\n    {key.legal()}")
