"""Tests notebooks: the tour, commands in cells, and several trainings in one kernel."""

import os
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "conf" / "experiment" / "tour.ipynb"


def executed(notebook: nbformat.NotebookNode, folder: Path, seconds: int) -> list[str]:
    """Return what each code cell printed, with "PNG" for a picture. Raises if a cell does."""
    nbclient.NotebookClient(notebook, timeout=seconds, resources={"metadata": {"path": str(folder)}}).execute()
    printed = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            outputs = cell.outputs
            printed.append("".join("PNG" if "image/png" in o.get("data", ()) else o.get("text", "") for o in outputs))
    return printed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tour_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")  # a server may set this; pictures must still appear
    monkeypatch.setenv("COLUMNS", "200")  # 80 columns would cut the long path of a test's folder
    start, train, curves, unsure, predict, change, sweep, report = executed(
        nbformat.read(TOUR, as_version=4), TOUR.parent, 500
    )
    assert start == ""
    assert "test accuracy" in train and f"run: {tmp_path}" in train
    assert curves == unsure == "PNG"
    assert "digit.png" in predict and "7" in predict
    linear, hidden = (
        float(line.split("accuracy ")[1].split(" %")[0]) for line in change.splitlines() if "test acc" in line
    )
    assert 90 < linear < 94 < hidden
    assert "[6/6]  ok" in sweep and "\x1b[1A" not in sweep  # plain lines instead of a redrawn table
    assert report.count("± ") == 3 and "PNG" in report


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_kernel_trains_again_and_again_with_workers(tmp_path: Path) -> None:
    setup = """
import lightning as L, torch
torch.set_num_threads(1)
from dlintro.data import ImageDataModule
from dlintro.models import FlatNet
quiet = dict(accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, logger=False)
data = ImageDataModule("synthetic", shape=(1, 8, 8), train_size=200, batch_size=32, num_workers=2)
"""
    fit = """
torch.manual_seed(0)
model, trainer = FlatNet((1, 8, 8)), L.Trainer(max_epochs=20, **quiet)
trainer.fit(model, data)
print(trainer.validate(model, data, verbose=False)[0]["val/acc"], trainer.global_step)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in (setup, fit, fit, fit)])
    printed = executed(notebook, tmp_path, 200)
    first, *others = [text.splitlines()[-1] for text in printed[1:]]
    accuracy, steps = first.split()
    assert float(accuracy) > 0.3 and steps == "140"
    assert others == [first] * 2  # nothing of an earlier training is left in the kernel


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_command_minds_the_callers_matplotlib_backend(tmp_path: Path) -> None:
    backend = "module://nowhere.backend_inline"  # a Jupyter kernel of another environment sets such a name
    environment = os.environ | {"MPLBACKEND": backend, "DLINTRO_OUTPUTS": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def call(command: str, *words: str) -> str:
        done = subprocess.run(
            [Path(sys.executable).with_name(f"dlintro-{command}"), *words],
            capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ("data=synthetic", "data.shape=[1,8,8]", "data.train_size=200", "trainer.max_epochs=1", "model=flatnet")
    call("train", *small, "accelerator=cpu", f"hydra.run.dir={tmp_path / 'run'}")
    call("evaluate", "run")
    call("train", "-m", *small, "seed=0,1", "sweep.name=two")
    call("report", "sweeps/two")
    call("claims", "--quick", "batching")
