"""The parts of a claim's file.

A file `slides/NAME.py` has CLAIM, the claim as data; `measure(bench)`, the experiment; and `falsify(bench)`, the same
experiment where the claim is made false (the arms alike, the identity broken), which tests use: no statement may hold
there. torch is imported inside the functions: a list of the claims is there in a fraction of a second.
"""

from dataclasses import dataclass

from dlintro.claims.statements import Statement

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

    title: str
    slide: str  # the slide's title
    says: str  # in our words
    kind: str  # "identity", "measured" or both
    seconds: int  # that it takes on 2 cores, about
    statements: tuple[Statement, ...]
    student: Student
    seeds: int = 1  # n
    notes: tuple[str, ...] = ()  # what the slide leaves open, slips, sources
