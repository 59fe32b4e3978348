"""Tests scripts/claims as a user types it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlintro.claims import catalogue as claims
from dlintro.claims.guards import held_exchanged
from dlintro.claims.measurements import read
from dlintro.claims.statements import VERDICTS
from tests.claims.test_guards import ASK_FOR_A_GPU

WORDS = [sys.executable, "-m", "dlintro.claims.command"]


def command(*words: str, outputs: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DLINTRO_OUTPUTS": str(outputs)}
    return subprocess.run([*WORDS, *words], env=environment, capture_output=True, text=True, check=False)


def result(outputs: Path, name: str) -> dict[str, object]:
    return json.loads((outputs / "claims" / name / "verdict.json").read_text())


def test_the_list_names_every_claim_without_torch(tmp_path: Path) -> None:
    done = command("list", outputs=tmp_path)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    for name in claims.names():
        assert name in done.stdout.split()
    code = "import sys; from dlintro.claims.command import main; main(['list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("batchin",), "did you mean batching?"),
        (("--slow",), "--help"),
        (("verdict",), "verdict DIR"),
        (("verdict", "nowhere"), "nowhere"),
        (("verdict", "."), "measurements.csv"),
        (("accelerator=tpu",), "accelerator=tpu"),
        (("batching", "model=flatnet"), "model=flatnet"),
    ],
)
def test_a_slip_is_one_line_and_measures_nothing(words: tuple[str, ...], hint: str, tmp_path: Path) -> None:
    done = command(*words, outputs=tmp_path / "outputs")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.startswith("dlintro: ") and len(done.stderr.splitlines()) == 1 and hint in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Measure one claim."""
    outputs = tmp_path_factory.mktemp("outputs")
    done = command("batching", outputs=outputs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("report: ")
    return outputs


def test_a_claim_leaves_measurements_verdict_pictures_and_a_report(outputs: Path) -> None:
    folder = outputs / "claims" / "batching"
    assert {"measurements.csv", "verdict.json", "sizes.png", "sizes.svg"} <= {path.name for path in folder.iterdir()}
    assert any(path.name.startswith("events.out.tfevents") for path in folder.iterdir())
    assert result(outputs, "batching")["verdict"] == "holds"
    assert (outputs / "claims" / "report.html").stat().st_size > 10_000


def test_what_was_measured_is_not_measured_again_but_on_demand(outputs: Path) -> None:
    measurements = outputs / "claims" / "batching" / "measurements.csv"
    before = measurements.stat().st_mtime_ns
    done = command("batching", "--quick", outputs=outputs)
    assert done.returncode == 0 and "--again" in done.stdout and measurements.stat().st_mtime_ns == before
    done = command("batching", "--again", outputs=outputs)
    assert done.returncode == 0 and measurements.stat().st_mtime_ns > before
    (kept,) = (outputs / "claims" / "earlier").iterdir()
    assert (kept / "measurements.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("edited", "anew"),
    [
        ("claims/slides/batching.py", True),
        ("models/mnist_cnn.py", True),
        ("data/split.py", True),
        ("settings/keys.py", True),
        ("run/screen.py", False),
    ],
)
def test_what_other_code_measured_is_measured_anew(
    edited: str, anew: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = claims.code_hash("batching")
    copy = Path(shutil.copytree(claims.PACKAGE, tmp_path / "dlintro"))
    monkeypatch.setattr(claims, "PACKAGE", copy)
    monkeypatch.setattr(claims, "SLIDES", copy / "claims" / "slides")
    assert claims.code_hash("batching") == before
    (copy / edited).write_text((copy / edited).read_text() + "\n")
    assert (claims.code_hash("batching") != before) == anew


def test_a_verdict_follows_its_measurements(outputs: Path, tmp_path: Path) -> None:
    """The verdict is computed from measurements.csv alone: elsewhere, under another name, and despite verdict.json."""
    folder = tmp_path / "anything"
    folder.mkdir()
    text = (outputs / "claims" / "batching" / "measurements.csv").read_text()
    (folder / "measurements.csv").write_text(text)
    done = command("verdict", str(folder), outputs=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("batching: holds\n")
    (folder / "verdict.json").write_text(json.dumps({"verdict": "holds"}))
    (folder / "measurements.csv").write_text(text.replace("batching,batches,,0,313.0", "batching,batches,,0,312.0"))
    done = command("verdict", str(folder), outputs=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("batching: does not hold here; verdict.json says holds\n")


def test_claims_made_false_are_measured_beside_the_real_ones(outputs: Path) -> None:
    before = (outputs / "claims" / "batching" / "measurements.csv").stat().st_mtime_ns
    done = command("batching", "flatten", "--falsified", outputs=outputs)
    assert (done.returncode, done.stdout) == (0, "batching: nothing holds\nflatten: nothing holds\n"), done.stderr
    assert (outputs / "claims" / "batching" / "measurements.csv").stat().st_mtime_ns == before
    assert (outputs / "claims" / "falsified" / "batching" / "measurements.csv").is_file()


def test_a_file_that_holds_no_measurements_is_named(tmp_path: Path) -> None:
    (tmp_path / "measurements.csv").write_text("claim,quantity,arm,seed,value,expected,outcomes\nbatching,x,,one,2,,\n")
    done = command("verdict", str(tmp_path), outputs=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "measurements.csv" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_stopped_experiment_goes_on(tmp_path: Path) -> None:
    environment = os.environ | {"DLINTRO_OUTPUTS": str(tmp_path)}
    folder = tmp_path / "claims" / "nonlinearity"
    cells = folder / "cells.csv"
    with subprocess.Popen([*WORDS, "nonlinearity", "--quick"], env=environment, stderr=subprocess.PIPE) as running:
        while running.poll() is None and not (cells.is_file() and cells.read_text().count("\n") > 3):
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        running.communicate()
    assert running.returncode == 130
    before, measurements = cells.read_text(), folder / "measurements.csv"
    done = command("nonlinearity", "--quick", outputs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert measurements.read_text().startswith(before) and not cells.exists()
    csv.field_size_limit(2**27)
    with measurements.open(newline="") as file:
        rows = [(row["quantity"], row["arm"], row["seed"]) for row in csv.DictReader(file)]
    assert len(rows) == len(set(rows))
    assert not (tmp_path / "claims" / "earlier").exists()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_quick_measures_claims_and_their_verdicts_can_be_recomputed(tmp_path: Path) -> None:
    """This measures the claims of at most 30 seconds. test_guards trains the others, and `scripts/claims` treats all
    alike."""
    names = [name for name, experiment in claims.experiments().items() if experiment.CLAIM.seconds <= 30]
    assert len(names) > 15
    done = command("--quick", *names, outputs=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "available" not in done.stderr and len(done.stderr) < 5_000  # Lightning would print it for each training
    for name in names:
        found = result(tmp_path, name)
        assert found["verdict"] in VERDICTS and found["setting"]["quick"] is True, found
        assert name in ASK_FOR_A_GPU or all(statement["measured"] for statement in found["statements"]), found
        assert held_exchanged(claims.load(name).CLAIM, read(tmp_path / "claims" / name / "measurements.csv")) == []
    again = command("verdict", str(tmp_path / "claims"), outputs=tmp_path)
    assert again.returncode == 0, again.stdout
    page = (tmp_path / "claims" / "report.html").read_text()
    for name in names:
        assert claims.load(name).CLAIM.title.split("'")[0] in page
