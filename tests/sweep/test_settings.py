from pathlib import Path

import pytest

from dlintro.sweep.runs import read
from dlintro.sweep.settings import Stat, Study, study
from tests.sweep.fake import write_run, write_sweep


def of(*folders: Path) -> Study:
    return study(*read(folders))


def test_jobs_that_differ_in_the_seed_alone_are_one_setting(tmp_path: Path) -> None:
    found = of(
        write_sweep(tmp_path / "s", {"data.batch_size": [32, 8], "optim.lr_rule": ["none", "sqrt"], "seed": [0, 1]})
    )
    assert [setting.label() for setting in found.settings] == [
        "lr rule none, batch size 8",
        "lr rule none, batch size 32",
        "lr rule sqrt, batch size 8",
        "lr rule sqrt, batch size 32",
    ]
    assert all(len(setting.runs) == 2 for setting in found.settings)


def test_what_follows_from_a_named_key_is_not_named(tmp_path: Path) -> None:
    """The steps follow from the budget, the network's widths from the model."""
    budgets = of(write_sweep(tmp_path / "a", {"sweep.budget": [None, "steps"], "data.batch_size": [8, 32]}))
    assert budgets.keys == ["sweep.budget", "data.batch_size"]
    assert {line.budget for line in budgets.lines} == {"epochs", "steps"}
    assert of(write_sweep(tmp_path / "b", {"model": ["flatnet", "mnist_cnn"]})).keys == ["model"]


def test_what_cannot_change_a_result_makes_no_setting(tmp_path: Path) -> None:
    found = of(write_sweep(tmp_path / "s", {"threads": [1, 2], "sweep.n_jobs": [1, 2], "data.num_workers": [0, 1]}))
    assert found.keys == [] and len(found.settings) == 1


def test_another_model_file_is_another_setting(tmp_path: Path) -> None:
    assert of(write_sweep(tmp_path / "s", {"model.path": ["a.py", "b.py"]})).keys == ["model.path"]


def test_jobs_that_never_started_belong_to_the_settings_they_would_have_been(tmp_path: Path) -> None:
    params = {"model": ["flatnet", "mnist_cnn"], "data.batch_size": [8, 32], "seed": [0, 1]}
    found = of(write_sweep(tmp_path / "s", params, changed={1: None, 6: None, 7: None}))
    assert found.keys == ["model", "data.batch_size"]
    assert [setting.count("queued") for setting in found.settings] == [1, 0, 0, 2]


def test_means_are_over_ok_runs_and_one_run_has_no_spread(tmp_path: Path) -> None:
    diverged = {"status": "diverged", "test/acc": 0.1}
    found = of(
        write_sweep(
            tmp_path / "s", {"seed": [0, 1, 2]}, changed={0: {"test/acc": 0.8}, 1: {"test/acc": 0.9}, 2: diverged}
        )
    )
    (setting,) = found.settings
    stat = setting.stat("test/acc")
    assert stat.n == 2 and stat.mean == pytest.approx(0.85) and stat.sd == pytest.approx(0.0707, abs=1e-4)
    assert setting.count("diverged") == 1
    assert (Stat([0.8]).mean, Stat([0.8]).sd, Stat([]).mean) == (0.8, None, None)


def test_a_size_whose_seeds_did_not_all_reach_the_target_is_not_fitted(tmp_path: Path) -> None:
    sizes = [8, 32, 128, 512]
    found = of(
        write_sweep(tmp_path / "s", {"data.batch_size": sizes, "seed": [0, 1]}, changed={7: {"status": "diverged"}})
    )
    assert [setting.batch_size for setting in found.lines[0].to_target] == [8, 32, 128]


def test_each_line_has_its_critical_batch(tmp_path: Path) -> None:
    params = {"data.batch_size": [8, 32, 128, 512, 2048], "optim.lr_rule": ["linear", "sqrt"], "seed": [0, 1, 2]}
    found = of(write_sweep(tmp_path / "s", params, b_crit=900))
    assert [line.critical.b_crit for line in found.lines if line.critical] == [
        pytest.approx(900, rel=0.1),
        pytest.approx(630, rel=0.1),
    ]


def test_a_target_the_runs_were_given_is_kept(tmp_path: Path) -> None:
    params = {"data.batch_size": [8, 32], "target.value": [0.85]}
    found = of(write_sweep(tmp_path / "s", params))
    assert found.target.value == 0.85 and "given" in found.target.origin
    assert "different" in of(write_sweep(tmp_path / "t", {"target.value": [0.85, 0.9]})).target.origin


def test_accumulated_batches_are_one_batch(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"data.batch_size": 32, "trainer.accumulate_grad_batches": 4})
    assert of(tmp_path / "run").runs[0].batch_size == 128
