"""What a claim's file holds, and finding the files.

A file `slides/NAME.py` has CLAIM, the claim as data; `measure(bench)`, the experiment; and `falsify(bench)`, the same
experiment where the claim is made false (the arms alike, the identity broken), which tests use: no statement may hold
there. torch is imported inside the functions: a list of the claims is there in a fraction of a second.
"""

import difflib
import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from dlintro.claims.statements import Statement
from dlintro.errors import UsageError

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

PACKAGE = Path(__file__).parents[1]
SLIDES = PACKAGE / "claims" / "slides"
QUICK_SEEDS = 3
FIRST_SEED = 1000  # those before it may have been looked at while settings were chosen; verdicts are of others


@dataclass(frozen=True)
class Student:
    """Three lines at the end of an experiment."""

    predict: str  # before it is run
    change: str  # one thing, and where
    expected: str  # what is seen then


@dataclass(frozen=True)
class Claim:
    """A statement of the course, or several that one experiment shows."""

    number: int  # its place in the course
    title: str
    slide: str  # the slide's title
    says: str  # in our words
    kind: str  # "identity", "measured" or both
    seconds: int  # that it takes on 2 cores, about
    statements: tuple[Statement, ...]
    student: Student
    seeds: int = 1  # n
    notes: tuple[str, ...] = ()  # what the slide leaves open, slips, sources


class Experiment(Protocol):
    """A claim's file."""

    CLAIM: Claim

    def measure(self, bench: "Bench") -> None: ...

    def falsify(self, bench: "Bench") -> None: ...


def names() -> list[str]:
    return sorted(path.stem for path in SLIDES.glob("[!_]*.py"))


def load(name: str) -> Experiment:
    """UsageError where there is no such claim."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"{name}: there is no such claim; {hint}scripts/claims list shows them")
    return cast(Experiment, importlib.import_module(f"dlintro.claims.slides.{name}"))


def experiments() -> dict[str, Experiment]:
    """All claims, in the course's order."""
    found = {name: load(name) for name in names()}
    return dict(sorted(found.items(), key=lambda item: (item[1].CLAIM.number, item[0])))


def code_hash(name: str) -> str:
    """Of the claim's file and of the code that it measures with: what was measured by other code is measured anew."""
    folders = [PACKAGE / part for part in ("models", "data", "callbacks")]
    files = [SLIDES / f"{name}.py", PACKAGE / "claims" / "bench.py", PACKAGE / "bare_loop.py"]
    files += sorted(path for folder in folders for path in folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
