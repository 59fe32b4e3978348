"""Tests that the wheel has the configs and that its console script finds them from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import SMALL

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.mark.slow
def test_the_wheel_holds_the_configs_and_its_script_finds_them(tmp_path: Path) -> None:
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("dlintro-*.whl")
    scripts = str(Path(sys.executable).parent)  # finds the installed packages
    names = zipfile.ZipFile(wheel).namelist()
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert "conf/train.yaml" in ours
    assert ours <= {name.removeprefix("dlintro/") for name in names}
    assert "hydra_plugins/__init__.py" not in names  # with one, other plug-ins vanish

    installed = tmp_path / "installed"
    subprocess.run([*PIP, "install", "--no-deps", "--target", installed, wheel], check=True)
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("DLINTRO_OUTPUTS", None)

    def run(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        words = (sys.executable, str(installed / "bin" / name), *words)
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)

    help_text = run("dlintro-train", "--help")
    assert help_text.returncode == 0, help_text.stderr
    assert "data.batch_size" in help_text.stdout
    assert not (tmp_path / "outputs").exists()

    listed = run("dlintro-runs")
    assert listed.returncode == 0 and listed.stdout.startswith("There are no runs in outputs yet. dlintro-train ")

    trained = run("dlintro-train", *SMALL, "model=flatnet", "trainer.max_steps=1")
    assert trained.returncode == 0, trained.stderr
    advice = trained.stdout.split("\nnext\n", 1)[1].split("\nrun: ", 1)[0].splitlines()
    commands = {line.split()[0] for line in advice if line.startswith("    ")}
    assert {"dlintro-evaluate", "dlintro-tensorboard"} <= commands
    assert all((installed / "bin" / name).is_file() or shutil.which(name, path=scripts) for name in commands), commands
