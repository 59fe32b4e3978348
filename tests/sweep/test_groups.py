from pathlib import Path

import pytest

from dlintro.sweep.groups import Stat, Study, study
from dlintro.sweep.runs import read
from dlintro.sweep.words import lost_text, warnings, why_left_out
from dlintro.version import VERSION
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


def test_batch_sizes_above_the_training_images_are_one_setting(tmp_path: Path) -> None:
    params = {"data.batch_size": [64, 2048, 4096], "seed": [0, 1]}
    few = {job: {"train_images": 2_000} for job in range(6)}
    found = of(write_sweep(tmp_path / "few", params, changed=few))
    assert [setting.label() for setting in found.settings] == ["batch size 64", "batch size 2000"]
    assert [setting.batch_size for setting in found.settings] == [64, 2000]
    assert "The set has 2,000 training images, so batch size 2,048 and 4,096 ran as 2,000." in warnings(found)
    enough = of(write_sweep(tmp_path / "enough", params))
    assert len(enough.settings) == 3 and not any("training images" in sentence for sentence in warnings(enough))
    accumulated = {"data.batch_size": [64], "trainer.accumulate_grad_batches": [32, 100]}
    found = of(write_sweep(tmp_path / "accumulated", accumulated, changed={0: few[0], 1: few[0]}))
    assert [setting.batch_size for setting in found.settings] == [2000]


def test_a_seed_is_one_however_often_it_was_run(tmp_path: Path) -> None:
    """A failed run that another one made good costs nothing, and one that failed twice is one lost seed."""
    params = {"data.batch_size": [64], "seed": [0, 1, 2]}
    sweep = write_sweep(tmp_path / "s", params, changed={2: {"status": "failed"}})
    write_run(tmp_path / "failed", {"data.batch_size": 64, "seed": 2}, status="failed")
    (found,) = of(sweep, tmp_path / "failed").settings
    assert (len(found.ok), len(found.lost), found.num_seeds) == (2, 1, 3)
    assert lost_text(found) == "1 of 3 seeds failed"
    write_run(tmp_path / "good", {"data.batch_size": 64, "seed": 2})
    (found,) = of(sweep, tmp_path / "failed", tmp_path / "good").settings
    assert (len(found.ok), found.lost, found.num_seeds) == (3, [], 3)
    assert why_left_out(found, "best/test/acc") == ""


def test_a_seed_that_was_lost_above_the_training_images_is_one_of_the_setting_there(tmp_path: Path) -> None:
    params = {"data.batch_size": [64, 4096], "seed": [0, 1, 2]}
    done = {job: {"train_images": 2_000} for job in range(5)}
    found = of(write_sweep(tmp_path / "s", params, changed={**done, 5: None}))
    assert [(setting.batch_size, len(setting.ok), len(setting.lost)) for setting in found.settings] == [
        (64, 3, 0),
        (2000, 2, 1),
    ]


def test_a_report_of_several_versions_says_what_changed_in_meaning(tmp_path: Path) -> None:
    old, new = ({"versions": {"dlintro": version}} for version in ("0.1.0", VERSION))
    mixed = of(write_sweep(tmp_path / "mixed", {"seed": [0, 1]}, changed={0: old, 1: new}))
    (said,) = [sentence for sentence in warnings(mixed) if "versions" in sentence]
    assert f"dlintro 0.1.0 then, {VERSION} now: since 0.2.0 val/loss, test/loss" in said and "accumulated" in said
    same = of(write_sweep(tmp_path / "same", {"seed": [0, 1]}, changed={0: old, 1: old}))
    assert not any("versions" in sentence for sentence in warnings(same))


def test_what_follows_from_a_named_key_is_not_named(tmp_path: Path) -> None:
    """The steps follow from the budget, the network's widths from the model."""
    budgets = of(write_sweep(tmp_path / "a", {"sweep.budget": [None, "steps"], "data.batch_size": [8, 32]}))
    assert budgets.keys == ["sweep.budget", "data.batch_size"]
    assert {line.budget for line in budgets.lines} == {"epochs", "steps"}
    assert of(write_sweep(tmp_path / "b", {"model": ["flatnet", "mnist_cnn"]})).keys == ["model"]


def test_what_cannot_change_a_result_makes_no_setting(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {"threads": 1, "data.num_workers": 0})
    write_run(tmp_path / "b", {"threads": 2, "data.num_workers": 1})
    assert of(tmp_path / "a", tmp_path / "b").keys == []
    assert of(write_sweep(tmp_path / "s", {"sweep.n_jobs": [1, 2], "seed": [0, 1]})).keys == []


def test_a_key_that_was_swept_to_compare_speed_makes_settings(tmp_path: Path) -> None:
    found = of(write_sweep(tmp_path / "s", {"data.num_workers": [0, 2, 4], "seed": [0, 1]}))
    assert found.keys == ["data.num_workers"] and [setting.stat("test/acc").n for setting in found.settings] == [
        2,
        2,
        2,
    ]
    assert of(write_sweep(tmp_path / "t", {"threads": [1], "seed": [0, 1]})).keys == []


SIZES = {"data.batch_size": [8, 32]}


@pytest.mark.parametrize(
    ("params", "changed", "budget"),
    [
        ({"sweep.budget": ["epochs"]}, {}, "epochs"),
        ({"sweep.budget": ["steps"]}, {}, "steps"),
        ({}, {}, "epochs"),  # none was chosen, and nothing cut the runs short
        ({}, {1: {"epochs": 1, "steps": 1719}}, ""),  # early stopping
        ({}, {1: {"epochs": 2, "steps": 2000}}, ""),  # out of time within the second epoch
        ({"trainer.max_steps": [300]}, {}, ""),
        ({"sweep.budget": ["epochs"]}, {1: {"epochs": 1, "steps": 1719}}, ""),
        ({"sweep.budget": ["steps"]}, {1: {"steps": 200}}, ""),
        ({}, {0: {"epochs": None}, 1: {"epochs": None}}, ""),
        ({}, {1: {"status": "diverged", "epochs": 1, "steps": 9}}, "epochs"),  # of the ok runs
    ],
)
def test_a_budget_is_equal_only_where_it_was(
    tmp_path: Path, params: dict[str, list[object]], changed: dict[int, object], budget: str
) -> None:
    (line,) = of(write_sweep(tmp_path / "s", SIZES | params, changed=changed)).lines
    assert line.budget == budget


def test_no_budget_and_equal_epochs_are_one_setting(tmp_path: Path) -> None:
    """Of two sweeps: they do the same."""
    chosen = write_sweep(tmp_path / "a", SIZES | {"sweep.budget": ["epochs"], "seed": [0]})
    none = write_sweep(tmp_path / "b", SIZES | {"seed": [1]})
    found = of(chosen, none)
    assert found.keys == ["data.batch_size"] and [len(setting.runs) for setting in found.settings] == [2, 2]


def test_lines_whose_budgets_were_not_kept_are_still_told_apart(tmp_path: Path) -> None:
    cut = {place: {"steps": 7 * place, "epochs": place} for place in range(4)}
    found = of(write_sweep(tmp_path / "s", {"sweep.budget": [None, "steps"]} | SIZES, changed=cut))
    assert [(line.label, line.budget) for line in found.lines] == [("budget –", ""), ("budget steps", "")]


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


def test_a_given_target_is_of_the_metric_it_was_given_with(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {"target.metric": "val/loss", "target.value": 0.3})
    write_run(tmp_path / "b", {"target.metric": "train_eval/acc"})  # sorted first
    target = of(tmp_path / "a", tmp_path / "b").target
    assert (target.metric, target.value) == ("val/loss", 0.3)


def test_a_target_asked_for_is_used_instead_of_the_runs_own(tmp_path: Path) -> None:
    runs = read([write_sweep(tmp_path / "s", SIZES | {"target.metric": ["val/loss"], "target.value": [0.2]})])
    target = study(*runs, ("val/acc", 0.85)).target
    assert (target.metric, target.value) == ("val/acc", 0.85) and "was given" in target.origin
    assert (study(*runs, ("", 0.25)).target.metric, study(*runs, ("val/acc", None)).target.value) == ("val/loss", 0.2)


def test_learning_rates_are_compared_within_what_else_differs(tmp_path: Path) -> None:
    params = {"optim.lr": [0.1, 0.01], "model": ["flatnet", "mnist_cnn"], "seed": [0, 1]}
    found = of(write_sweep(tmp_path / "s", params)).rate_lines
    assert [name for name, _ in found] == ["model flatnet", "model mnist_cnn"]
    assert [[setting.values["optim.lr"] for setting in settings] for _, settings in found] == [[0.01, 0.1]] * 2


def test_accumulated_batches_are_one_batch(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {"data.batch_size": 32, "trainer.accumulate_grad_batches": 4})
    assert of(tmp_path / "run").runs[0].batch_size == 128
