"""Finding the claims: a file `slides/NAME.py` each, in the order of deck.csv. Nobody lists them."""

import csv
import difflib
import hashlib
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from dlintro.claims.claim import Claim
from dlintro.errors import UsageError

if TYPE_CHECKING:
    from dlintro.claims.bench import Bench

PACKAGE = Path(__file__).parents[1]
SLIDES = PACKAGE / "claims" / "slides"
DECK = PACKAGE / "claims" / "deck.csv"


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
    """All claims, in the course's order: as deck.csv has them; one that the course doesn't have comes last."""
    with DECK.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def place(name: str) -> int:
        """That of its own slide before one where another slide only touches on it."""
        own = load(name).CLAIM.slide.split("; ")
        found = [(n, row["slide"]) for n, row in enumerate(rows) if re.match(rf"{name}\b", row["experiment"])]
        mine = [n for n, slide in found if slide in own] or [n for n, _ in found]
        return min(mine, default=len(rows))

    return {name: load(name) for name in sorted(names(), key=place)}


def code_hash(name: str) -> str:
    """A hash of the claim's file and the code that it measures with: where one changes, the claim is measured anew."""
    folders = [PACKAGE / part for part in ("models", "data", "callbacks")]
    files = [SLIDES / f"{name}.py", PACKAGE / "claims" / "bench.py", PACKAGE / "bare_loop.py"]
    files += [PACKAGE / "settings" / "keys.py"]  # Optim
    files += sorted(path for folder in folders for path in folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
