"""Follows CONTRIBUTING's instructions literally in a copy. The command names each step that is still missing."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.checkout import ROOT, Command, command_of, copied

TINY = ("trainer.max_epochs=1", "accelerator=cpu", "threads=1")
Step = Callable[[], None]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copied(tmp_path / "project")


@pytest.fixture
def command(project: Path, tmp_path: Path) -> Command:
    return command_of(project, tmp_path)


def steps(title: str, project: Path) -> dict[str, Step]:
    """Return what the page says under the title: file -> the text that writes or changes it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {title}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section
    found: dict[str, Step] = {}
    for item in re.split(r"^\d\. ", section[1], flags=re.MULTILINE)[1:]:
        name = re.match(r"`(.*?)`", item)
        assert name
        file = project / name[1]
        if block := re.search(r"```\w+\n(.*?)```", item, re.DOTALL):
            found[name[1]] = lambda file=file, content=block[1]: file.write_text(content, encoding="utf-8")  # type: ignore[misc]
            continue
        change = re.search(r"`([^`]+)` becomes `([^`]+)`", item)
        assert change

        def edit(file: Path = file, old: str = change[1], new: str = change[2]) -> None:
            source = file.read_text(encoding="utf-8")
            assert source.count(old) == 1
            file.write_text(source.replace(old, new), encoding="utf-8")

        found[name[1]] = edit
    assert len(found) == 3
    return found


def test_a_model_is_added(project: Path, command: Command, tmp_path: Path) -> None:
    code, yaml, row = steps("Adding a model", project).values()
    words = ("model=lenet5", "data=synthetic", "data.shape=[1,28,28]", "data.train_size=100", *TINY)

    def missing(*said: str) -> None:
        done = command("commands.train", *words)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert all(word in done.stderr for word in said), done.stderr

    missing("model=lenet5: there is no such option")
    code()
    missing("models/lenet5.py has no conf/model/lenet5.yaml yet")
    yaml()
    line = (project / "src/dlintro/settings/keys.py").read_text().split("\n    dropout: float")[0].count("\n") + 2
    missing("conf/model/lenet5.yaml sets model.dropout: add 'lenet5' to `only`", f"settings/keys.py, line {line}")
    row()
    config = project / "conf/model/lenet5.yaml"
    right = config.read_text()
    config.write_text(right.replace("LeNet5", "LeNet"))
    missing("conf/model/lenet5.yaml: _target_: dlintro.models.lenet5.LeNet:", "lenet5.py has LeNet5")
    config.write_text(right + "kernels: 5\n")
    missing(
        "conf/model/lenet5.yaml sets model.kernels, which has no row: add one", "class Model of", "settings/keys.py"
    )
    config.write_text(right)
    assert not list(tmp_path.glob("runs/*"))
    trained = command("commands.train", *words, "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    assert command("commands.evaluate", "run").returncode == 0
    Image.new("L", (28, 28), 0).save(tmp_path / "image.png")
    done = command("commands.predict", "run", "image.png", "--json")
    assert done.returncode == 0 and '"LeNet5"' in done.stdout, done.stderr
    assert "\n  model=file | flatnet | lenet5 | " in command("commands.train", "--help").stdout


@pytest.mark.slow
def test_a_data_set_is_added(project: Path, command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {"train": 60, "test": 20}
    arrays = {f"x_{split}": rng.integers(0, 256, (num, 9, 8, 3), np.uint8) for split, num in sizes.items()}
    np.savez(tmp_path / "set.npz", **arrays, **{f"y_{split}": np.arange(num) % 4 for split, num in sizes.items()})
    code, yaml, row = steps("Adding a data set", project).values()
    words = ("data=npz", "model=flatnet", "data.batch_size=16", *TINY)

    def missing(*said: str) -> None:
        done = command("commands.train", *words, "data.path=set.npz")
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert all(word in done.stderr for word in said), done.stderr

    code()
    missing("data/npz.py has no conf/data/npz.yaml yet")
    yaml()
    missing(
        "conf/data/npz.yaml sets data.path: add 'npz' to `only` of its row", "class Data of", "settings/keys.py, line"
    )
    row()
    source = project / "src/dlintro/data/npz.py"
    right = source.read_text()
    source.write_text(right.replace('names = ("npz",)', 'names = ("numpy",)'))
    missing("data=npz: no class in", "has names = ('npz',)")
    source.write_text(right)
    done = command("commands.train", *words)
    assert done.returncode == 2 and "data=npz needs data.path=DIR" in done.stderr
    trained = command("commands.train", *words, "data.path=set.npz", "hydra.run.dir=run")
    assert trained.returncode == 0, trained.stderr
    done = command("commands.evaluate", "run", "--json")
    assert done.returncode == 0 and '"images": 20' in done.stdout, done.stderr


@pytest.mark.slow
def test_the_pages_code_is_typed_and_formatted(project: Path) -> None:
    for title in ("Adding a model", "Adding a data set"):
        for step in steps(title, project).values():
            step()
    new = [project / "src/dlintro/models/lenet5.py", project / "src/dlintro/data/npz.py"]
    for tool in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        option = "--config-file" if tool[0] == "mypy" else "--config"
        done = subprocess.run(
            [sys.executable, "-m", *tool, option, ROOT / "pyproject.toml", *new],
            capture_output=True,
            text=True,
            env=os.environ | {"MYPYPATH": str(project / "src"), "MYPY_CACHE_DIR": str(project / ".mypy_cache")},
        )
        assert done.returncode == 0, done.stdout + done.stderr
