"""A report's first sentence: which setting is best, by how much, how sure that is, and what may not be called best."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dlintro.sweep.answer import Answer, answers, headline, ranks_by, rows
from dlintro.sweep.compare import compared
from dlintro.sweep.groups import Study, study
from dlintro.sweep.page import render
from dlintro.sweep.runs import read
from tests.sweep.fake import write_run, write_sweep

SPREAD = 0.001


def validation(*means: float, seeds: int = 3) -> dict[int, dict[str, Any]]:
    """Accuracies of each setting's seeds; the test accuracy says the opposite, and is not asked."""
    values = [mean + SPREAD * (place - (seeds - 1) / 2) for mean in means for place in range(seeds)]
    return {job: {"best/val/acc": value, "best/test/acc": 1 - value} for job, value in enumerate(values)}


def of(folder: Path, params: dict[str, list[Any]], changed: dict[int, Any]) -> tuple[Study, list[Answer]]:
    found = study(*read([write_sweep(folder, params, changed=changed)]))
    return found, answers(found)


def sizes(folder: Path, sizes: Sequence[int], changed: dict[int, Any], seeds: int = 3) -> tuple[Study, list[Answer]]:
    return of(folder, {"data.batch_size": [*sizes], "seed": [*range(seeds)]}, changed)


def test_the_best_in_the_middle_is_named_beside_both_ends(tmp_path: Path) -> None:
    _, found = sizes(tmp_path / "s", [8, 32, 128, 512], validation(0.90, 0.95, 0.93, 0.91))
    assert headline(found) == (
        "Batch size 32 is best: 95.00 ± 0.10 % validation accuracy, 2.00 points more than 128, the next best "
        f"(n = 3, p = {found[0].compared.p[1, 2]:.2g})."
    )
    assert found[0].details == [
        "The smallest, 8, reaches 90.00 ± 0.10 % and the largest, 512, reaches 91.00 ± 0.10 %.",
        "On the test images, which chose nothing, batch size 32 reaches 5.00 ± 0.10 %.",
    ]


def test_where_the_best_is_at_an_end_the_page_says_to_look_further(tmp_path: Path) -> None:
    _, found = sizes(tmp_path / "s", [8, 32, 128], validation(0.95, 0.94, 0.93))
    assert found[0].details[0] == "8 is the smallest that was tried, and a smaller one may be better still."
    _, found = of(tmp_path / "t", {"optim.lr": [0.01, 0.1, 1.0], "seed": [0, 1, 2]}, validation(0.93, 0.94, 0.95))
    assert found[0].details[0] == "1 is the largest that was tried, and a larger one may be better still."


def test_a_setting_that_the_seeds_cannot_tell_from_the_best_is_named(tmp_path: Path) -> None:
    known, found = sizes(tmp_path / "s", [8, 32, 128, 512], validation(0.90, 0.95, 0.9502, 0.91))
    assert headline(found) == (
        "Batch size 128 has the highest validation accuracy, 95.02 ± 0.10 % (n = 3): it beats 8 and 512, but is not "
        "clearly better than 32."
    )
    assert [(row.values, row.verdict) for row in rows(known, found)] == [
        (["128"], "highest"), (["32"], "tied"), (["512"], "worse"), (["8"], "worse"),
    ]  # fmt: skip


def test_where_nothing_differs_no_setting_is_best(tmp_path: Path) -> None:
    known, found = sizes(tmp_path / "s", [8, 32, 128], validation(0.90, 0.9001, 0.90))
    assert headline(found) == (
        "These seeds can't tell the 3 batch sizes apart: their mean validation accuracy lies between 90.00 % (8) and "
        "90.01 % (32, n = 3)."
    )
    assert found[0].best is None and {row.verdict for row in rows(known, found)} == {"highest", "tied"}


def test_a_difference_that_is_not_worth_naming_is_told_from_chance(tmp_path: Path) -> None:
    """The seeds hardly differ, so they tell 0.1 points apart, though that is too little to choose by."""
    fields = {job: {"best/val/acc": 0.9 + 0.001 * (job // 5)} for job in range(10)}
    _, found = sizes(tmp_path / "s", [8, 32], fields, seeds=5)
    assert found[0].compared.p[0, 1] < 0.05 and headline(found).startswith(
        "The 2 batch sizes differ by less than 0.2 points, too little to call one the best: their mean validation "
    )


def test_a_setting_of_one_seed_is_left_out_by_name(tmp_path: Path) -> None:
    params = {"data.batch_size": [8, 32, 128], "seed": [0, 1, 2]}
    changed: dict[int, Any] = validation(0.90, 0.95, 0.99)
    folder = write_sweep(tmp_path / "s", params, changed=changed)
    runs = [run for run in read([folder])[1] if run.leaves["data.batch_size"] != 128 or run.seed == 0]
    known = study([], runs)
    found = answers(known)
    assert headline(found).startswith("Batch size 32 is best: 95.00 ± 0.10 %")
    assert found[0].details[-1] == "The comparison leaves out batch size 128 (one seed)."
    assert [row.verdict for row in rows(known, found)] == ["best", "worse", "left out"]
    alone = study([], [run for run in runs if run.leaves["data.batch_size"] != 32])
    assert headline(answers(alone)).startswith("Only batch size 8 has two seeds or more (90.00 ± 0.10 %")


@pytest.mark.parametrize(("status", "what"), [("diverged", "diverged"), ("failed", "failed"), (None, "not run yet")])
def test_what_is_left_of_a_setting_is_never_the_best(tmp_path: Path, status: str | None, what: str) -> None:
    changed: dict[int, Any] = validation(0.90, 0.93, 0.99)
    changed[8] = None if status is None else changed[8] | {"status": status}
    known, found = sizes(tmp_path / "s", [8, 32, 4096], changed)
    assert headline(found).startswith("Batch size 32 is best: 93.00 ± 0.10 %")
    assert found[0].details[-1] == (
        f"The comparison leaves out batch size 4096 (1 of 3 seeds {what}), because the seeds that remain may be the "
        "lucky ones."
    ).replace("4096", "4,096")
    last = rows(known, found)[-1]
    assert (last.values, last.seeds, last.verdict) == (["4,096"], "2 of 3", "left out")


def test_of_one_whole_setting_or_one_seed_each_nothing_is_called_best(tmp_path: Path) -> None:
    changed: dict[int, Any] = validation(0.90, 0.99)
    changed[5] |= {"status": "diverged"}
    _, found = sizes(tmp_path / "s", [8, 32], changed)
    assert headline(found) == (
        "Only batch size 8 kept all its seeds (90.00 ± 0.10 % validation accuracy), so nothing is compared."
    )
    known, found = sizes(tmp_path / "t", [8, 32], validation(0.90, 0.99, seeds=1), seeds=1)
    assert headline(found) == (
        "Batch size 32 has the highest validation accuracy, 99.00 %, but one seed each can't tell a difference from "
        "chance."
    )
    assert found[0].best is None and {row.verdict for row in rows(known, found)} == {""}
    _, found = sizes(tmp_path / "u", [8, 32], {0: None, 1: {"status": "oom", "best/val/acc": None}}, seeds=1)
    assert headline(found) == "No run has ended with a validation accuracy, so there is nothing to compare."


def test_the_first_sentence_has_the_statistics_of_the_findings(tmp_path: Path) -> None:
    """tests/sweep/test_spread.py simulates how often those are wrong. Of one line alone, they are the same numbers."""
    known, found = of(tmp_path / "s", {"optim.lr": [0.01, 0.1, 1.0], "seed": [0, 1, 2]}, validation(0.90, 0.95, 0.9506))
    (finding,) = compared(known)
    assert (found[0].compared.p == finding.p).all() and finding.preference.startswith(
        "Validation prefers learning rate 1"
    )


def test_one_setting_alone_is_reported(tmp_path: Path) -> None:
    _, found = of(tmp_path / "s", {"seed": [0, 1, 2]}, validation(0.90))
    assert headline(found) == "Validation accuracy is 90.00 ± 0.10 % over 3 seeds."


def test_settings_of_several_keys_are_named_by_all_of_them(tmp_path: Path) -> None:
    params = {"model": ["flatnet", "mnist_cnn"], "optim.lr": [0.01, 0.1], "seed": [0, 1, 2]}
    _, found = of(tmp_path / "s", params, validation(0.90, 0.91, 0.92, 0.95))
    assert headline(found).startswith("Model mnist_cnn with learning rate 0.1 is best: 95.00 ± 0.10 %")
    _, found = of(tmp_path / "t", params, validation(0.90, 0.91, 0.9501, 0.95))
    assert "beats 2 others, but is not clearly better than model mnist_cnn with learning rate 0.1." in headline(found)


def test_accuracies_on_different_data_are_not_ranked(tmp_path: Path) -> None:
    params = {"data": ["mnist", "cifar10"], "optim.lr": [0.01, 0.1], "seed": [0, 1, 2]}
    _, found = of(tmp_path / "s", params, validation(0.90, 0.91, 0.50, 0.45))
    first, second = (answer.headline for answer in found)
    assert first.startswith("On mnist: learning rate 0.1 is best: 91.00 ± 0.10 %")
    assert second.startswith("On cifar10: learning rate 0.01 is best: 50.00 ± 0.10 %")


def test_machines_are_compared_by_their_speed(tmp_path: Path) -> None:
    speeds = [100, 101, 102, 900, 905, 910]
    changed = {job: {"train/images_per_second": speed} for job, speed in enumerate(speeds)}
    _, found = of(tmp_path / "s", {"accelerator.name": ["cpu", "auto"], "seed": [0, 1, 2]}, changed)
    assert headline(found).startswith("Accelerator auto is best: 905 ± 5 images per second, 796 % more than cpu (n = 3")


def test_single_runs_have_an_answer_too(tmp_path: Path) -> None:
    for name, size in (("one", 8), ("two", 32)):
        write_run(tmp_path / name, {"data.batch_size": size})
    found = answers(study(*read([tmp_path / "one", tmp_path / "two"])))
    assert "can't tell a difference from chance" in headline(found)


def test_balanced_accuracy_ranks_the_settings_whose_epochs_it_chose(tmp_path: Path) -> None:
    """The setting with the higher accuracy has the lower balanced accuracy."""
    changed: dict[int, Any] = validation(0.90, 0.95)
    for job, fields in changed.items():
        balanced = (0.80, 0.60)[job // 3] + 0.001 * (job % 3)
        fields |= {"best/val/balanced_acc": balanced, "best/test/balanced_acc": balanced - 0.1}
    known, found = sizes(tmp_path / "s", [8, 32], changed)
    assert headline(found).startswith("Batch size 32 is best: 95.00 ± 0.10 % validation accuracy")
    assert ranks_by(known) == ("validation %", "test %")

    params = {"data.batch_size": [8, 32], "seed": [0, 1, 2], "trainer.best": ["val/balanced_acc"]}
    known, found = of(tmp_path / "t", params, changed)
    assert headline(found).startswith("Batch size 8 is best: 80.10 ± 0.10 % balanced validation accuracy, 20.00 points")
    assert "it reaches" not in found[0].details[-1] and "8 reaches 70.10 ± 0.10 %" in " ".join(found[0].details)
    assert ranks_by(known) == ("balanced validation %", "balanced test %")
    assert [(row.ranked_by, row.test) for row in rows(known, found)] == [
        ("80.10 ± 0.10", "70.10 ± 0.10"), ("60.10 ± 0.10", "50.10 ± 0.10"),
    ]  # fmt: skip
    assert "Balanced validation accuracy chooses a setting" in render(known, [], [])
