"""Types random commands from --help's table to scripts/train. Each is trained or refused in one line, never both.

Everything before the Trainer's fit() is real: Hydra, the checks, the images, the model and the callbacks.
"""

import math
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hydra.types import RunMode
from PIL import Image

from dlintro.commands import train as entry
from dlintro.settings.key import Key
from dlintro.settings.keys import TABLE

LINES, TRAINED = 1000, 50
# Values that somebody may type. They don't come from the table, as the table itself may be wrong.
ILLEGAL: dict[str, tuple[str, ...]] = {
    "seed": ("-1", "4294967296", "1.5", "abc", "", "null", "[1]"),
    "threads": ("0", "-2", "two", "1.5", "true"),
    "compile": ("2", "maybe", "", "null"),
    "resume": ("nowhere", "http://127.0.0.1/run"),
    "rerun": ("nowhere", "file://run"),
    "model.hidden": ("5", "[0]", "[-3]", "[a]", "[1.5]", "[65537]", "null", "[[3]]"),
    "model.activation": ("tanh", "1", "", "null", "[relu]"),
    "model.dropout": ("-0.1", "1", "0.96", "half", "nan", "", "true"),
    "model.widths": ("[]", "[8]", "[0,8]", "[4097,8]", "8", "[1,2,3,4,5,6,7]"),
    "model.convs_per_block": ("0", "9", "1.5", "null"),
    "model.init": ("ones", "", "null"),
    "model.batch_norm": ("2", "none", "null"),
    "model.head": ("large", "", "null"),
    "model.weights": ("nowhere.ckpt", "https://127.0.0.1/weights.pt"),
    "model.freeze": ("head", "true", "all"),
    "model.name": ("resnet", "ResNet18", "os.system", "../resnet18", "get_model", "null", ""),
    "model.path": ("nowhere.py", "http://127.0.0.1/net.py", "pets"),
    "data.name": ("mnist", "", "../mnist"),
    "data.batch_size": ("0", "-1", "1000001", "1e3", "32.5", "many", "null", "nan", "[32]"),
    "data.val_size": ("0", "-5", "10000001", "0.1", "all"),
    "data.train_size": ("0", "-1", "10000001", "0.5", "all"),
    "data.num_workers": ("-1", "65", "1.5", "null"),
    "data.drop_last": ("2", "maybe", "null"),
    "data.in_ram": ("2", "sometimes", "null"),
    "data.on_device": ("cuda", "2", "null"),
    "data.balance": ("images", "true", "2"),
    "data.labels": ("nowhere.csv", "http://127.0.0.1/labels.csv", "pets"),
    "data.augment": ("flip", "[flop]", "[1]", "null", "[flip,null]", "{flip:1}"),
    "data.image_size": ("0", "3", "1025", "32.5", "big", "-8"),
    "data.path": ("nowhere", "http://127.0.0.1/images", "net.py"),
    "data.skip_broken": ("2", "some", "null"),
    "data.shape": ("[1,8]", "[1,8,0]", "[0,8,8]", "8", "[1,8,8,8]", "[1,1025,8]", "[a,b,c]", "null"),
    "optim.name": ("rmsprop", "Adam", "1", "", "null"),
    "optim.lr": ("0", "-0.1", "101", "nan", "inf", "fast", "null", "0,1", ""),
    "optim.backbone_lr": ("0", "-0.1", "101", "nan", "fast"),
    "optim.head_epochs": ("-1", "100001", "1.5", "null"),
    "optim.momentum": ("-0.1", "1", "1.5", "nan", "null"),
    "optim.weight_decay": ("-1e-4", "11", "inf", "null"),
    "optim.decay_biases": ("2", "some", "null"),
    "optim.nesterov": ("2", "maybe", "null"),
    "optim.betas": ("0.9", "[0.9]", "[0.9,1]", "[-0.1,0.9]", "[0.9,0.99,0.999]", "null", "[a,b]"),
    "optim.schedule": ("linear", "true", "null", ""),
    "optim.warmup": ("-0.1", "0.91", "1", "10%", "nan"),
    "optim.lr_rule": ("cubic", "2", "null"),
    "optim.lr_reference_batch": ("0", "-128", "1.5", "1000001", "null"),
    "optim.label_smoothing": ("-0.1", "0.91", "1", "nan"),
    "optim.loss": ("hinge", "", "null", "3"),
    "optim.ema": ("-0.1", "1", "1.5", "nan", "null"),
    "trainer.max_epochs": ("0", "-1", "100001", "1.5", "many"),
    "trainer.max_steps": ("0", "-1", "1000000001", "1.5"),
    "trainer.max_time": ("1h", "00:00:00:00", "10", "00:00:10", "-1:00:00:00", "a:b:c:d"),
    "trainer.precision": ("64", "float32", "32", "null", "bf16"),
    "trainer.devices": ("0", "2", "-1", "auto", "null"),
    "trainer.accumulate_grad_batches": ("0", "-1", "100001", "1.5", "null"),
    "trainer.gradient_clip_val": ("0", "-1", "1000001", "nan", "inf"),
    "trainer.log_every_n_steps": ("0", "-1", "1000001", "null"),
    "trainer.deterministic": ("2", "warn", "null"),
    "trainer.eval_images": ("0", "-1", "1000000001", "1.5"),
    "trainer.best": ("test/acc", "acc", "null"),
    "trainer.early_stopping": ("0", "-1", "100001", "true"),
    "accelerator.name": ("cpu", "tpu", ""),
    "accelerator.index": ("-1", "1024", "first", "null"),
    "checkpoint.every_steps": ("0", "-1", "1000000001", "1.5"),
    "checkpoint.every_minutes": ("0", "-1", "100001", "nan", "soon"),
    "target.metric": ("test/acc", "train/acc", "val", "null"),
    "target.value": ("0", "-1", "1001", "nan", "best"),
    "sweep.name": ("../away", ".hidden", "a/b", "a b", ""),
    "sweep.retry": ("all", "true", "ok"),
    "sweep.n_jobs": ("0", "-1", "1025", "1.5", "auto"),
    "sweep.budget": ("time", "images", "1"),
}  # fmt: skip
WORDS = (  # that aren't KEY=VALUE, or whose key doesn't exist
    "optim.lr", "=3", "optim.lr==1", "+optim.lr=0.1", "~optim.lr", "data.batch_sze=3", "lr=0.1", "seed=",
    "optim={lr: 0.1}", "optim.lr={a: 1}", "seed=${oc.env:HOME}", "seed=???", "seed='", "hydra.job.name=x", "--force",
    "model._target_=os.system", "model.path=a,b", "model=flatnet,mnist_cnn", "model=nothing", "data=../x",
    "experiment=none", "sweep=none", "callbacks=none", "accelerator=gpu", "tr\u00e4iner.max_epochs=1", "\x1b[31m=1",
)  # fmt: skip
# Legal values for keys that name a file or folder, which must exist, or that would take long.
LEGAL: dict[str, tuple[str, ...]] = {
    "model.hidden": ("[]", "[1]", "[16]", "[8,4]"),
    "model.widths": ("[1,1]", "[4,8]", "[2,2,2,4]", "[4,0]"),
    "model.name": ("resnet18", "squeezenet1_1", "mobilenet_v3_small"),
    "model.head": ("small",),
    "model.path": ("net.py",),
    "data.path": ("pets", "./pets"),
    "data.labels": ("null",),
    "data.shape": ("[1,8,8]", "[3,9,7]", "[4,8,8]", "[1,1,16]"),
    "data.image_size": ("4", "9", "32", "null"),
    "data.num_workers": ("0",),
    "threads": ("1", "2", "null"),
    "trainer.max_time": ("00:00:10:00", "null"),
    "sweep.name": ("mine", "null"),
    "compile": ("false",),  # needs a C++ compiler
}
ELSEWHERE = (
    "resume",
    "rerun",
    "model.weights",
    "data.name",
    "accelerator.name",
    "accelerator.index",
)  # nothing to draw
SETS = {
    "synthetic": ("data.shape=[1,8,8]", "data.train_size=64"),
    "image_folder": ("data.path=pets", "data.image_size=8"),
}
MODELS = {"flatnet": (), "mnist_cnn": ("model.widths=[4,8]",), "vgg16": ("data.image_size=32",),
          "file": ("model.path=net.py",),
          "torchvision": ("model.name=squeezenet1_1", "data.image_size=32")}  # fmt: skip
NET = """from torch import nn
def make_model(image_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))
"""


def test_every_key_has_illegal_values_of_its_own() -> None:
    assert set(ILLEGAL) == set(TABLE)


def legal(key: Key, chance: random.Random) -> str:
    """Draw a value that is legal by the table, as it is typed. Half of the numbers are ends of their range."""

    def one(kind: str) -> str:
        if key.words and (kind == "choice" or chance.random() < 0.3):
            return chance.choice(key.words)
        if kind == "bool":
            return chance.choice(("true", "false"))
        low = key.low or key.high * 1e-6
        between = min(math.exp(chance.uniform(math.log(low), math.log(key.high))), key.high)
        value = chance.choice((low if key.above else key.low, key.high, between))
        return str(max(math.floor(value), math.ceil(key.low))) if kind == "int" else repr(float(value))

    if key.name in LEGAL:
        return chance.choice(LEGAL[key.name])
    if key.null and chance.random() < 0.2:
        return "null"
    if key.kind.endswith(" list"):
        length = chance.randint(key.length[0], min(key.length[1], 4))
        return f"[{','.join(one(key.kind.removesuffix(' list')) for _ in range(length))}]"
    return one(key.kind)


def line(chance: random.Random) -> tuple[list[str], bool]:
    """Return the words of a command, and whether one of them is illegal."""
    data = chance.choice(sorted(SETS))
    small = ("flatnet", "mnist_cnn", "file")  # of the 2,000 test images that are random
    model = chance.choice(small if data == "synthetic" or chance.random() < 0.8 else ("vgg16", "torchvision"))
    words = {"data": data, "model": model, "accelerator": "cpu"}
    words |= dict(word.split("=", 1) for word in ("threads=1", *SETS[data], *MODELS[model]))
    mine = {"data": data, "model": model}
    keys = [key for key in TABLE.values() if not key.only or mine[key.group] in key.only]
    drawn = chance.sample(keys, chance.randint(1, 6))
    wrong = chance.choice(drawn).name if chance.random() < 0.4 else ""
    for key in drawn:
        if key.name == wrong:
            words[key.name] = chance.choice(ILLEGAL[key.name])
        elif key.name not in ELSEWHERE:
            words[key.name] = legal(key, chance)
    typed = [f"{name}={value}" for name, value in words.items()]
    chance.shuffle(typed)
    if not wrong and chance.random() < 0.1:
        wrong = chance.choice(WORDS)
        typed.append(wrong)  # as of two values of a key the last counts
    return typed, bool(wrong)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a network and with 8 x 8 images of two classes: 24 training images of each, and 4 test images."""
    (tmp_path / "net.py").write_text(NET)
    pixels = np.random.default_rng(0)
    for split, num in (("train", 24), ("test", 4)):
        for kind in ("cat", "dog"):
            place = tmp_path / "pets" / split / kind
            place.mkdir(parents=True)
            for number in range(num):
                Image.fromarray(pixels.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(place / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    monkeypatch.setattr("dlintro.run.train.draw", lambda *arguments: None)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def answer(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int | str, str]:
    """Return the exit status or the exception of the command, and its output."""
    try:
        status: int | str = entry.main(words)
    except BaseException as error:  # includes pytest's own time limit
        status = f"{type(error).__name__}: {error}"
    return status, "".join(capfd.readouterr()).strip()


def is_one_answer(status: int | str, said: str) -> bool:
    """Return whether a person can read it: there is no traceback, and a mistake gives one line."""
    mistakes = [line for line in said.splitlines() if line.startswith("dlintro: ")]
    return status in (0, 1, 2) and "Traceback" not in said and len(mistakes) == (status != 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_line_is_trained_or_refused_and_an_illegal_one_never_trains(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []  # the class of each model whose training would start

    def recorder(trainer: L.Trainer, model: Any, datamodule: Any, **rest: Any) -> None:
        assert len(datamodule.train) > 0
        built.append(type(model).__name__)

    def untested(trainer: L.Trainer, run: Any, checkpoints: Any) -> None:
        run.record.update(test_images=len(run.data.test))

    monkeypatch.setattr(L.Trainer, "fit", recorder)
    monkeypatch.setattr("dlintro.run.train.test", untested)
    monkeypatch.setattr("dlintro.run.train.ended_by", lambda *arguments: "max_epochs")
    monkeypatch.setattr("dlintro.run.train.screen.show", lambda *arguments: None)
    for name in ("logits_NK", "labels_N"):
        monkeypatch.setattr(f"dlintro.callbacks.logits.KeepLogits.{name}", torch.zeros(0))
    # Hydra composes each command twice, first to learn whether it is a sweep. None of these is.
    monkeypatch.setattr("hydra._internal.hydra.Hydra.get_mode", lambda *arguments, **named: RunMode.RUN)
    chance, counts, wrong = random.Random(0), Counter[str](), list[Any]()
    for _ in range(LINES):
        words, is_illegal = line(chance)
        before = len(built)
        status, said = answer(words, capfd)
        trained = len(built) > before
        # A missing or wrong file or folder may only be noticed when it is read, which gives status 1.
        if not is_one_answer(status, said) or trained != (status == 0) or (trained and is_illegal):
            wrong.append((words, status, said))
        counts[f"{'illegal' if is_illegal else 'legal'}, status {status}"] += 1
    assert not wrong, "\n".join(map(str, wrong[:10]))
    with capfd.disabled():
        print(f"\n{LINES} lines: {dict(counts)}; {dict(Counter(built))}")
    assert counts["legal, status 0"] > 0.3 * LINES and counts["illegal, status 2"] > 0.3 * LINES
    assert len(set(built)) == len(MODELS)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_legal_lines_train_for_two_steps(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chance, trained = random.Random(1), 0
    while trained < TRAINED:
        words, is_illegal = line(chance)
        if is_illegal:
            continue
        words = [word for word in words if not word.startswith(("trainer.max_steps=", "sweep.budget="))]
        status, said = answer([*words, "trainer.max_steps=2"], capfd)
        assert status in (0, 2) or "is not finite" in said, (words, status, said)
        trained += status == 0
