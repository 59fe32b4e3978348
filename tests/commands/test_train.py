"""The command as a user types it. A mistake gives one line, exit status 2, and leaves nothing behind."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser

from dlintro.commands import train as entry
from dlintro.errors import UsageError
from tests.conftest import SMALL, composed

Command = Callable[..., subprocess.CompletedProcess[str]]

WRONG = {
    "data.batch_sze=3": "did you mean data.batch_size?",
    "+data.batch_sze=3": "did you mean data.batch_size?",
    "data.batch_size=0": "use a whole number from 1 to 1,000,000",
    "data.batch_size=": "data.batch_size",
    "optim.lr=-1": "use a number above 0, up to 100",
    "optim.lr=nan": "use a number above 0, up to 100",
    "trainer.max_epochs=abc": "trainer.max_epochs=abc",
    "callbacks=null": "one of default, pipeline",
    "experiment=": "leave it out",
    "model=vgg61": "did you mean vgg16? The options are file, flatnet, mnist_cnn",
    "modle=flatnet": "did you mean model?",
    "model.hidden=[3]": "belongs to model=flatnet",
    "optim.lr=0,003": "type a decimal point, optim.lr=0.003",
    "seed=range(3)": "scripts/train -m",
    "model=1,2": "scripts/train -m",
    "data.augment=flip": "typed 'data.augment=[...,...]'",
    "512]": "lists in quotes",
    "+model.hidden=[3]": "belongs to model=flatnet",
    "accelerator=gpu": "accelerator=cuda",
    "accelerator=mps": "accelerator=cpu",
    "nonsense": "KEY=VALUE",
    "model._target_=os.system": "_target_",
    "+x._target_=dlintro.run.train.Path.unlink": "_target_",
    "hydra.callbacks.x=1": "hydra.run.dir",
    "resume=nowhere": "no such file or folder",
    "seed=0,1": "scripts/train -m",
    "data.val_size=70000": "60000 images",
    "data.augment=[flop]": "erase or resized_crop",
    "model.widths=[1,": "model.widths",
    "data=image_folder": "data.path=DIR",
    "data.path=~/images": "~ isn't expanded here; type data.path=/",
    "model.weights=ImageNet": "did you mean model.weights=imagenet?",
    "model=file": "model.path=FILE",
    "trainer.max_steps=1e9": "whole number",
    "trainer.max_time=00:00:00:00": "00:01:30:00",
    "seed=" + "9" * 400: "4,294,967,295",
    "~seed": "KEY=VALUE",
    "data.name=cifar10": "type data=cifar10",
    "model={path: evil.py}": "chooses an option",
    "--bogus": "there is no such flag",
    "--experimental-reru=x": "there is no such flag",
    "--config-pat=x": "there is no such flag",
    "-cn": "there is no such flag",
    "optim.nesterov=true": "optim.name=sgd",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_word_is_answered_in_one_line(
    override: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr(sys, "argv", ["dlintro-train", override])
    assert entry.main([override]) == 2
    said = capfd.readouterr()
    assert said.err.startswith("dlintro: ") and said.err.count("\n") == 1, said.err
    assert WRONG[override] in said.err
    assert "Traceback" not in said.err + said.out
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not list((tmp_path / "outputs" / "runs").glob("*"))


def test_two_things_to_do_at_once_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["-m", "seed=0,1", "--cfg", "job"]) == 2
    assert "--multirun and --cfg: use one of them" in capfd.readouterr().err


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hydra.run.dir=old"], "old: not empty"),
        (["hydra.run.dir=old", "resume=null"], "old: not empty"),
        (["hydra.run.dir=old", "resume="], "old: not empty"),
        (["seed=7", "hydra.run.dir='${hydra.job.name}'"], "type the folder's whole name"),
        (["-m", "seed=0,1", "hydra/launcher=basic", "hydra.sweep.dir=old"], "old: not empty"),
    ],
)
def test_a_run_that_is_there_is_not_written_over(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    assert entry.main([*SMALL, "model=flatnet", "trainer.max_epochs=1", "hydra.run.dir=old"]) == 0
    before = content_of(tmp_path)
    capfd.readouterr()
    assert entry.main([*SMALL, "model=flatnet", *words]) == 2
    errors = capfd.readouterr().err
    assert said in errors and errors.count("\n") == 1, errors
    assert content_of(tmp_path) == before


def test_a_folder_with_a_record_is_never_trained_in_anew(run: Callable[..., Path], tmp_path: Path) -> None:
    """This holds however a command names the folder."""
    words = (*SMALL, "model=flatnet", "trainer.max_epochs=1")
    before = content_of(run(*words, folder=tmp_path / "old"))
    with pytest.raises(UsageError, match="holds a run already"):
        run(*words, folder=tmp_path / "old")
    assert content_of(tmp_path / "old") == before


def test_a_repeat_with_an_empty_resume_is_a_repeat(command: Command, tmp_path: Path) -> None:
    assert command(*SMALL, "model=flatnet", "trainer.max_epochs=1", "hydra.run.dir=old").returncode == 0
    done = command("rerun=old", "resume=null", "hydra.run.dir=new")
    assert done.returncode == 0, done.stderr
    records = [json.loads((tmp_path / name / "record.json").read_text()) for name in ("old", "new")]
    assert (
        records[0]["model"] == records[1]["model"] == "flatnet" and records[0]["test/loss"] == records[1]["test/loss"]
    )


def test_impossible_settings_stop_before_a_pixel_is_read_and_leave_no_folder(command: Command, tmp_path: Path) -> None:
    done = command("model=vgg16", "data=mnist", "data.image_size=8", DLINTRO_DATA="/nonexistent")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "28x28" in done.stderr
    assert not list((tmp_path / "outputs" / "runs").glob("*"))


def test_a_run_ends_with_its_folder_and_leaves_the_contracts_files(command: Command, tmp_path: Path) -> None:
    done = command(*SMALL, "model=flatnet", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    last = done.stdout.rstrip().splitlines()[-1]
    folder = tmp_path / last.removeprefix("run: ")
    for name in (
        "record.json",
        "metrics.csv",
        "train.log",
        ".lock",
        ".hydra/config.yaml",
        "checkpoints/last.ckpt",
        "checkpoints/best.ckpt",
    ):
        assert (folder / name).exists(), name
    assert list(folder.glob("events*")) and not (folder / "by_images").exists()
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "ok" and record["command"].startswith("scripts/train data=synthetic")
    assert record["steps"] == 14 and record["train_images"] == 200


def test_a_diverged_run_says_the_step_and_ends_with_1(command: Command, tmp_path: Path) -> None:
    done = command(*SMALL, "model=flatnet", "model.hidden=[64,64]", "optim.name=sgd", "optim.lr=100",
                   "optim.schedule=none", "optim.loss=mse", "trainer.max_epochs=20",
                   "trainer.log_every_n_steps=1")  # fmt: skip
    assert done.returncode == 1
    assert "not finite at step" in done.stderr
    record = json.loads(next((tmp_path / "outputs" / "runs").glob("*/record.json")).read_text())
    assert record["status"] == "diverged"
    assert f"step {record['diverged_step']}" in done.stderr


def test_our_own_error_has_its_traceback_in_the_log_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        assert not self.training, 'my own mistake'\n"
        "        return super().forward(x.flatten(1))\n"
        "def make_model(shape, k):\n"
        "    return Net(shape[0] * shape[1] * shape[2], k)\n"
    )
    done = command(*SMALL, "model=file", "model.path=net.py")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "my own mistake" in done.stderr and done.stderr.count("\n") == 1
    assert "Traceback" in next((tmp_path / "outputs" / "runs").glob("*/train.log")).read_text()


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_with_a_checkpoint_and_resume_goes_on(
    command: Command, tmp_path: Path, signum: int, status: int
) -> None:
    words = (*SMALL, "model=flatnet", "trainer.max_epochs=100000", "optim.schedule=none")
    process = subprocess.Popen(
        [sys.executable, "-m", "dlintro.commands.train", *words],
        cwd=tmp_path,
        env=os.environ | {"DLINTRO_OUTPUTS": "outputs"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signum)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == status
    folder = rest.rstrip().splitlines()[-1].removeprefix("run: ")
    assert re.search(rf"^continue: \S*scripts/train resume={folder}$", rest, re.MULTILINE)
    record = json.loads((tmp_path / folder / "record.json").read_text())
    assert record["status"] == "interrupted" and record["steps"] > 0

    done = command(f"resume={folder}", "optim.lr=0.5")
    assert done.returncode == 2 and "optim.lr: 0.003 -> 0.5" in done.stderr
    done = command(f"resume={folder}", f"trainer.max_epochs={record['epochs'] + 2}")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / folder / "record.json").read_text())
    assert after["status"] == "ok" and after["steps"] == 7 * (record["epochs"] + 2)
    assert (tmp_path / folder / ".hydra-resume-1").is_dir()
    assert command(f"resume={folder}").returncode == 2


@pytest.mark.parametrize(
    "stored",
    [
        "model={path: evil.py}",
        "experiment=../theirs/x",
        "hydra.run.dir=/tmp/elsewhere",
        "hydra.callbacks.x=1",
        "~seed",
        "x",
    ],
)
@pytest.mark.parametrize("word", ["rerun", "resume"])
def test_a_received_run_folder_can_bring_no_code_and_no_place_to_write(
    word: str, stored: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('acted', 'w')")
    (tmp_path / "theirs" / ".hydra").mkdir(parents=True)
    (tmp_path / "theirs" / "record.json").write_text('{"status": "interrupted"}')
    (tmp_path / "theirs" / ".hydra" / "hydra.yaml").write_text(f"hydra: {{runtime: {{cwd: {tmp_path}}}}}")
    words = ["model=file", stored]
    (tmp_path / "theirs" / ".hydra" / "overrides.yaml").write_text(json.dumps(words))
    before = sorted(tmp_path.rglob("*"))
    assert entry.main([f"{word}=theirs"]) in (1, 2)
    assert capfd.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_code_named_in_a_run_folders_config_is_not_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make_model(shape, k):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, k))\n"
    )
    done = command(*SMALL, "model=file", "model.path=net.py", "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "runs").glob("*")
    done = command(f"rerun={folder}")
    assert done.returncode == 2 and "model.path=FILE" in done.stderr


def test_a_run_that_stops_between_two_readings_is_still_found_diverged(command: Command) -> None:
    done = command(*SMALL, "model=flatnet", "model.hidden=[64,64]", "optim.name=sgd", "optim.lr=100",
                   "optim.schedule=none", "optim.loss=mse", "trainer.max_steps=6", "data.train_size=null")  # fmt: skip
    assert done.returncode == 1 and "not finite" in done.stderr


@pytest.mark.parametrize(("subdir", "left"), [(".hydra", True), (".hydra-resume-1", False)])
def test_a_refusal_takes_nothing_from_a_run_that_began(tmp_path: Path, subdir: str, left: bool) -> None:
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / subdir).mkdir()
    entry.remove_traces(tmp_path, subdir)
    assert (tmp_path / "record.json").is_file() and (tmp_path / subdir).is_dir() == left


def test_rerun_makes_a_new_folder_with_the_same_weights(command: Command, tmp_path: Path) -> None:
    import torch

    assert command(*SMALL, "model=flatnet", "seed=3").returncode == 0
    (first,) = (tmp_path / "outputs" / "runs").glob("*")
    time.sleep(1.1)
    assert command(f"rerun={first}").returncode == 0
    (second,) = set((tmp_path / "outputs" / "runs").glob("*")) - {first}
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (first, second)
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_folder_with_a_run_in_it_is_never_written_over(command: Command, tmp_path: Path) -> None:
    words = (*SMALL, "model=flatnet", "hydra.run.dir=mine")
    assert command(*words).returncode == 0
    before = (tmp_path / "mine" / "record.json").read_bytes()
    done = command(*words)
    assert done.returncode == 2 and "resume=RUN" in done.stderr
    assert (tmp_path / "mine" / "record.json").read_bytes() == before


def test_a_mistake_is_answered_without_waiting_for_torch(command: Command) -> None:
    start = time.monotonic()
    done = command("optim.lr=-1")
    assert done.returncode == 2
    assert time.monotonic() - start < 5  # under 1 s on a quiet machine; importing torch and lightning takes 6


def test_the_garbage_collector_is_on_while_it_trains_and_leaves_the_imports_alone(
    command: Command, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "import gc\nfrom torch import nn\n\ndef make_model(shape, k):\n"
        "    print('collector', gc.isenabled(), gc.get_freeze_count())\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, k))\n"
    )
    done = command(*SMALL, "model=file", "model.path=net.py", "trainer.max_steps=1")
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("collector")]
    enabled, num_frozen = said.split()[1:]
    assert enabled == "True" and int(num_frozen) > 100_000


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data=folder", "did you mean image_folder?"),
        ("model=torchvision_net", "did you mean torchvision?"),
        ("callbacks=progress", "there is no such option"),
        ("optim.lr={}", "optim.lr={} is not allowed"),
        ("seed={}", "seed={} is not allowed"),
        ("data.batch_size={}", "data.batch_size={} is not allowed"),
    ],
)
def test_a_helpers_name_or_an_empty_mapping_is_a_slip_like_any_other(
    word: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr("sys.argv", ["dlintro-train"])
    assert entry.main([word]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1, error


@pytest.fixture
def checked_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the argparse of older Pythons check each help text when it is added, as Python 3.14 does."""
    parser = argparse.ArgumentParser
    if hasattr(parser, "_check_help"):
        return
    add = parser.add_argument

    def check(self: argparse.ArgumentParser, action: argparse.Action) -> None:
        try:
            "%" in action.help and self._get_formatter()._expand_help(action)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("badly formed help string") from error

    def add_checked(self: argparse.ArgumentParser, *names: str, **options: Any) -> argparse.Action:
        action = add(self, *names, **options)
        if action.help:
            self._check_help(action)
        return action

    monkeypatch.setattr(parser, "_check_help", check, raising=False)
    monkeypatch.setattr(parser, "add_argument", add_checked)


@pytest.mark.usefixtures("checked_help")
def test_hydras_parser_cant_be_built_with_the_check() -> None:
    """When this fails, `unchecked_help` is no longer needed: remove it, and call hydra.main."""
    with pytest.raises(ValueError, match="badly formed help string"):
        get_args_parser()


@pytest.mark.usefixtures("checked_help")
def test_help_texts_go_unchecked_for_hydras_parser_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A user's own file with a badly formed help text gets the same error as in any other program."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.setattr("sys.argv", ["dlintro-train"])
    net = (
        "from torch import nn\n\ndef make_model(shape, k):\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, k))\n"
    )
    parser = "import argparse\nargparse.ArgumentParser().add_argument('--x', help='%(nothing)s')\n"
    words = [*SMALL, "model=file", "model.path=net.py", "trainer.max_steps=1"]
    (tmp_path / "net.py").write_text(net)
    assert entry.main(words) == 0
    (tmp_path / "net.py").write_text(parser + net)
    assert entry.main(words) != 0
    assert "badly formed help string" in capfd.readouterr().err


@pytest.mark.parametrize("content", ["- a list", "5", "a: [", "text", "", "a: ${b}", "a: &a [*a]"])
def test_a_damaged_configuration_is_no_run_to_go_on_with(content: str, tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(content)
    (tmp_path / "record.json").write_text('{"status": "interrupted"}')
    with pytest.raises(UsageError, match=r"config\.yaml is missing or damaged.*rerun="):
        entry.check_same_run(composed(), tmp_path)
