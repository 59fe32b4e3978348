"""CONTRIBUTING's rules that a machine can check."""

import ast
import re
from pathlib import Path

import pytest
import yaml

SRC = Path(__file__).parents[1] / "src" / "dlintro"
ROOT = SRC.parents[1]


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_imports_run_one_way() -> None:
    for path in SRC.rglob("*.py"):
        name, found = str(path.relative_to(SRC)), imports(path)
        ours = {module for module in found if module.startswith("dlintro.")}
        if name.startswith("data/"):
            allowed = ("dlintro.data", "dlintro.errors", "dlintro.settings", "dlintro.accelerators", "dlintro.memory")
            assert all(module.startswith(allowed) for module in ours), name
        elif name.startswith("models/"):
            allowed = ("dlintro.models", "dlintro.errors", "dlintro.settings", "dlintro.callbacks.interval")
            assert all(module.startswith(allowed) for module in ours), name
        elif name.startswith("callbacks/"):
            allowed = ("dlintro.callbacks", "dlintro.command", "dlintro.errors", "dlintro.memory")
            assert all(module.startswith(allowed) for module in ours), name
        if name not in ("run/parts.py", "commands/train.py", "sweep/launch.py", "settings/compose.py"):
            assert not any(module.split(".")[0] in ("hydra", "omegaconf") for module in found), name


def test_no_device_is_named_outside_the_device_listing_and_the_table() -> None:
    named_in = set()
    for path in SRC.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in ("cuda", "mps", "xpu", "hip"):
                named_in.add(path.name)
            if isinstance(node, ast.Attribute) and node.attr in ("cuda", "is_cuda", "mps"):
                named_in.add(path.name)
    assert named_in == {"accelerators.py", "devices.py", "keys.py"}


def test_nothing_is_unpickled() -> None:
    for path in SRC.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "pickle.load" not in source, path
        for call in re.findall(r"torch\.load\([^)]*\)", source):
            assert "weights_only=True" in call, (path, call)


@pytest.mark.parametrize("group", ["experiment", "sweep"])
def test_an_experiment_file_begins_with_the_command_that_runs_it(group: str) -> None:
    files = list((ROOT / "conf" / group).glob("*.yaml"))
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        # Hydra wants its own header first
        assert re.match(rf"# @package _global_\n# scripts/train {group}={path.stem}( model=\w+)?\n", text), path
        assert yaml.safe_load(text), path
