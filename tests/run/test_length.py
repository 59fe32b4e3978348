"""Tests how long a run trains, and the line that says which of several limits ended it."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dlintro.commands import train as entry
from dlintro.errors import UsageError
from tests.conftest import SMALL, composed
from tests.run_folder import record

WORDS = (*SMALL, "model=flatnet")
Run = Callable[..., Path]


def last_rate(folder: Path) -> float:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["train/lr"]) for row in csv.DictReader(file) if row["train/lr"]][-1]


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("words", "steps", "key", "said"),
    [
        (("trainer.max_steps=17",), 17, "max_steps", ""),
        (("experiment=mlp_mnist", "trainer.max_steps=17"), 17, "max_steps", ""),
        (("trainer.max_steps=5", "trainer.accumulate_grad_batches=3"), 5, "max_steps", ""),
        (
            ("trainer.max_steps=17", "trainer.max_epochs=2"),
            *(
                14,
                "max_epochs",
                "trainer.max_epochs=2 ended the training after 14 steps, before trainer.max_steps",
            ),
        ),
        (
            ("trainer.max_steps=5", "trainer.max_epochs=2", "trainer.max_time=00:01:00:00"),
            *(5, "max_steps", "trainer.max_steps=5 ended the training after 5 steps, before trainer.max_epochs=2 and "),
        ),
        (
            ("trainer.max_time=00:01:00:00",),
            *(14, "max_epochs", "trainer.max_epochs=2 ended the training after 14 steps, before trainer.max_time=00"),
        ),
    ],
    ids=str,
)
def test_the_key_that_was_typed_ends_the_training(
    run: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], steps: int, key: str, said: str
) -> None:
    folder = run(*WORDS, *[word for word in words if word not in WORDS])
    found = record(folder)
    assert (found["steps"], found["ended_by"]) == (steps, key)
    out = capsys.readouterr().out
    assert said in out and ("ended the training" in out) == bool(said)
    assert last_rate(folder) < 1e-6, "the schedule ends with the training"


@pytest.mark.usefixtures("no_pictures")
def test_what_stopped_a_run_early_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    still = ("optim.lr=1e-30", "optim.schedule=none", "trainer.max_epochs=9", "trainer.early_stopping=1")
    folder = run(*WORDS, *still)
    assert record(folder)["ended_by"] == "early_stopping" and record(folder)["epochs"] == 2
    assert "trainer.early_stopping=1 ended the training after 14 steps, before trainer.max" in capsys.readouterr().out
    folder = run(*WORDS, "trainer.max_epochs=100000", "trainer.max_time=00:00:00:01", "optim.schedule=none")
    assert record(folder)["ended_by"] == "max_time"
    assert "trainer.max_time=00:00:00:01 ended the training after " in capsys.readouterr().out


def test_steps_replace_only_epochs_that_nobody_typed() -> None:
    assert composed(*WORDS, "trainer.max_steps=17").trainer.max_epochs is None
    assert composed("experiment=mnist_99", "trainer.max_steps=17").trainer.max_epochs is None
    assert composed(*WORDS, "trainer.max_steps=17", "trainer.max_epochs=2").trainer.max_epochs == 2
    assert composed(*WORDS, "trainer.max_steps=null").trainer.max_epochs == 2
    assert composed("sweep=batch_size", "sweep.budget=steps", "trainer.max_steps=17").trainer.max_epochs == 2
    assert composed("sweep=learning_rate", "trainer.max_steps=17").trainer.max_epochs is None
    for words in (("sweep=batch_size",), ("sweep.budget=epochs",)):
        with pytest.raises(UsageError, match=r"^trainer.max_steps=17: [^\n]* type sweep.budget=steps [^\n]*$"):
            composed(*words, "trainer.max_steps=17")
    with pytest.raises(UsageError, match=r"^trainer.max_epochs=null needs trainer.max_steps: [^\n]*$"):
        composed("trainer.max_epochs=null")


@pytest.mark.usefixtures("no_pictures")
def test_a_run_of_typed_steps_resumes_and_repeats_and_one_of_an_earlier_version_stays_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def type_(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dlintro-train", *words])
        assert entry.main(list(words)) == 0
        return capfd.readouterr().out

    monkeypatch.chdir(tmp_path)
    type_(*WORDS, "trainer.max_steps=17", "hydra.run.dir=new")
    type_("rerun=new", "hydra.run.dir=again")
    made, again = record(tmp_path / "new"), record(tmp_path / "again")
    assert made["config_hash"] == again["config_hash"] and made["test/loss"] == again["test/loss"]
    stopped = tmp_path / "new" / "record.json"
    stopped.write_text(json.dumps(made | {"status": "interrupted"}))
    type_("resume=new")
    assert record(tmp_path / "new")["steps"] == 17 and record(tmp_path / "new")["config_hash"] == made["config_hash"]

    type_(*WORDS, "trainer.max_steps=17", "trainer.max_epochs=2", "hydra.run.dir=old")
    typed = tmp_path / "old" / ".hydra" / "overrides.yaml"  # as 0.1.0 wrote it without max_epochs
    typed.write_text(typed.read_text().replace("- trainer.max_epochs=2\n", ""))
    assert "trainer.max_epochs=2 ended the training after 14 steps" in type_("rerun=old", "hydra.run.dir=repeat")
    assert record(tmp_path / "repeat")["config_hash"] == record(tmp_path / "old")["config_hash"]
