"""Judges experiments that were made false, and effects whose arms are exchanged: nothing may hold there.

`scripts/claims --falsified` and the tests use it.
"""

import shutil
from pathlib import Path

from dlintro.claims.bench import Bench
from dlintro.claims.catalogue import Experiment
from dlintro.claims.claim import Claim
from dlintro.claims.measurements import Measurements, read
from dlintro.claims.statements import HOLDS, NOT_MEASURED
from dlintro.claims.verdict import exchanged


def measure_falsified(bench: Bench, experiment: Experiment) -> Measurements:
    """Measure the claim made false, from the start, into the bench's folder."""
    shutil.rmtree(bench.folder, ignore_errors=True)
    bench.folder.mkdir(parents=True)
    experiment.falsify(bench)
    bench.finish()
    return read(bench.folder / "measurements.csv")


def held(claim: Claim, falsified: Measurements) -> list[str]:
    """Name the statements that hold in the falsified experiment, or lack the verdict that it plants."""
    found = []
    for statement in claim.statements:
        verdict = statement.judge(falsified).verdict
        right = verdict == statement.falsified if statement.falsified else verdict != HOLDS
        if not right and verdict != NOT_MEASURED:
            found.append(f"{verdict} although it was made false: {statement.says}")
    return found


def held_exchanged(claim: Claim, measurements: Measurements) -> list[str]:
    """Name the effects that hold in an experiment and still do when its arms are exchanged."""
    found = []
    for statement in claim.statements:
        other = exchanged(statement)
        if other is not None and statement.judge(measurements).verdict == other.judge(measurements).verdict == HOLDS:
            found.append(f"holds with its arms exchanged, too: {statement.says}")
    return found


def wrong(bench: Bench, experiment: Experiment, real: Path) -> list[str]:
    """Measure the claim made false, and return what holds wrongly: there, or in the real experiment's measurements (if
    the file exists) with their arms exchanged."""
    found = held(experiment.CLAIM, measure_falsified(bench, experiment))
    return found + (held_exchanged(experiment.CLAIM, read(real)) if real.is_file() else [])
