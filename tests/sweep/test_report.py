"""What a user reads in report.html, summary.csv and settings.csv."""

import csv
import html
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlintro.sweep.report import main, write_report
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
    assert set(re.findall(r'(?:src|href)="([^"]{5})', page)) == {"data:"}
    assert "://" not in page and "<script" not in page and "@import" not in page
    assert page.count("<img ") == len(list((sweep / "plots").glob("*.png"))) >= 8


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
        r"Less time per epoch: lr rule none \(11\.\d ± 0\.\d+ s at 8, 1\.\d+ ± 0\.\d+ s at 2,048; n = 2, 3\)", said
    )
    assert "Fewer steps to the target" in said and "More images to the target" in said
    assert "Lower test accuracy" in said


def test_the_words_give_the_critical_batch_beside_the_noise_scale(sweep: Path) -> None:
    said = words(sweep / "report.html")
    found = re.search(r"Critical batch size under lr rule none: (\d+) \(95 % interval", said)
    assert found and float(found[1]) == pytest.approx(0.4 * 900, rel=0.1)
    assert re.search(r"Gradient noise scale under lr rule none, .* over all readings: \d+", said)
    assert "Not reached by all seeds" in said  # a run of the largest size diverged


def test_no_claim_is_made_from_one_seed(tmp_path: Path) -> None:
    page = write_report([write_sweep(tmp_path / "s", {"data.batch_size": SIZES})], tmp_path / "out")
    assert "no difference can be told from chance" in words(page)
    assert "Less time" not in words(page) and "Lower test accuracy" not in words(page)


def test_equal_numbers_do_not_differ(tmp_path: Path) -> None:
    same = {place: {"best/test/acc": 0.9 + 0.01 * (place % 3)} for place in range(6)}
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32], "seed": [0, 1, 2]}, changed=same)
    said = words(write_report([sweep], sweep))
    assert (
        "No difference within the spread in test accuracy, val-best weights: 91.00 ± 1.00 % at 8, 91.00 ± 1.00 % at 32"
        in said
    )


def test_times_of_jobs_that_ran_together_carry_a_warning(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"data.batch_size": [8, 32]}, changed={0: {"n_jobs": 4}})
    assert "Jobs ran 4 at a time: times are not those of a quiet machine." in words(write_report([sweep], sweep))


@pytest.mark.parametrize(
    ("params", "plots"),
    [
        ({"model": ["flatnet", "mnist_cnn"], "seed": [0, 1]}, {"settings-best-test-acc", "curves"}),
        ({"optim.lr": [0.01, 0.1, 1.0], "seed": [0, 1]}, {"accuracy-rate", "curves"}),
        ({"optim.lr": [0.01, 0.1], "data.batch_size": [8, 32]}, {"heat-map", "accuracy-epochs"}),
        ({"sweep.budget": ["epochs", "steps"], "data.batch_size": [8, 32]}, {"accuracy-epochs", "accuracy-steps"}),
        ({"accelerator.name": ["cpu", "auto"], "seed": [0, 1]}, {"settings-train-images-per-second"}),
        ({"seed": [0]}, {"curves"}),
    ],
)  # fmt: skip
def test_each_kind_of_sweep_has_its_plots(tmp_path: Path, params: dict[str, list[object]], plots: set[str]) -> None:
    sweep = write_sweep(tmp_path / "s", params)
    write_report([sweep], sweep)
    assert plots <= {path.stem for path in (sweep / "plots").glob("*.png")}


def test_the_fastest_batch_size_of_each_device_is_named(tmp_path: Path) -> None:
    sweep = write_sweep(tmp_path / "s", {"accelerator.name": ["cpu", "auto"], "data.batch_size": [8, 4096]})
    assert "Fastest batch size of accelerator auto: 4,096" in words(write_report([sweep], sweep))


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
def test_two_hundred_jobs_make_a_page_of_a_few_megabytes(tmp_path: Path) -> None:
    params = {"data.batch_size": [2**k for k in range(3, 13)], "optim.lr_rule": ["none", "linear", "sqrt"],
              "sweep.budget": ["epochs", "steps"], "seed": [0, 1, 2]}  # fmt: skip
    sweep, start = write_sweep(tmp_path / "s", params), time.process_time()
    page = write_report([sweep], sweep)
    assert page.stat().st_size < 5e6
    assert time.process_time() - start < 40  # about 6 s on a free core
