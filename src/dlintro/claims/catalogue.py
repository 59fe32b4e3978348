"""Finds the claims, one file `slides/NAME.py` each, and sorts them in the order of deck.csv."""

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
    """A claim's file, as a module."""

    CLAIM: Claim

    def measure(self, bench: "Bench") -> None: ...

    def falsify(self, bench: "Bench") -> None: ...


def names() -> list[str]:
    return sorted(path.stem for path in SLIDES.glob("[!_]*.py"))


def load(name: str) -> Experiment:
    """Import a claim's file. Raises UsageError if there is no such claim."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"; did you mean {near[0]}?" if near else "; `scripts/claims list` shows all claims"
        raise UsageError(f"{name}: there is no such claim{hint}")
    return cast(Experiment, importlib.import_module(f"dlintro.claims.slides.{name}"))


def experiments() -> dict[str, Experiment]:
    """Return all claims in the order of deck.csv; a claim that isn't in it comes last."""
    with DECK.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def place(name: str) -> int:
        """Return the row of the claim's own slide; rows of other slides that mention it count only without one."""
        own = load(name).CLAIM.slide.split("; ")
        found = [(n, row["slide"]) for n, row in enumerate(rows) if re.match(rf"{name}\b", row["experiment"])]
        mine = [n for n, slide in found if slide in own] or [n for n, _ in found]
        return min(mine, default=len(rows))

    return {name: load(name) for name in sorted(names(), key=place)}


def code_hash(name: str) -> str:
    """Return a hash of the claim's file and of the code it measures with. If it changes, the claim is measured anew."""
    folders = [PACKAGE / part for part in ("models", "data", "callbacks")]
    files = [SLIDES / f"{name}.py", PACKAGE / "claims" / "bench.py", PACKAGE / "bare_loop.py"]
    files += [PACKAGE / "settings" / "keys.py"]  # Optim
    files += sorted(path for folder in folders for path in folder.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
