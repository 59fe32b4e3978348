"""Tests that a claim's verdict is its core's, and that the comparison of identical settings can withdraw it."""

import numpy as np
import pytest

from dlintro.claims.claim import Claim, Student
from dlintro.claims.measurements import Measurements, Row
from dlintro.claims.statements import (
    CHECK_FAILED,
    FAILS,
    HOLDS,
    IN_PART,
    NOT_MEASURED,
    SLIP,
    UNDECIDED,
    Effect,
    Finding,
)
from dlintro.claims.verdict import CHECK, CORE, MORE, STATED, comparisons, judge, overall

CORE_STATEMENT = Effect("new is better", "acc", "new", "old")
CLAIM = Claim("made up", "none", "nothing", "measured", 1, CORE_STATEMENT, Student("", "", ""), seeds=5)
NEAR = 0.001 * np.array([-1, 0, 1, 0.5, -0.5])


@pytest.mark.parametrize(
    ("core", "others", "verdict"),
    [
        (HOLDS, {}, HOLDS),
        (FAILS, {STATED: HOLDS}, FAILS),
        (UNDECIDED, {STATED: HOLDS}, UNDECIDED),
        (UNDECIDED, {STATED: FAILS}, UNDECIDED),
        (NOT_MEASURED, {STATED: FAILS, MORE: HOLDS}, NOT_MEASURED),
        (SLIP, {}, SLIP),
        (HOLDS, {STATED: FAILS}, IN_PART),
        (HOLDS, {STATED: UNDECIDED}, HOLDS),
        (HOLDS, {STATED: NOT_MEASURED}, HOLDS),
        (HOLDS, {STATED: SLIP}, HOLDS),
        (HOLDS, {MORE: FAILS}, HOLDS),
        (HOLDS, {CHECK: HOLDS}, HOLDS),
        (HOLDS, {CHECK: NOT_MEASURED}, HOLDS),
        (HOLDS, {CHECK: FAILS}, CHECK_FAILED),
        (FAILS, {CHECK: FAILS, STATED: HOLDS}, CHECK_FAILED),
        (HOLDS, {CHECK: CHECK_FAILED}, CHECK_FAILED),
        (HOLDS, {CHECK: UNDECIDED}, UNDECIDED),
    ],
)
def test_the_core_gives_the_verdict(core: str, others: dict[str, str], verdict: str) -> None:
    findings = [(CORE, Finding("", core, ""))]
    findings += [(role, Finding("", other, "")) for role, other in others.items()]
    assert overall(findings) == verdict


def measured(*thirds: float) -> Measurements:
    """The arm "old" is 0.9 in its first five runs, and differs from that by the given numbers in each further five."""
    old = np.concatenate([0.9 + move + NEAR[::step] for move, step in zip((0.0, *thirds), (1, -1, 1), strict=False)])
    rows = [Row("made_up", "acc", "new", seed, value) for seed, value in enumerate(0.95 + NEAR[::-1])]
    return Measurements(rows + [Row("made_up", "acc", "old", seed, value) for seed, value in enumerate(old)])


def test_identical_settings_that_differ_once_are_measured_again_and_fail_the_check_if_they_differ_twice() -> None:
    assert judge(CLAIM, measured(0.0)).verdict == HOLDS
    assert judge(CLAIM, measured(0.1)).verdict == UNDECIDED  # the further seeds are missing
    assert judge(CLAIM, measured(0.1, 0.05)).verdict == HOLDS  # as the mean of the two before
    assert judge(CLAIM, measured(0.1, 0.2)).verdict == CHECK_FAILED
    assert judge(CLAIM, measured(0.0, 0.2)).verdict == HOLDS  # the further seeds were not needed
    assert judge(CLAIM, measured()).verdict == UNDECIDED


def test_identical_settings_without_a_value_cant_be_compared() -> None:
    """A run has none if it didn't reach the loss at which it is measured."""
    judged = judge(CLAIM, measured(np.nan))
    assert judged.findings[0][1].verdict == HOLDS and judged.verdict == UNDECIDED
    assert judged.findings[-1][1].measured == "Some runs of “old” have no value, so this can't be told."


def test_the_check_says_what_it_found() -> None:
    findings = dict(judge(CLAIM, measured(0.1, 0.05)).findings)
    assert findings[CORE].verdict == HOLDS and findings[CHECK].verdict == HOLDS
    assert findings[CHECK].measured.startswith("“old” differs from itself by 0.00 ± ")
    assert "measured again after a first interval that missed 0" in findings[CHECK].measured


def test_by_chance_both_comparisons_of_identical_settings_miss_once_in_ten_thousand_times() -> None:
    """Each misses once in a hundred times, and they are independent, because the second compares with both thirds."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(2_000):
        old = random.standard_normal(15)
        measurements = Measurements(Row("made_up", "acc", "old", seed, value) for seed, value in enumerate(old))
        found.append(comparisons(CORE_STATEMENT, measurements, 5))
    for both in zip(*found, strict=True):
        assert 5 <= sum(not each.contains_0 for each in both) <= 35
    means = [[each.mean for each in both] for both in found]
    assert abs(np.corrcoef(np.transpose(means))[0, 1]) < 0.06
