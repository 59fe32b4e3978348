"""Reads and writes the rows of measurements.csv. Verdicts are computed from these rows alone.

n runs (seeds) of an arm; N outcomes of a run (one per test image, say).
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dlintro.errors import RunError

Numbers = NDArray[np.float64]
DIVERGED = "diverged"  # a quantity: 1 for a run whose training diverged; it stays in as it ended
LONGEST_FIELD = 2**27  # characters; csv's default limit is too small for 10,000 losses


@dataclass(frozen=True)
class Row:
    """One measured value. `arm` names the setting ("ReLU") if the experiment compares some. `expected` is what an
    identity must give. `outcomes` are the value's parts, one per image, if an interval needs them; the value is their
    mean."""

    claim: str
    quantity: str
    arm: str
    seed: int
    value: float
    expected: float | None = None
    outcomes: tuple[float, ...] = ()


COLUMNS = tuple(field.name for field in fields(Row))


class Measurements:
    """The rows of one experiment, in the order in which they were measured."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self.rows = list(rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def of(self, quantity: str, arm: str | None = None) -> list[Row]:
        """Return the rows of a quantity (and of an arm), sorted by seed."""
        found = [row for row in self.rows if row.quantity == quantity and arm in (None, row.arm)]
        return sorted(found, key=lambda row: row.seed)

    def values(self, quantity: str, arm: str | None = None) -> Numbers:
        """Return the values in the order of the seeds: (n,)."""
        return np.array([row.value for row in self.of(quantity, arm)])

    def arms(self, quantity: str) -> list[str]:
        return list(dict.fromkeys(row.arm for row in self.rows if row.quantity == quantity))


def read(path: Path) -> Measurements:
    """Read measurements.csv. Raises RunError if the file can't be read or holds something else."""
    csv.field_size_limit(LONGEST_FIELD)
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return Measurements(from_text(cells) for cells in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise RunError(f"{path}: can't read measurements from this file ({type(error).__name__}: {error})") from error


def from_text(cells: dict[str, str]) -> Row:
    return Row(
        cells["claim"],
        cells["quantity"],
        cells["arm"],
        int(cells["seed"]),
        float(cells["value"]),
        float(cells["expected"]) if cells["expected"] else None,
        tuple(map(float, cells["outcomes"].split())),
    )


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the file atomically: write another file beside it, then rename that."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    append(partial, rows)
    partial.replace(path)


def append(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to the file. Creates the file, with its header, if there is none."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        for row in rows:  # csv writes a float's repr, so the same number is read back
            outcomes = " ".join(f"{value:.6g}" for value in row.outcomes)
            writer.writerow(
                asdict(row) | {"expected": "" if row.expected is None else row.expected, "outcomes": outcomes}
            )
