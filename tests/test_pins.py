"""Tests that known bad releases are neither pinned nor allowed."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
BAD = {  # releases, and why
    "lightning": ("<2.6.6", "2.6.2 and 2.6.3 were malicious uploads; CVE-2026-58659"),
    "pytorch-lightning": ("<2.6.6", "the same code under the old name"),
    "hydra-core": ("<1.3.8", "CVE-2026-68508: instantiate runs what a config names"),
    "torch": ("<2.6", "CVE-2025-32434: weights_only=True ran code all the same"),
    "tensorboard": ("<2.21", "ends with an ImportError beside setuptools 82"),
    "pillow": ("<11.3", "CVE-2025-48379: a heap overflow in writing DDS files"),
    "jinja2": ("<3.1.6", "CVE-2025-27516: the sandbox is left through |attr"),
    "pyyaml": ("<5.4", "CVE-2020-14343: the full loader runs code"),
    "werkzeug": ("<3.0.6", "CVE-2024-49767: a form fills the memory"),
    "setuptools": ("<78.1.1", "CVE-2025-47273: a path traversal"),
    "aiohttp": ("<3.12.14", "CVE-2025-53643: request smuggling"),
    "protobuf": ("<5.29.5", "CVE-2025-4565: endless recursion"),
}
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().lower().split() if "==" in line)
RANGES = [Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]]


@pytest.mark.parametrize("name", BAD)
def test_no_pin_is_known_to_be_bad(name: str) -> None:
    bad, why = BAD[name]
    assert name in PINS, "no longer installed: take its row out"
    assert PINS[name] not in SpecifierSet(bad), why


@pytest.mark.parametrize("requirement", RANGES, ids=lambda requirement: requirement.name)
def test_a_range_begins_above_what_is_known_to_be_bad_and_its_pin_lies_in_it(requirement: Requirement) -> None:
    name = requirement.name.lower()
    assert PINS[name] in requirement.specifier
    if name in BAD:
        (least,) = re.findall(r">=([\d.]+)", str(requirement.specifier))
        assert least not in SpecifierSet(BAD[name][0])
