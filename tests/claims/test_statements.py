"""Tests that a statement's verdict follows from made-up measurements, and that its sentence says what was measured."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlintro.claims.measurements import DIVERGED, Measurements, Row, append, read
from dlintro.claims.sentences import in_words
from dlintro.claims.statements import (
    CHECK_FAILED,
    FAILS,
    HOLDS,
    IN_PART,
    NOT_MEASURED,
    SLIP,
    UNDECIDED,
    Count,
    Effect,
    Equal,
    Exact,
    Printed,
    Within,
)
from dlintro.claims.statistics import interval
from dlintro.errors import RunError

EFFECT = Effect("new is better", "acc", "new", "old")
EQUAL = Equal("both are as good", "acc", "new", "old")
RATIO = Effect("new takes longer", "acc", "new", "old", ratio=True)
RELATIVE = Effect("new has more", "acc", "new", "old", relative=True, unit="")
NEAR = np.array([-1, 0, 1, 0.5, -0.5])  # five deviations; their interval is ± 1.63 wide


def rows(new: np.ndarray, old: np.ndarray) -> Measurements:
    """Make rows of values (n,) or outcomes (n, N)."""
    found = []
    for arm, values in (("new", new), ("old", old)):
        for seed, value in enumerate(values):
            outcomes = tuple(np.atleast_1d(value).tolist()) if np.ndim(value) else ()
            found.append(Row("made_up", "acc", arm, seed, float(np.mean(value)), None, outcomes))
    return Measurements(found)


def differing_by(planted: float, spread: float = 0.001) -> Measurements:
    return rows(0.9 + planted + spread * NEAR, np.full(5, 0.9))


def test_the_margin_is_what_is_worth_teaching_whatever_the_spread() -> None:
    for spread in (0.0, 0.001, 0.1):
        assert EFFECT.judge(differing_by(0.004, spread)).margin == 0.002
    assert EFFECT.judge(differing_by(0.004)).verdict == HOLDS
    assert EFFECT.judge(differing_by(0.004, spread=0.003)).verdict == UNDECIDED  # noise refutes nothing
    assert EFFECT.judge(differing_by(0.0)).verdict == FAILS
    assert EFFECT.judge(differing_by(-0.004)).verdict == FAILS
    assert EQUAL.judge(differing_by(0.0)).verdict == HOLDS
    assert EQUAL.judge(differing_by(0.0, spread=0.01)).verdict == UNDECIDED
    assert EQUAL.judge(differing_by(-0.015)).verdict == EQUAL.judge(differing_by(0.015)).verdict == FAILS


def test_a_reversed_effect_is_told_apart_from_one_that_is_too_small() -> None:
    assert "surely below the margin of 0.20 points" in EFFECT.judge(differing_by(0.0)).measured
    assert "so the effect is reversed" in EFFECT.judge(differing_by(-0.01)).measured


def test_seeds_are_compared_one_by_one() -> None:
    hard_and_easy = np.array([0.1, 0.9, 0.3, 0.7, 0.5])
    assert EFFECT.judge(rows(hard_and_easy + 0.004 + 0.001 * NEAR, hard_and_easy)).verdict == HOLDS
    shuffled = rows(hard_and_easy[::-1] + 0.004 + 0.001 * NEAR, hard_and_easy)
    assert EFFECT.judge(shuffled).verdict == UNDECIDED
    more_seeds = rows(np.full(5, 0.95) + 0.001 * NEAR, np.array([0.9] * 5 + [0.1] * 5))
    assert EFFECT.judge(more_seeds).mean == pytest.approx(0.05)


def test_the_exchanged_arms_of_what_holds_fail() -> None:
    for statement in (EFFECT, RATIO, RELATIVE):
        measurements = differing_by(0.2)
        assert statement.judge(measurements).verdict == HOLDS
        assert replace(statement, more="old", less="new").judge(measurements).verdict == FAILS


def test_a_relative_margin_is_a_share_of_each_seeds_value() -> None:
    less = np.array([4.0, 4.5, 5.0, 5.5, 6.0])
    for scale in (1.0, 100.0, -1.0):
        just = scale * less + np.abs(scale * less) * (0.06 + 0.001 * NEAR)
        found = RELATIVE.judge(rows(just, scale * less))
        assert found.verdict == HOLDS and found.margin == pytest.approx(0.05 * 5 * abs(scale))
        below = scale * less + np.abs(scale * less) * (0.04 + 0.001 * NEAR)
        assert RELATIVE.judge(rows(below, scale * less)).verdict == FAILS


def test_a_margin_of_its_own_has_a_reason() -> None:
    named = Equal("both are as good", "acc", "new", "old", worth=0.02, because="the test set is small")
    found = named.judge(differing_by(0.01))
    assert found.verdict == HOLDS and found.measured.endswith("margin of ± 2.00 points (the test set is small).")
    with pytest.raises(AssertionError, match="reason"):
        Equal("both are as good", "acc", "new", "old", worth=0.02)


@pytest.mark.parametrize("n", [8, 10])
def test_permuted_labels_hold_in_at_most_three_of_a_hundred(n: int) -> None:
    random = np.random.default_rng(n)
    values = np.concatenate([0.95 + 0.002 * random.standard_normal(n), 0.90 + 0.002 * random.standard_normal(n)])
    assert EFFECT.judge(rows(values[:n], values[n:])).verdict == HOLDS
    held = 0
    for _ in range(100):
        random.shuffle(values)
        held += EFFECT.judge(rows(values[:n], values[n:])).verdict == HOLDS
    assert held <= 3


def test_the_luck_of_the_test_images_widens_the_interval() -> None:
    """All runs agree on every image, so only the luck of 400 images is left: a standard error of √(0.09 / 400)."""
    outcomes_nN = np.tile(np.arange(400) % 10 != 0, (8, 1)).astype(float)
    found = interval(outcomes_nN)
    assert found.mean == pytest.approx(0.9) and found.sd == 0
    assert found.high - found.mean == pytest.approx(2.5758 * np.sqrt(0.09 / 400), rel=0.01)


def test_outcomes_that_all_agree_still_leave_what_no_image_showed() -> None:
    found = interval(np.zeros((5, 400)))
    assert found.low == -found.high and found.high == pytest.approx(1 - 0.005 ** (1 / 400))


def test_a_grid_widens_both_sides_by_a_step() -> None:
    plain, wider = interval(NEAR[:, None]), interval(NEAR[:, None], grid=0.5)
    assert (wider.low, wider.high) == (plain.low - 0.5, plain.high + 0.5)
    assert replace(EFFECT, grid=0.002).judge(differing_by(0.004)).verdict == UNDECIDED


def test_one_run_tells_nothing() -> None:
    found = EFFECT.judge(rows(np.array([0.95]), np.array([0.9])))
    assert found.verdict == UNDECIDED and "n = 1, too few for an interval" in found.measured


def test_a_ratio_is_told_as_a_ratio() -> None:
    found = RATIO.judge(rows(3.0 * np.exp(0.01 * NEAR), np.full(5, 1.5)))
    assert (found.verdict, found.mean, found.margin) == (HOLDS, pytest.approx(2), pytest.approx(1.05))
    assert found.measured.startswith("The ratio of “new” to “old” is 2 ± 0.01587 (99 % interval 1.9")
    assert found.measured.endswith("n = 5), surely above the margin of 1.05.")


def test_what_was_measured_is_one_plain_sentence() -> None:
    exact = Exact("one is one", "q", tolerance=0.25)
    assert exact.judge(quantity(1.5, expected=1)).measured == "The value of “q” is 1.5 instead of 1 to within 0.25."
    words = "All 2 values are as stated: the largest error is 0.25, and 0.25 is allowed."
    assert exact.judge(quantity(1, 1.25, expected=1)).measured == words
    words = "Only 1 of 2 values are as stated: q (1) gives 2 instead of 1."
    assert exact.judge(quantity(1, 2, expected=1)).measured == words
    assert Exact("one", "strides", 0).judge(Measurements([Row("", "strides", "", 0, 1, 1)])).measured == (
        "The value of “strides” is 1, as stated."
    )
    count = Count("half of them", "q", beyond=1, at_least=0.5)
    words = "2 of 3 values are 1 or more, and at least 2 had to be (they are 0 to 2)."
    assert count.judge(quantity(0, 1, 2)).measured == words
    assert count.judge(quantity(1, 1)).measured == "All 2 values are 1 or more, and at least 1 had to be."
    assert count.judge(quantity(3)).measured == "The value of “q” is 3, and it had to be 1 or more."
    assert EFFECT.judge(differing_by(0.01)).measured == (
        "The difference, “new” minus “old”, is 1.00 ± 0.08 points (99 % interval 0.84 to 1.16 points, n = 5), surely "
        "above the margin of 0.20 points."
    )


def test_verdicts_are_counted_in_whole_sentences() -> None:
    assert in_words({HOLDS: 1}) == "1 holds"
    assert in_words({FAILS: 1, UNDECIDED: 1}) == "1 does not hold here and 1 is undecided"
    counts = {HOLDS: 5, IN_PART: 2, FAILS: 2, UNDECIDED: 3, NOT_MEASURED: 4, SLIP: 2, CHECK_FAILED: 1}
    words = (
        "5 hold, 2 hold in part, 2 do not hold here, 3 are undecided, 4 are not measured here, 2 are slips and 1 failed"
    )
    assert in_words(counts) == words + " a check"
    assert in_words({}) == ""


def test_a_run_without_a_value_leaves_it_undecided_and_a_diverged_one_is_counted_as_it_ended() -> None:
    new = np.array([0.95, math.nan, 0.95, 0.95, 0.95])
    for statement in (EFFECT, EQUAL):
        found = statement.judge(rows(new, np.full(5, 0.9)))
        assert found.verdict == UNDECIDED and "some of the 5 runs have no value" in found.measured
    collapsed = rows(np.array([0.95, 0.1, 0.95, 0.95, 0.95]), np.full(5, 0.9))
    assert "diverged" not in EFFECT.judge(collapsed).measured
    collapsed.rows += [
        Row("made_up", DIVERGED, "new", 1, 1.0),
        Row("made_up", DIVERGED, "old", 7, 1.0),
    ]  # 7: not compared
    found = EFFECT.judge(collapsed)
    assert found.verdict == UNDECIDED and "1 of the 10 runs diverged and counts as it ended" in found.measured


def quantity(*values: float, expected: float | None = None) -> Measurements:
    return Measurements(Row("made_up", "q", "", seed, value, expected) for seed, value in enumerate(values))


def test_an_identity_fails_for_one_wrong_row() -> None:
    exact = Exact("one is one", "q", tolerance=0.25)
    assert exact.judge(quantity(1, 1.25, expected=1)).verdict == HOLDS
    assert exact.judge(quantity(1, 1.26, expected=1)).verdict == FAILS
    assert exact.judge(quantity(1, math.nan, expected=1)).verdict == FAILS
    assert exact.judge(quantity()).verdict == NOT_MEASURED
    with pytest.raises(AssertionError, match="without an expected value"):
        exact.judge(quantity(1))


def test_numbers_that_the_slide_prints_make_a_slip_if_they_are_wrong() -> None:
    printed = Printed("the printed numbers follow", "q")
    assert printed.judge(quantity(1, 1, expected=1)).verdict == HOLDS
    assert printed.judge(quantity(1, 2, expected=1)).verdict == SLIP
    assert printed.falsified == HOLDS


def test_bounds() -> None:
    slope = Within("the slope is -1", "q", low=-1.05, high=-0.95)
    assert slope.judge(quantity(-1.001, -0.999, -1.0, -1.002, -0.998)).verdict == HOLDS
    assert slope.judge(quantity(-0.9985, -0.9986, -0.9985)).verdict == HOLDS  # precision does no harm
    assert slope.judge(quantity(-1.4, -0.8, -1.0)).verdict == UNDECIDED
    assert Within("above", "q", low=0).judge(quantity(-3.0, -3.1, -3.0)).verdict == FAILS
    assert Within("above", "q", low=0).judge(quantity(3.0)).verdict == UNDECIDED  # one run
    found = Within("above", "q", low=0).judge(quantity(3.0, 3.1, math.nan))
    assert (found.verdict, found.measured[:25]) == (UNDECIDED, "The mean can't be told, b")
    noise = Within("above", "q", low=1, geometric=True)
    found = noise.judge(quantity(300, 500, 800))
    assert found.verdict == HOLDS and found.mean == pytest.approx((300 * 500 * 800) ** (1 / 3))
    assert replace(noise, geometric=False).judge(quantity(300, 500, 800)).verdict == UNDECIDED
    most = Count("17 of 20", "q", beyond=1, at_least=17 / 20)
    assert most.judge(quantity(*[1] * 17, *[0] * 3)).verdict == HOLDS
    assert most.judge(quantity(*[1] * 16, *[0] * 4)).verdict == FAILS
    assert Count("none", "q", below=0).judge(quantity(-1, math.nan)).verdict == FAILS


@settings(max_examples=50, deadline=None)
@given(value=st.floats(), outcomes=st.lists(st.sampled_from([0.0, 1.0, 0.25, 1.23457e-30]), max_size=5))
def test_measurements_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, value: float, outcomes: list[float]
) -> None:
    path = tmp_path_factory.mktemp("csv") / "measurements.csv"
    written = [Row("a claim", 'say, "what"\n', "arm", 3, value, None, tuple(outcomes)), Row("b", "q", "", 0, 1.0, -0.5)]
    append(path, written[:1])
    append(path, written[1:])
    assert repr(read(path).rows) == repr(written)


def test_what_holds_no_measurements_is_named(tmp_path: Path) -> None:
    path = tmp_path / "measurements.csv"
    for content in ("", "claim,quantity\n1,2\n", "claim,quantity,arm,seed,value,expected,outcomes\na,b,c,d,e,f,g\n"):
        path.write_text(content)
        if content:
            with pytest.raises(RunError, match=r"measurements\.csv"):
                read(path)
        else:
            assert not read(path).rows
