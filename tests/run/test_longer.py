"""resume=RUN trainer.max_epochs=N: a run without a schedule trains longer, as if it had been asked for N at once."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlintro.commands import train as entry
from dlintro.commands.replay import refuse_finished, stored_overrides
from dlintro.errors import UsageError
from dlintro.run.record import settings_file
from dlintro.sweep.runs import read_run
from tests.conftest import SMALL
from tests.run.test_resume import curve, weights
from tests.run_folder import record

WORDS = (*SMALL, "model=mnist_cnn", "model.widths=[4,8,16]", "model.dropout=0.2", "optim.schedule=none")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make runs of two and of four epochs, as a user does."""
    folder = tmp_path_factory.mktemp("longer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["dlintro-train"])
        patch.setattr("dlintro.run.train.draw", lambda *arguments: None)
        for epochs in (2, 4):
            assert entry.main([*WORDS, f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}/{epochs}"]) == 0
        ended = (*WORDS, "trainer.max_epochs=50", "trainer.early_stopping=1", "optim.lr=1e-9")
        assert entry.main([*ended, f"hydra.run.dir={folder}/early"]) == 0
        assert entry.main([*WORDS[:-1], "trainer.max_epochs=2", f"hydra.run.dir={folder}/cycle"]) == 0
    return folder


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.argv", ["dlintro-train"])
    monkeypatch.setattr("dlintro.run.train.draw", lambda *arguments: None)
    return Path(shutil.copytree(made, tmp_path / "runs"))


def refused(capfd: Captured, *words: str) -> str:
    capfd.readouterr()
    assert entry.main(list(words)) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("dlintro: ")]
    return line


def test_a_finished_run_that_trains_longer_equals_one_that_was_asked_for_it_at_once(runs: Path) -> None:
    short, long = runs / "2", runs / "4"
    assert entry.main([f"resume={short}", "trainer.max_epochs=4"]) == 0
    old, new = weights(long), weights(short)
    assert [key for key in old if not torch.equal(old[key], new[key])] == []
    assert curve(short) == curve(long)
    for key in ("status", "epochs", "steps", "val/acc", "test/acc", "best/epoch", "best/test/loss", "config_hash"):
        assert record(short)[key] == record(long)[key], key
    told = EventAccumulator(str(short)).Reload().Scalars("whole_run/best/test/acc")
    assert [event.step for event in told] == [28], "the test after two epochs is gone"


def test_what_reads_the_run_afterwards_knows_its_new_length(runs: Path, capfd: Captured) -> None:
    short = runs / "2"
    assert entry.main([f"resume={short}", "trainer.max_epochs=3"]) == 0
    assert read_run(short, "short", {}).leaves["trainer.max_epochs"] == 3
    assert "trainer.max_epochs=3" in stored_overrides(short) and "trainer.max_epochs=2" not in stored_overrides(short)
    assert "has finished" in refused(capfd, f"resume={short}")
    assert entry.main([f"resume={short}", "trainer.max_epochs=4"]) == 0
    old, new = weights(runs / "4"), weights(short)
    assert [key for key in old if not torch.equal(old[key], new[key])] == []


def test_the_last_of_many_resumptions_counts(tmp_path: Path) -> None:
    for name in (".hydra", ".hydra-resume-2", ".hydra-resume-10", ".hydra-resume-11"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    assert settings_file(tmp_path).parent.name == ".hydra-resume-11"
    assert settings_file(tmp_path, but=".hydra-resume-11").parent.name == ".hydra-resume-10"
    assert settings_file(tmp_path, "overrides.yaml") == tmp_path / ".hydra" / "overrides.yaml"


def test_what_cant_train_longer_is_refused_in_one_line_and_stays_as_it_was(runs: Path, capfd: Captured) -> None:
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file() and path.name != "train.log"}
    said = refused(capfd, f"resume={runs}/cycle", "trainer.max_epochs=4")
    assert "optim.schedule=onecycle was planned for the old length" in said and "model.weights=cycle" in said
    assert "trainer.max_epochs=N, added to resume=RUN, trains it longer" in refused(capfd, f"resume={runs}/4")
    said = refused(capfd, f"resume={runs}/cycle")
    assert "optim.schedule=onecycle was planned for its length; model.weights=cycle" in said
    assert "above 4" in refused(capfd, f"resume={runs}/4", "trainer.max_epochs=3")
    assert "by trainer.early_stopping" in refused(capfd, f"resume={runs}/early", "trainer.max_epochs=60")
    assert "optim.lr" in refused(capfd, f"resume={runs}/2", "trainer.max_epochs=4", "optim.lr=0.5")
    after = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file() and path.name != "train.log"}
    assert after == before


def test_a_run_that_a_callback_ended_is_not_said_to_have_a_key_of_that_name() -> None:
    with pytest.raises(UsageError, match="that run has finished by a callback, which more epochs don't change"):
        refuse_finished(Path("mine"), {"epochs": 3, "ended_by": "callback"}, longer=True)


def test_a_run_without_its_last_checkpoint_says_so(runs: Path, capfd: Captured) -> None:
    """A job of a sweep keeps its best weights alone."""
    (runs / "2" / "checkpoints" / "last.ckpt").unlink()
    said = refused(capfd, f"resume={runs}/2", "trainer.max_epochs=4")
    assert "no checkpoint to go on from" in said and "model.weights=" in said


def test_the_weights_of_a_run_start_another_one_with_its_own_pixels(runs: Path) -> None:
    """The mean of its own images would be another one."""
    path = runs / "4" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    best = content["state_dict"]
    best["pixels.mean_C11"].fill_(0.375)
    torch.save(content, path)
    words = [*WORDS, "trainer.max_steps=1", "optim.lr=1e-9", f"model.weights={runs}/4", f"hydra.run.dir={runs}/new"]
    assert entry.main(words) == 0
    for key, value in weights(runs / "new").items():
        torch.testing.assert_close(value, best[key], rtol=0, atol=1e-6)
    assert "of the weights" in record(runs / "new")["statistics"] and record(runs / "new")["weights_fingerprint"]


def test_a_resumed_run_needs_no_file_of_weights_any_more(runs: Path, tmp_path: Path) -> None:
    start, words = tmp_path / "start.ckpt", (*WORDS, f"model.weights={tmp_path}/start.ckpt")
    shutil.copy(runs / "2" / "checkpoints" / "best.ckpt", start)
    for epochs in (1, 2):
        assert entry.main([*words, f"trainer.max_epochs={epochs}", f"hydra.run.dir={runs}/new{epochs}"]) == 0
    start.unlink()
    assert entry.main([f"resume={runs}/new1", "trainer.max_epochs=2"]) == 0
    old, new = weights(runs / "new2"), weights(runs / "new1")
    assert [key for key in old if not torch.equal(old[key], new[key])] == []
    for key in ("status", "statistics", "weights_fingerprint", "config_hash", "best/test/loss"):
        assert record(runs / "new1")[key] == record(runs / "new2")[key], key


def test_a_resume_notices_another_file_of_weights(
    runs: Path, tmp_path: Path, capfd: Captured, run: Callable[..., Path]
) -> None:
    file = tmp_path / "start.ckpt"
    shutil.copy(runs / "2" / "checkpoints" / "best.ckpt", file)
    words = [*WORDS, "trainer.max_epochs=1", f"model.weights={file}", f"hydra.run.dir={runs}/new"]
    assert entry.main(words) == 0
    shutil.copy(runs / "4" / "checkpoints" / "best.ckpt", file)
    said = refused(capfd, f"resume={runs}/new", "trainer.max_epochs=2")
    assert "model.weights is not the file that the run started from" in said
    moved = f"model.weights={runs}/2/checkpoints/best.ckpt"  # the same bytes elsewhere
    assert entry.main([f"resume={runs}/new", "trainer.max_epochs=2", moved]) == 0
