"""What a user reads in report.html, summary.csv and settings.csv."""

import csv
import html
import itertools
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dlintro.sweep.figures import accuracies, log_axis, panel, progress
from dlintro.sweep.groups import study
from dlintro.sweep.report import main, write_report
from dlintro.sweep.runs import read
from dlintro.text import shown_path
from tests.sweep.fake import write_run, write_sweep

SIZES = [8, 32, 128, 512, 2048]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def words(page: Path) -> str:
    """The page's text, without markup."""
    return " ".join(
        html.unescape(
            re.sub(r"<style.*?</style>|<[^>]*>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        ).split()
    )


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sizes, two rules, three seeds; of 30 jobs one failed, one diverged, one never started, one is damaged."""
    folder = tmp_path_factory.mktemp("sweeps") / "mine"
    params = {"data.batch_size": SIZES, "optim.lr_rule": ["none", "linear"], "seed": [0, 1, 2]}
    changed = {
        6: {"status": "failed", "error": "ValueError: <script>alert(1)</script> & so on", "test/acc": None},
        29: {"status": "diverged", "error": "Diverged: the loss is nan at step 7", "diverged_step": 7},
        13: {"test/acc": 0.0985},
        28: None,
    }
    write_sweep(folder, params, b_crit=900, changed=changed)
    (folder / "002-8-none-2" / "record.json").write_text('{"status": "o')
    write_report([folder], folder)
    return folder


def test_every_job_is_a_row_whatever_became_of_it(sweep: Path) -> None:
    found = rows(sweep / "summary.csv")
    statuses = [row["status"] for row in found]
    assert len(found) == 30
    assert {status: statuses.count(status) for status in statuses} == {
        "ok": 26, "failed": 1, "diverged": 1, "queued": 1, "damaged": 1,
    }  # fmt: skip
    assert "damaged" in found[2]["error"]
    assert (found[28]["data.batch_size"], found[28]["optim.lr_rule"], found[28]["seed"]) == ("2048", "linear", "1")


def test_what_is_missing_is_blank(sweep: Path) -> None:
    for path in (sweep / "summary.csv", sweep / "settings.csv"):
        cells = [cell for row in rows(path) for cell in row.values()]
        assert not {"nan", "None", "inf"} & set(cells)
    queued = rows(sweep / "summary.csv")[28]
    assert all(queued[name] == "" for name in ("test/acc", "steps", "steps_to_target", "ram_peak_bytes", "gap"))
    # one ok run: a mean and no spread
    last = rows(sweep / "settings.csv")[-1]
    assert (last["ok"], last["test/acc n"], last["test/acc sd"]) == ("1", "1", "") and last["test/acc mean"]


def test_the_page_needs_nothing_but_itself(sweep: Path) -> None:
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert {address[0] for address in re.findall(r'(?:src|href)="([^"]+)', page)} == {"#"}
    assert "://" not in page and "<script" not in page and "@import" not in page and "url(h" not in page
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in page
    assert page.count("<svg ") == len(list((sweep / "plots").glob("*.png"))) >= 8


def test_what_runs_say_is_text_not_markup(sweep: Path) -> None:
    assert "<script>alert(1)</script> & so on" in words_of_failures(sweep)


def words_of_failures(sweep: Path) -> str:
    page = (sweep / "report.html").read_text(encoding="utf-8")
    return html.unescape(page[page.index("What did not finish") : page.index("All 30 jobs")])


def test_the_words_give_counts_failures_and_numbers_with_their_spread(sweep: Path) -> None:
    said = words(sweep / "report.html")
    assert "30 jobs in 10 settings, seeds 0, 1, 2: 26 ok, 1 damaged, 1 failed" in said
    assert "the loss is nan at step 7" in said
    assert "Ended at chance accuracy: 013-128-none-1." in said
    assert re.search(
        r"With lr rule none, the largest batch size takes less time per epoch than the smallest: 1\.\d+ ± 0\.\d+ s at "
        r"128, 1\.\d+ ± 0\.\d+ s at 2,048 \(n = 3\)\. The best batch size is 2,048 \([^)]+\), which is better than "
        r"128[^.]*\. "
        r"This leaves out 8 \(1 of 3 seeds with a damaged record\) and 32 \(1 of 3 seeds failed\)\.",
        said,
    )
    assert "This leaves out 2,048 (1 of 3 seeds not run yet and 1 diverged)." in said
    assert "needs fewer steps to the target" in said and "needs more images to the target" in said
    assert "reaches lower test accuracy" in said


def test_the_words_give_the_critical_batch_beside_the_noise_scale(sweep: Path) -> None:
    said = words(sweep / "report.html")
    found = re.search(
        r"With lr rule none, the critical batch size is (\d+) \(95 % interval \d+ to \d+\)\. The gradient noise scale "
        r"is \d+, [\d.]+ times the critical batch size\. The fit leaves out batch size 8 \(1 of 3 seeds with a damaged "
        r"record\) and 32 \(1 of 3 seeds failed\)\.",
        said,
    )
    assert found and float(found[1]) == pytest.approx(0.4 * 900, rel=0.1)
    assert "smaller batch sizes lost runs and were not used (8, 32)." in said  # for the target


def test_a_fit_names_the_sizes_that_lost_seeds(tmp_path: Path) -> None:
    params = {"data.batch_size": [8, 32, 128, 512, 2048], "seed": [0, 1]}
    said = words(write_report([write_sweep(tmp_path / "s", params, changed={9: {"status": "diverged"}})], tmp_path))
    assert "The critical batch size is " in said
    assert "The fit leaves out batch size 2,048 (1 of 2 seeds diverged)." in said
    assert "where every seed reached it (not at batch size 2,048)" in (tmp_path / "report.html").read_text()


def test_no_claim_is_made_from_one_seed(tmp_path: Path) -> None:
    page = write_report([write_sweep(tmp_path / "s", {"data.batch_size": SIZES})], tmp_path / "out")
    assert "but one seed each can't tell a difference from chance." in words(page)
    assert "no difference can be told from chance" in words(page)
    assert "less time" not in words(page) and "lower test accuracy" not in words(page) and "best:" not in words(page)


def test_equal_numbers_do_not_differ(tmp_path: Path) -> None:
    same = {place: {"best/test/acc": 0.9 + 0.01 * (place % 3)} for place in range(6)}
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32], "seed": [0, 1, 2]}, changed=same)
    said = words(write_report([sweep], sweep))
    assert (
        "With equal epochs, the smallest and the largest batch size show no difference within the spread in test "
        "accuracy, val-best weights: 91.00 ± 1.00 % at 8, 91.00 ± 1.00 % at 32 (n = 3)." in said
    )


def test_times_that_differ_by_a_large_factor_are_told_apart_whatever_their_spread(tmp_path: Path) -> None:
    """As seconds, three of them with so wide a spread are not."""
    speeds = [3000, 6000, 15_000, 200_000, 230_000, 250_000]
    changed = {place: {"train/images_per_second": speed} for place, speed in enumerate(speeds)}
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 4096], "seed": [0, 1, 2]}, changed=changed)
    said = words(write_report([sweep], sweep))
    assert "The largest batch size takes less time per epoch than the smallest: 10.4 ± 7.4 s at 8" in said


def test_accuracy_and_gap_name_the_budget_and_only_one_that_was_kept(tmp_path: Path) -> None:
    params = {"data.batch_size": [8, 32], "seed": [0, 1], "sweep.budget": ["steps"]}
    said = words(write_report([write_sweep(tmp_path / "s", params)], tmp_path / "out"))
    assert re.search(r"With equal steps, [^.]*test accuracy \(val-best weights\)", said)
    assert re.search(r"With equal steps, [^.]*(gap of training to|training minus) test accuracy", said)
    limited = params | {"sweep.budget": [None], "trainer.max_steps": [300]}
    page = write_report([write_sweep(tmp_path / "t", limited)], tmp_path / "out")
    assert "equal" not in words(page).replace("not that both are equal", "")


def test_runs_of_the_same_setting_and_seed_are_counted_as_repeats(tmp_path: Path) -> None:
    """Another model file is no repeat, though the configuration's hash doesn't look into it."""
    for name in ("one", "two"):
        write_run(tmp_path / name, {})
    sweep = write_sweep(
        tmp_path / "s", {"model.path": ["a.py", "b.py"]}, changed={place: {"config_hash": "h"} for place in (0, 1)}
    )
    assert "repeats another's" not in words(write_report([sweep], sweep))
    said = words(write_report([tmp_path / "one", tmp_path / "two"], tmp_path / "out"))
    assert "1 run repeats another's setting and seed" in said
    write_run(tmp_path / "three", {})
    said = words(write_report([tmp_path / name for name in ("one", "two", "three")], tmp_path / "out"))
    assert "2 runs repeat another's setting and seed" in said
    (row,) = rows(tmp_path / "out" / "settings.csv")
    assert (row["runs"], row["ok"], row["best/test/acc n"], row["best/test/acc sd"]) == ("3", "3", "1", "")
    write_run(tmp_path / "four", {"seed": 1})
    write_report([tmp_path / name for name in ("four", "one", "two", "three")], tmp_path / "out")
    (row,) = rows(tmp_path / "out" / "settings.csv")
    assert row["best/test/acc n"] == "2"


def test_runs_on_other_images_or_with_other_code_are_never_averaged(tmp_path: Path) -> None:
    """By their contents: where the files lie says nothing."""
    there, moved = ({"data.name": "image_folder", "data.path": path} for path in ("set", "/home/set"))
    write_run(tmp_path / "one", there, images_fingerprint="a" * 64)
    write_run(tmp_path / "two", moved | {"seed": 1}, images_fingerprint="a" * 64)
    out = tmp_path / "out"
    said = words(write_report([tmp_path / "one", tmp_path / "two"], out))
    assert [row["best/test/acc n"] for row in rows(out / "settings.csv")] == ["2"] and "other images" not in said
    write_run(tmp_path / "three", there | {"seed": 2}, images_fingerprint="b" * 64)
    said = words(write_report([tmp_path / name for name in ("one", "two", "three")], out))
    found = {row["setting"]: row["best/test/acc n"] for row in rows(out / "settings.csv")}
    assert found == {"images aaaaaaaa": "2", "images bbbbbbbb": "1"}
    write_run(tmp_path / "old", there | {"seed": 3})
    write_report([tmp_path / "one", tmp_path / "old"], out)
    assert [row["best/test/acc n"] for row in rows(out / "settings.csv")] == ["1", "1"]
    assert "Some runs had other images than others: they are different settings, and are not averaged." in said
    for name, code in (("five", "c"), ("six", "d")):
        write_run(tmp_path / name, {"model.path": "net.py"}, code_fingerprint=code * 64)
    said = words(write_report([tmp_path / "five", tmp_path / "six"], out))
    assert [row["best/test/acc n"] for row in rows(out / "settings.csv")] == ["1", "1"]
    assert "Some runs had other code" in said and "repeat another's" not in said


def test_a_job_that_has_not_begun_has_the_images_of_the_others(tmp_path: Path) -> None:
    fields = {"images_fingerprint": "a" * 64}
    words_ = {"data.path": ["set"], "seed": [0, 1, 2]}
    sweep = write_sweep(tmp_path / "s", words_, changed={0: fields, 1: fields, 2: None})
    write_report([sweep], sweep)
    (row,) = rows(sweep / "settings.csv")
    assert (row["runs"], row["ok"]) == ("3", "2")


def test_validation_chooses_the_learning_rate_and_says_what_is_as_good(tmp_path: Path) -> None:
    """The test accuracies say the opposite, and are not asked."""
    best = [0.80, 0.81, 0.82, 0.900, 0.904, 0.908, 0.904, 0.906, 0.911, 0.95, 0.95, 0.95]
    changed = {place: {"best/val/acc": acc, "best/test/acc": 1 - acc / 2} for place, acc in enumerate(best)}
    changed[11]["status"] = "diverged"
    sweep = write_sweep(tmp_path / "s", {"optim.lr": [0.001, 0.01, 0.1, 1.0], "seed": [0, 1, 2]}, changed=changed)
    said = words(write_report([sweep], sweep))
    assert (
        "Validation prefers learning rate 0.1 (val accuracy 90.70 ± 0.36 %, n = 3), which is better than 0.001, and is "
        "not told apart from 0.01 (left out: 1 (1 of 3 seeds diverged))." in said
    )
    assert "runs val accuracy, val-best weights test accuracy, val-best weights" in said
    single = {0: {"best/val/acc": 0.5}, 1: {"best/val/acc": 0.9}}
    alone = write_sweep(tmp_path / "t", {"optim.lr": [0.01, 0.1]}, changed=single)
    said = words(write_report([alone], alone))
    assert "No two learning rates can be compared (left out: 0.01 (one seed) and 0.1 (one seed))." in said
    assert "prefers" not in said


def test_a_target_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32]})
    assert main([str(sweep), "target.value=0.9", "target.metric=train_eval/acc"]) == 0
    said = words(sweep / "report.html")
    assert "The target was given: train_eval/acc ≥ 90 %." in said and "too coarse" not in said
    assert (
        f"scripts/report {shown_path(sweep)} target.metric=train_eval/acc target.value=0.9 makes this page again"
        in said
    )
    assert {row["target/value"] for row in rows(sweep / "summary.csv")} == {"0.9"}
    assert main(["target.value=0.3", str(sweep)]) == 0
    said = words(sweep / "report.html")
    assert (
        "A run of the smallest batch size, 8, reached the target by its evaluation number 1, before number 10" in said
    )
    assert "A smaller trainer.eval_images" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("target.value=high", "use a number above 0, up to 1,000, or null"),
        ("target.value=90", "an accuracy is a share, 0 to 1"),
        ("target.metric=test/acc", "use val/acc, val/loss, train_eval/acc or train_eval/loss"),
        ("target.metric=val/loss", "give target.value too"),
        ("target.vlaue=0.9", "unknown key target.vlaue; did you mean target.value?"),
        ("seed=3", "seed: a report takes only target.value and target.metric"),
    ],
)  # fmt: skip
def test_a_key_or_value_that_is_none_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, said: str
) -> None:
    sweep = write_sweep(tmp_path / "s", {"seed": [0]})
    assert main([str(sweep), word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and not (sweep / "report.html").exists()


def test_plots_of_an_earlier_report_go_and_other_files_stay(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {})
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32]})
    out = tmp_path / "out"
    write_report([sweep], out)
    assert (out / "plots" / "accuracy-epochs.png").exists()
    (out / "plots" / "my-own.png").touch()
    write_report([tmp_path / "run"], out)
    assert {path.name for path in (out / "plots").iterdir()} == {"curves.png", "my-own.png"}


@pytest.mark.parametrize(("low", "high"), [(2_000, 3_500_000), (900, 400_000), (8, 2e9), (30_000, 150_000), (1e-4, 3)])
def test_no_tick_label_lies_on_another(low: float, high: float) -> None:
    """Over any number of decades, on both axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure, axes = panel("", "images seen", "steps")
    axes.plot([low, high], [low, high])
    log_axis(axes.xaxis)
    log_axis(axes.yaxis)
    FigureCanvasAgg(figure).draw()
    for axis in (axes.xaxis, axes.yaxis):
        inside = [t for t in axis.get_majorticklabels() if low / 2 <= t.get_position()[axis is axes.yaxis] <= high * 2]
        boxes = [label.get_window_extent() for label in inside if label.get_text()]
        assert len(boxes) >= 2
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))


@pytest.mark.parametrize(("seconds", "title", "unit"), [(0.4, "seconds", 1), (180, "seconds", 1), (181, "minutes", 60)])
def test_long_trainings_are_drawn_in_minutes(tmp_path: Path, seconds: float, title: str, unit: float) -> None:
    sweep = write_sweep(tmp_path / "s", {"model": ["flatnet", "mnist_cnn"]})
    settings = study(*read([sweep])).settings
    (run,) = settings[1].ok
    slow = replace(run, curve=[{"images": 1.0, "train_seconds": seconds, "val/acc": 0.5}])
    curves = [replace(settings[0], runs=[]), replace(settings[1], runs=[slow])]
    assert progress(curves, "train_seconds") == (f"{title} of training, without evaluation", unit)
    assert accuracies(slow, "train_seconds", unit) == {1.0: (seconds / unit, 50.0)}


def test_batch_sizes_beside_each_other_are_not_labelled_twice() -> None:
    _, axes = panel("", "batch size", "")
    axes.plot([8, 4096], [1, 2])
    log_axis(axes.xaxis, [8, 1000, 1024, 4096])
    assert list(axes.get_xticks()) == [8, 1000, 4096]


def test_times_of_jobs_that_ran_together_carry_a_warning(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32]}, changed={0: {"n_jobs": 4}})
    assert "Jobs ran 4 at a time: times are not those of a quiet machine." in words(write_report([sweep], sweep))


@pytest.mark.parametrize(
    ("params", "plots"),
    [
        ({"model": ["flatnet", "mnist_cnn"], "seed": [0, 1]}, {"settings-best-test-acc", "curves", "curves-time"}),
        ({"optim.lr": [0.01, 0.1, 1.0], "seed": [0, 1]}, {"main", "curves"}),
        ({"optim.lr": [0.01, 0.1], "data.batch_size": [8, 32]}, {"heat-map", "curves-learning-rate-0.01"}),
        ({"trainer.max_steps": [300], "data.batch_size": [8, 32]}, {"accuracy", "train-test", "gap"}),
        ({"sweep.budget": ["epochs", "steps"], "data.batch_size": [8, 32]}, {"accuracy-epochs", "accuracy-steps"}),
        ({"accelerator.name": ["cpu", "auto"], "seed": [0, 1]}, {"settings-train-images-per-second"}),
        ({"seed": [0]}, {"curves"}),
    ],
)  # fmt: skip
def test_each_kind_of_sweep_has_its_plots(tmp_path: Path, params: dict[str, list[object]], plots: set[str]) -> None:
    sweep = write_sweep(tmp_path / "s", params)
    write_report([sweep], sweep)
    assert plots <= {path.stem for path in (sweep / "plots").glob("*.png")}


@pytest.mark.parametrize(
    "params",
    [
        {"data.batch_size": [32, 64], "seed": [0, 1]},
        {"optim.lr": [0.01, 0.1], "seed": [0, 1]},
        {"model": ["flatnet", "mnist_cnn"], "seed": [0, 1]},
        {"data.train_size": [5000, 10000], "seed": [0, 1]},
        {"accelerator.name": ["cpu", "auto"], "seed": [0, 1]},
        {"data": ["mnist", "cifar10"], "data.batch_size": [32, 64]},
    ],
)
def test_every_sweep_has_its_main_picture_first(tmp_path: Path, params: dict[str, list[object]]) -> None:
    sweep = write_sweep(tmp_path / "s", params)
    page = write_report([sweep], sweep).read_text(encoding="utf-8")
    assert re.findall(r'<figure id="([^"]+)"', page)[0] == "main" and (sweep / "plots" / "main.png").is_file()
    assert page.index('<figure id="main"') < page.index("Settings</h2>") < page.index("<details")


def test_a_strangers_names_break_no_picture(tmp_path: Path) -> None:
    """XML, as which the page's pictures are read, has no control characters."""
    for name, path in (("one", "a\x1b]<b>&\ud7ff\n.py"), ("two", "$x^2$ \u2063.py")):
        write_run(tmp_path / name, {"model.path": path}, code_fingerprint=name * 20)
    page = write_report([tmp_path / "one", tmp_path / "two"], tmp_path / "out").read_text(encoding="utf-8")
    assert page.count("<svg ") == len(list((tmp_path / "out" / "plots").glob("*.png"))) > 1
    assert "<b>" not in page


def test_the_fastest_batch_size_of_each_device_is_named(tmp_path: Path) -> None:
    params = {"accelerator.name": ["cpu", "auto"], "data.batch_size": [8, 512, 4096], "seed": [0, 1, 2]}
    speeds = [100, 101, 102, 900, 905, 910, 1200, 1210, 1190, 100, 101, 102, 900, 905, 910, 1200, 1210, 1190]
    changed: dict[int, dict[str, object]] = {k: {"train/images_per_second": speed} for k, speed in enumerate(speeds)}
    changed[17]["status"] = "oom"
    said = words(write_report([write_sweep(tmp_path / "s", params, changed=changed)], tmp_path / "out"))
    said = said.replace("which is ", "")
    start = "With accelerator {}, the fastest batch size is {} s, n = 3), better than {}."
    left_out = "8 (left out: 4,096 (1 of 3 seeds out of memory))"
    assert start.format("cpu", "4,096 (45.8 ± 0.4", "8 and 512") in said
    assert start.format("auto", "512 (60.8 ± 0.3", left_out) in said


def test_a_sweep_without_one_good_run_has_a_report(tmp_path: Path) -> None:
    changed = {
        0: None,
        1: {"status": "oom", "error": "MemoryError"},
        2: {"status": "unavailable", "error": "no such device"},
    }
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32, 128]}, changed=changed)
    said = words(write_report([sweep], sweep))
    assert "1 queued, 1 oom, 1 unavailable" in said and "no such device" in said
    assert not list((sweep / "plots").glob("*.png"))


def test_a_run_whose_process_is_gone_is_interrupted(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {}, status="running")
    write_report([tmp_path / "run"], tmp_path / "out")
    assert rows(tmp_path / "out" / "summary.csv")[0]["status"] == "interrupted"


def test_runs_of_different_data_sets_are_compared_without_a_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "one", {})
    write_run(tmp_path / "two", {"data": "cifar10", "model": "mnist_cnn"})
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "outputs"))
    monkeypatch.chdir(tmp_path)
    assert main(["one", "two", "one/"]) == 0  # a folder given twice counts once
    last = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"report: outputs/reports/\d{8}-\d{6}-[0-9a-f]{4}/report\.html", last)
    assert "2 runs" in words(Path(last.removeprefix("report: ")))
    assert "one for several data sets" in words(Path(last.removeprefix("report: ")))


def test_a_sweeps_report_lies_in_the_sweep_or_where_it_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = write_sweep(tmp_path / "s", {"seed": [0]})
    assert main([str(sweep)]) == 0 and (sweep / "report.html").is_file()
    assert main([str(sweep), "--out", str(tmp_path / "out")]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html",
        "summary.csv",
        "settings.csv",
        "plots",
    }


def test_a_folder_that_is_neither_sweep_nor_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "missing")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "neither a sweep" in lines[0] and "no such file" in lines[1]


def test_a_file_in_the_way_of_the_report_is_the_users_mistake(tmp_path: Path) -> None:
    write_run(tmp_path / "run", {})
    (tmp_path / "file").touch()
    assert main([str(tmp_path / "run"), "--out", str(tmp_path / "file")]) == 2


def test_help_needs_neither_torch_nor_matplotlib() -> None:
    heavy = ("torch", "matplotlib", "scipy", "numpy")
    code = f"import sys, dlintro.sweep.report as r; r.main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_two_hundred_jobs_make_a_page_of_little_more_than_a_megabyte(tmp_path: Path) -> None:
    params = {"data.batch_size": [2**k for k in range(3, 13)], "optim.lr_rule": ["none", "linear", "sqrt"],
              "sweep.budget": ["epochs", "steps"], "seed": [0, 1, 2]}  # fmt: skip
    sweep, start = write_sweep(tmp_path / "s", params), time.process_time()
    page = write_report([sweep], sweep)
    assert page.stat().st_size < 1.5e6
    assert time.process_time() - start < 40  # about 6 s on a free core
