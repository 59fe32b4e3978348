"""The wheel carries the configs, and its console script finds them from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


@pytest.mark.slow
def test_the_wheel_holds_the_configs_and_its_script_finds_them(tmp_path: Path) -> None:
    subprocess.run([*PIP, "wheel", "--no-deps", "-w", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("dlintro-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert "conf/train.yaml" in ours
    assert ours <= {name.removeprefix("dlintro/") for name in names}
    assert "hydra_plugins/__init__.py" not in names  # with one, other plug-ins vanish

    installed = tmp_path / "installed"
    subprocess.run([*PIP, "install", "--no-deps", "--target", installed, wheel], check=True)
    help_text = subprocess.run(
        [sys.executable, installed / "bin" / "dlintro-train", "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert help_text.returncode == 0, help_text.stderr
    assert "data.batch_size" in help_text.stdout
    assert not (tmp_path / "outputs").exists()
