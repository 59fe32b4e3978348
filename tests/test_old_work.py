"""Tests that runs, checkpoints and sweeps of commit 063d9bb (made_at_063d9bb) still work, with today's code and with
one key more."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlintro.sweep.plan import make_jobs, write_plan
from dlintro.version import VERSION
from tests.checkout import ROOT, Command, command_of, copied
from tests.conftest import composed

OLD = Path(__file__).parent / "made_at_063d9bb"
WORDS = (
    *("model=flatnet", "data=synthetic", "data.shape=[1,8,8]", "data.train_size=200", "data.batch_size=32"),
    *("accelerator=cpu", "threads=1", "trainer.max_epochs=1,300", "sweep.name=sweep"),
)
MEANING = f"dlintro 0.1.0 then, {VERSION} now: since 0.2.0 val/loss, test/loss and train_eval/loss are the plain cross"
DONE, STOPPED = "name_adam-max_epochs_1-seed_0-59bfb076", "name_adam-max_epochs_300-seed_0-dbe73c7f"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    for name in ("finished", "interrupted"):
        shutil.copytree(OLD / name, tmp_path / name)
    shutil.copytree(OLD / "sweep", tmp_path / "sweeps" / "sweep")
    return tmp_path


@pytest.fixture(params=["with another key", pytest.param("as it is", marks=pytest.mark.slow)])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a checkout; the second one has a new key `trainer.zeal`, with its row and its default."""
    if request.param == "as it is":
        return ROOT
    copy = copied(tmp_path_factory.mktemp("project"))
    keys, yaml = copy / "src" / "dlintro" / "settings" / "keys.py", copy / "conf" / "train.yaml"
    for file, before, more in (
        (keys, "    max_steps: int | None = key(", '    zeal: float = key("how eagerly it learns", 0, 10)\n'),
        (yaml, "  max_steps: null\n", "  zeal: 1.0\n"),
    ):
        text = file.read_text()
        assert text.count(before) == 1
        file.write_text(text.replace(before, more + before))
    return copy


@pytest.fixture
def command(project: Path, old: Path) -> Command:
    return command_of(project, old)


def test_a_finished_run_is_evaluated_and_predicts(command: Command, old: Path) -> None:
    said = command("commands.evaluate", "finished", "--json")
    assert said.returncode == 0, said.stderr
    report, record = json.loads(said.stdout), json.loads((old / "finished" / "record.json").read_text())
    assert report["accuracy"] == pytest.approx(record["best/test/acc"])
    assert report["recorded_accuracy"] == record["best/test/acc"]
    assert said.stderr.count(MEANING) == 1
    Image.new("L", (8, 8), 200).save(old / "image.png")
    said = command("commands.predict", "finished", "image.png", "--json")
    assert said.returncode == 0, said.stderr
    assert len(json.loads(said.stdout)["images"][0]["probabilities"]) == 10


def test_an_interrupted_run_goes_on_and_another_one_is_refused(command: Command, project: Path, old: Path) -> None:
    said = command("commands.train", "resume=interrupted", "optim.momentum=0.5")
    assert said.returncode == 2 and "the settings differ from the run's (optim.momentum: 0.9 -> 0.5)" in said.stderr
    if project != ROOT:
        said = command("commands.train", "resume=interrupted", "trainer.zeal=2")
        assert said.returncode == 2 and "the settings differ from the run's (trainer.zeal: 1.0 -> 2)" in said.stderr
    said = command("commands.train", "resume=interrupted")
    assert said.returncode == 0, said.stderr
    assert said.stderr.count(MEANING) == 1
    record = json.loads((old / "interrupted" / "record.json").read_text())
    assert record["status"] == "ok" and record["epochs"] == 200 and record["steps"] == 1400
    with (old / "interrupted" / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert steps == [7 * epoch for epoch in range(1, 201)]
    by_images = EventAccumulator(str(old / "interrupted" / "by_images"), {"scalars": 0})
    by_images.Reload()
    images = [point.step for point in by_images.Scalars("by_images/val/acc")]
    assert images == [200 * epoch for epoch in range(1, 201)], "its curves against images seen went on, too"


def test_a_sweeps_finished_jobs_are_kept_and_its_stopped_ones_go_on(command: Command, old: Path) -> None:
    sweep = old / "sweeps" / "sweep"
    done = (sweep / DONE / "record.json").read_bytes()
    said = command("commands.train", "-m", *WORDS, "optim.name=adam", "seed=0")
    assert said.returncode == 0, said.stderr
    assert "2 jobs, 1 of them done before" in said.stdout and MEANING in said.stdout
    assert MEANING in (sweep / STOPPED / "train.log").read_text() and MEANING in (sweep / "report.html").read_text()
    assert (sweep / DONE / "record.json").read_bytes() == done
    record = json.loads((sweep / STOPPED / "record.json").read_text())
    assert record["status"] == "ok" and record["epochs"] == 300
    assert (sweep / STOPPED / ".hydra-resume-1").is_dir(), "it went on, it did not begin again"
    said = command("commands.train", "-m", *WORDS, "optim.name=adam", "seed=0")
    assert STOPPED in (sweep / "report.html").read_text() and said.returncode == 0
    names = {path.parent.name for path in sweep.glob("*/record.json")}
    assert names == {DONE, STOPPED}, "nothing was trained anew under another name"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_sweep_is_resumed_by_its_folder(command: Command, old: Path) -> None:
    said = command("commands.train", "resume=sweeps/sweep", "sweep.n_jobs=2")
    assert said.returncode == 0, said.stderr
    assert "8 jobs, 1 of them done before" in said.stdout
    records = [json.loads(path.read_text()) for path in (old / "sweeps" / "sweep").glob("*/record.json")]
    assert len(records) == 8 and {record["status"] for record in records} == {"ok"}


def test_what_of_an_old_sweep_has_not_begun_stays_in_its_plan(old: Path) -> None:
    """If a job's settings can't be read, the sweep leaves that job out and continues with the others."""
    sweep, words = old / "sweeps" / "sweep", ("model=flatnet", "data=synthetic", "data.shape=[1,8,8]")
    (sweep / STOPPED / ".hydra" / "config.yaml").write_text("- not a mapping")
    plan = json.loads((sweep / "sweep.json").read_text())
    typed = [job["overrides"] for job in plan["jobs"] if job["name"] == DONE or "optim.name=sgd" in job["overrides"]]
    assert len(typed) == 5 and words[0] in typed[0]
    composed_ = [(overrides, composed(*overrides)) for overrides in typed]
    jobs = write_plan(sweep, make_jobs(composed_), [*WORDS, "optim.name=adam,sgd", "seed=0,1"], [])
    after = json.loads((sweep / "sweep.json").read_text())
    assert sorted(job["name"] for job in after["jobs"]) == sorted(job["name"] for job in plan["jobs"])
    assert {job.name for job in jobs} <= {job["name"] for job in plan["jobs"]}
    assert write_plan(sweep, make_jobs(composed_), WORDS, [])[0].name == jobs[0].name, "and now by the new hashes"


def test_a_sweep_is_reported(command: Command, old: Path) -> None:
    said = command("sweep.report", "sweeps/sweep")
    assert said.returncode == 0, said.stderr
    with (old / "sweeps" / "sweep" / "summary.csv").open(newline="") as file:
        statuses = [row["status"] for row in csv.DictReader(file)]
    assert sorted(statuses) == ["interrupted", "ok", *["queued"] * 6]
