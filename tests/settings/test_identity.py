"""Which settings make two runs the same, and whether the rows of the keys agree."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dlintro.settings import keys
from dlintro.settings.identity import changes, config_hash
from dlintro.sweep.plan import job_hash, make_jobs, same_sweep, sweep_name
from tests.conftest import composed


def without(config: dict[str, Any], group: str, name: str) -> dict[str, Any]:
    return config | {group: {key: value for key, value in config[group].items() if key != name}}


@pytest.mark.parametrize("model", ["mnist_cnn", "flatnet", "vgg16"])
def test_a_key_at_its_default_enters_no_hash_and_no_comparison(model: str) -> None:
    new = composed(f"model={model}").plain()
    names = [("trainer", "eval_images"), ("optim", "ema"), ("optim", "lr"), ("data", "train_size"), ("sweep", "budget")]
    names += [("model", name) for name in new["model"] if name != "_target_"]  # these are at the defaults of this model
    for group, name in names:
        old = without(new, group, name)  # as it was written before the key existed
        assert config_hash(old) == config_hash(new)
        assert job_hash(old, ["seed=0"], []) == job_hash(new, ["seed=0"], [])
        assert changes(old, new) == changes(new, old) == {}
    assert changes(without(new, "optim", "ema"), composed(f"model={model}", "optim.ema=0.9").plain()) == {
        "optim.ema": (0.0, 0.9)
    }


@pytest.mark.parametrize(
    "word",
    ["seed=1", "optim.lr=0.0029", "optim.betas=[0.9,0.99]", "data=cifar10", "model.widths=[16,32]", "compile=true",
     "sweep.budget=steps", "trainer.max_epochs=3", "model=flatnet", "accelerator=cpu", "optim.lr=0.003",
     "model.dropout=0.5", "data=fashion_mnist", "data=synthetic"],
)  # fmt: skip
def test_another_value_is_another_run_and_another_job(word: str) -> None:
    old, new = composed().plain(), composed(word).plain()
    assert config_hash(old) != config_hash(new)
    assert job_hash(old, [], []) != job_hash(new, [], [])
    assert changes(old, new)


@pytest.mark.parametrize("word", ["threads=1", "data.num_workers=2", "callbacks=pipeline", "checkpoint.every_steps=5"])
def test_how_it_is_run_is_no_part_of_what_it_is(word: str) -> None:
    old, new = composed().plain(), composed(word).plain()
    assert config_hash(old) == config_hash(new) and changes(old, new) == {}
    assert same_sweep(["seed=0,1"], ["seed=0,1", word])
    assert sweep_name("seed", ["seed=0,1"]) == sweep_name("seed", ["seed=0,1", word])


def test_a_users_file_is_another_job_but_may_move_between_two_sittings_of_a_run() -> None:
    old, new = (composed("data=image_folder", f"data.path={path}").plain() for path in ("here", "there"))
    assert config_hash(old) == config_hash(new) and changes(old, new) == {}
    assert job_hash(old, [], []) != job_hash(new, [], [])


def test_jobs_differ_in_their_hashes_where_a_default_is_among_the_values() -> None:
    words = [[f"optim.lr={lr}"] for lr in (0.001, 0.003, 0.005)]
    jobs = make_jobs([(overrides, composed("model=flatnet", *overrides)) for overrides in words])
    assert len({job.hash for job in jobs}) == 3


def test_the_rows_say_what_the_tables_of_before_said() -> None:
    """The sets are those that stood in eight places at commit 063d9bb, and the keys that were added since."""
    how_run = {
        "resume", "rerun", "threads", "data.num_workers", "data.in_ram", "data.on_device", "trainer.log_every_n_steps",
        "checkpoint.every_steps", "checkpoint.every_minutes", "target.metric", "target.value", "callbacks",
        "sweep.name", "sweep.retry", "sweep.n_jobs",
    }  # fmt: skip
    assert set(keys.HOW_RUN) == how_run
    assert set(keys.NOT_HASHED) == how_run | {"data.path", "data.labels", "model.path", "model.weights"}
    assert (set(keys.FILES), keys.CODE) == ({"data.path", "data.labels", "model.weights"}, ("model.path",))
    assert set(keys.MAY_CHANGE_IN_SWEEP) == {
        "sweep.retry", "sweep.n_jobs", "threads", "data.num_workers", "data.in_ram", "data.on_device", "callbacks",
        "model.path",
    }  # fmt: skip
    assert keys.MAY_CHANGE_ON_RESUME == ("trainer.max_epochs",)
    assert set(keys.OF_THE_SWEEP) == {"sweep.name", "sweep.retry", "sweep.n_jobs"}
    assert set(keys.TEST_READING) == {"data.batch_size", "data.num_workers", "data.in_ram", "data.on_device"}
    images = {"data.path", "data.labels", "data.image_size", "data.val_size", "data.shape", "data.skip_broken"}
    assert set(keys.TEST_IMAGES) == images


def test_a_row_is_read_off_its_annotation() -> None:
    row = keys.TABLE["data.in_ram"]
    assert (row.kind, row.words, row.null) == ("bool", ("auto",), False)
    row = keys.TABLE["accelerator.index"]
    assert (row.kind, row.words, row.accepts(3), row.accepts("auto"), row.accepts("all")) == (
        "int", ("auto",), True, True, False,
    )  # fmt: skip
    row = keys.TABLE["data.augment"]
    assert (row.kind, row.accepts(["flip"]), row.accepts(["flap"]), row.accepts("flip")) == (
        "choice list", True, False, False,
    )  # fmt: skip
    assert keys.TABLE["sweep.budget"].accepts(None) and not keys.TABLE["optim.loss"].accepts(None)


def test_mypy_finds_a_misspelt_setting(tmp_path: Path) -> None:
    def said(expression: str) -> str:
        walk = f"def walk(settings: Settings) -> object:\n    return {expression}\n"
        (tmp_path / "walk.py").write_text(f"from dlintro.settings.keys import Settings\n\n{walk}")
        words = ["--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "walk.py")]
        done = subprocess.run([sys.executable, "-m", "mypy", *words], capture_output=True, text=True)
        return done.stdout

    assert "Success" in said("settings.trainer.max_epochs")
    assert '"Trainer" has no attribute "max_epoch"' in said("settings.trainer.max_epoch")
    assert '"Settings" has no attribute "optin"' in said("settings.optin.lr")


def test_help_imports_no_torch_and_no_hydra(command: Callable[..., Any]) -> None:
    code = "import sys; from dlintro.commands.train import main; status = main(['--help']); "
    code += "sys.exit(status or sorted({'torch', 'hydra', 'lightning'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "optim.lr=0.003" in done.stdout, done.stderr
