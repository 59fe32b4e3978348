"""Tests those of CONTRIBUTING's rules that a machine can check."""

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


# Each room and what it may import besides itself; all may import `errors`, `text`, `terminal`, `reader`, `version`.
ROOMS = {
    "settings": "accelerators",
    "data": "settings accelerators memory",
    "callbacks": "memory target",
    "models": "settings callbacks.interval data.cache data.download",
    "run": "settings data models callbacks accelerators memory target",
    "sweep": "settings run command data models accelerators target",
    "commands": "settings run sweep command data models callbacks accelerators",
    "benchmark": "settings run commands command data models callbacks accelerators memory bare_loop",
    "claims": "run command data models callbacks accelerators memory bare_loop sweep.report commands.devices",
}
HYDRA = ("settings/compose.py", "run/parts.py", "sweep/launch.py")
HYDRA += tuple(f"commands/{name}.py" for name in ("train", "hydra_call", "folders"))


def test_imports_run_one_way() -> None:
    for path in SRC.rglob("*.py"):
        name, found = path.relative_to(SRC), imports(path)
        ours = {module.removeprefix("dlintro.") for module in found if module.startswith("dlintro.")}
        room = name.parts[0]
        if room in ROOMS:
            allowed = (room, "errors", "text", "reader", "version", "terminal", *ROOMS[room].split())
            assert [module for module in ours if not module.startswith(allowed)] == [], name
        if str(name) not in HYDRA:
            assert not any(module.split(".")[0] in ("hydra", "omegaconf") for module in found), name


def test_below_the_settings_nobody_sees_a_configuration() -> None:
    """Models, data and callbacks take plain arguments; from the settings they import only Optim and the rows."""
    for room in ("data", "models", "callbacks"):
        for path in (SRC / room).rglob("*.py"):
            assert "dlintro.settings.keys.Settings" not in imports(path), path


def test_no_modules_import_each_other_in_a_circle() -> None:
    paths = {path.relative_to(SRC.parent).with_suffix(""): path for path in SRC.rglob("[!_]*.py")}
    modules = {".".join(name.parts): path for name, path in paths.items()}
    arrows = {name: imports(path) & modules.keys() - {name} for name, path in modules.items()}
    while free := {name for name, targets in arrows.items() if not targets}:
        arrows = {name: targets - free for name, targets in arrows.items() if name not in free}
    assert arrows == {}


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
        # Hydra's own header must come first
        assert re.match(rf"# @package _global_\n# scripts/train {group}={path.stem}( model=\w+)?\n", text), path
        assert yaml.safe_load(text), path
