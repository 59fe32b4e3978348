"""Each flag, pair of flags and odd value of scripts/train works or is refused in one line."""

import itertools
import math
import os
import sys
from pathlib import Path

import pytest

from dlintro.commands import train as entry
from dlintro.settings.conf import options
from dlintro.settings.keys import GROUPS, TABLE
from tests.settings.test_limits import option_of

Captured = pytest.CaptureFixture[str]
FLAGS = [
    *("-m", "--multirun", "--run", "-r", "--resolve", "--version", "--hydra-help", "--help", "-h", "--bogus"),
    *("--shell-completion", "-sc install=bash", "-sc uninstall=fish", "-sc query=zsh", "--experimental-rerun x"),
    *("--cfg", "--cfg job", "--cfg=hydra", "-c all", "-c foo", "--package", "--package model", "-p optim", "-p nope"),
    *("--info", "--info=defaults", "-i searchpath", "--info foo", "--config-dir", "--config-dir mine", "-cd none"),
    *("hydra.mode=RUN", "hydra.mode=MULTIRUN", "hydra.mode=FOO", "hydra.verbose=true", "hydra.verbose={}"),
    *("hydra/launcher=basic", "hydra/launcher=foo", "hydra.run.dir=new", "hydra.sweep.dir=new", "sweep=models"),
]
NONE = object()  # a value that no key takes
ODD = {
    "???": NONE, "{}": {}, "[]": [], "''": "", "null": None, "${x}": NONE, "1e999": math.inf, "9" * 400: int("9" * 400),
    "[[1]]": [[1]], "[{},null]": [{}, None], "{a: 1}": {"a": 1}, "a=b": NONE, "a,b": NONE, "[???]": NONE, "'[": NONE,
}  # fmt: skip


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are typed. No command trains in it."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    monkeypatch.setattr("dlintro.run.train.train", lambda *arguments: None)
    monkeypatch.setattr("dlintro.sweep.launch.launch", lambda *arguments: [])
    return tmp_path


def refused(words: list[str], said: str) -> None:
    assert said.startswith("dlintro: ") and said.count("\n") == 1 and "Traceback" not in said, (words, said)


@pytest.mark.parametrize("first", FLAGS)
def test_a_flag_alone_or_beside_another_works_or_is_refused_in_one_line(
    first: str, empty: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    for second in ["", *FLAGS[FLAGS.index(first) :: 3]]:  # a third of the pairs, and another third for each first flag
        words = [*first.split(" "), *second.split()]
        monkeypatch.setattr(sys, "argv", ["dlintro-train"])
        status = entry.main(words)
        said = capfd.readouterr().err
        assert status in (0, 2), words
        if status == 2:
            refused(words, said)
        else:
            assert said == "", (words, said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--resolve", "--resolve: this flag belongs to --cfg; type --cfg job --resolve"),
        ("--shell-completion", "there is no such flag"),
        ("--lr", "--lr: settings have no dashes; type optim.lr=VALUE"),
        ("--batch-size=3", "type data.batch_size=VALUE"),
        ("--resume", "type resume=VALUE"),
        ("--epochs", "type trainer.max_epochs=VALUE"),
        ("--config-dir", "there is no such folder; type --config-dir DIR"),
        ("--config-dir mine --config-dir mine", "given twice"),
        ("--cfg foo", "job, hydra, all"),
        ("hydra.mode=FOO", "use hydra.mode=RUN or MULTIRUN"),
        ("hydra/launcher=foo", "use hydra/launcher=process or basic"),
        ("-m seed=0,1 hydra.run.dir=x", "type sweep.name=NAME"),
        ("hydra.sweep.dir=x", "type hydra.run.dir=DIR"),
        ("trainer.max_time=???", "trainer.max_time=??? is not allowed: use DAYS:HH:MM:SS"),
        ("data.batch_size=${x}", "use a whole number from 1 to 1,000,000"),
        ("optim.betas=[???,0.9]", "optim.betas[0]=??? is not allowed: use a list of 2 numbers"),
        ("model=flatnet model.hidden={a:1}", "use a list of whole numbers from 1 to 65,536"),
        ("trainer={}", "unknown key trainer"),
        ("-m model=1,2", "model=1: there is no such option; the options are file, flatnet"),
        ("model=resnet18", "for one of torchvision's networks, type model=torchvision model.name=resnet18"),
        ("data=image_folder data.path=/x/a=b", "\"data.path='/x/a=b'\""),
        ("model=file model.path=a,b.py", "\"model.path='a,b.py'\""),
        ("hydra.run.dir=a=b", "\"hydra.run.dir='a=b'\""),
        ("data=image_folder data.path=a$b=c", "'data.path='\"'\"'a$b=c'\"'\"''"),
    ],
)
def test_the_line_says_what_to_type(words: str, said: str, empty: Path, capfd: Captured) -> None:
    assert entry.main(words.split()) == 2
    line = capfd.readouterr().err
    refused(words.split(), line)
    assert said in line
    assert not list(empty.rglob("*.yaml")) and not (empty / "x").exists()


def test_a_name_in_the_two_pairs_of_quotes_is_taken(empty: Path, capfd: Captured) -> None:
    (empty / "a=b,c.py").write_text("def make_model(image_shape, num_classes): ...\n")
    assert entry.main(["model=file", "model.path='a=b,c.py'"]) == 0, capfd.readouterr().err


@pytest.mark.parametrize("name", [name for name in (*TABLE, *GROUPS) if name not in ("resume", "rerun")])
def test_an_odd_value_is_refused_in_one_line_that_names_the_key(
    name: str, empty: Path, capfd: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key is tried with a fifth of the values, and each value with a fifth of the keys."""
    key = TABLE.get(name)
    first = [*TABLE, *GROUPS].index(name) % 5
    for word, value in itertools.islice(ODD.items(), first, None, 5):
        words = [*([option_of(key)] if key and key.only else []), f"{name}={word}"]
        monkeypatch.setattr(sys, "argv", ["dlintro-train"])
        status = entry.main(words)
        said = capfd.readouterr().err
        not_alone = name in ("data.name", "accelerator.name") or (name, word) == ("trainer.max_epochs", "null")
        if key and value is not NONE and key.accepts(value) and not not_alone:
            assert status == 0, said
            continue
        assert status == 2, words
        refused(words, said)
        assert f"dlintro: {name}" in said, said
        if name in GROUPS and word in ("???", "''"):
            assert all(option in said for option in options(name)), said


SYS = pytest.param(
    "/sys/x", marks=pytest.mark.skipif(not os.path.ismount("/sys"), reason="/sys is a plain folder here")
)


@pytest.mark.parametrize(
    "folder", ["/proc/x", "/dev/null/x", SYS, "file/x", "x" * 300, "é" * 200, "a\0b", "a\udcffb", "???", "{}", ""]
)
def test_a_folder_that_cant_be_made_is_one_line_and_leaves_nothing(folder: str, empty: Path, capfd: Captured) -> None:
    (empty / "file").touch()
    assert entry.main([f"hydra.run.dir={folder}" if folder in ("???", "{}") else f"hydra.run.dir='{folder}'"]) == 2
    said = capfd.readouterr().err
    refused([folder], said)
    assert "hydra.run.dir=" in said
    assert sorted(path.name for path in empty.rglob("*")) == ["file", "mine"]


@pytest.mark.parametrize("word", ["data.path", "resume", "rerun", "model.path", "model.weights"])
def test_a_name_that_no_file_can_have_is_one_line(word: str, empty: Path, capfd: Captured) -> None:
    for name in ("x" * 300, "a\udcffb"):
        assert entry.main([f"{word}='{name}'"]) == 2
        said = capfd.readouterr().err
        refused([word], said)
        assert f"dlintro: {word}=" in said
