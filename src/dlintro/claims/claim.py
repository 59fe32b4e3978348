"""The parts of a claim's file.

A file `slides/NAME.py` has three parts. CLAIM is the claim as data, and `measure(bench)` is its experiment.
`falsify(bench)` runs the same experiment with the claim made false (both arms alike, the identity broken); tests check
that no statement holds there. An arm is one of the settings that an experiment compares.

The files import torch inside their functions, so that listing the claims takes a fraction of a second.
"""

from dataclasses import dataclass

from dlintro.claims.statements import Statement

QUICK_SEEDS = 3
FIRST_SEED = 1000  # smaller seeds may have been looked at while settings were chosen, so no verdict uses them


@dataclass(frozen=True)
class Student:
    """The questions to a student at the end of an experiment."""

    predict: str  # a question to answer before the experiment runs
    change: str  # one change, and in which file
    expected: str  # what the changed experiment shows


@dataclass(frozen=True)
class Claim:
    """One claim of the course. `core` is the statement that carries its verdict."""

    title: str
    slide: str  # the slides' titles, joined by "; "
    says: str  # what the slide claims, reworded
    kind: str  # "identity", "measured" or both, joined by ", "
    seconds: int  # the experiment takes about this long on 2 cores
    core: Statement
    student: Student
    stated: tuple[Statement, ...] = ()  # what the slide states besides; if one fails, the claim holds in part
    more: tuple[Statement, ...] = ()  # what the slide doesn't state; changes no verdict
    checks: tuple[Statement, ...] = ()  # what a correct computation can't miss; if one fails, there is no verdict
    seeds: int = 1  # n, the seeds of each arm
    notes: tuple[str, ...] = ()  # sources, slips, and what the slide leaves open

    @property
    def statements(self) -> tuple[Statement, ...]:
        return (self.core, *self.stated, *self.more, *self.checks)
