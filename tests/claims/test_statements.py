"""Tests that verdicts find effects planted in made-up measurements, and find nothing where none was planted."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlintro.claims.measurements import Measurements, Row, append, read
from dlintro.claims.statements import (
    FAILS,
    HOLDS,
    IN_PART,
    NOT_MEASURED,
    UNDECIDED,
    Count,
    Effect,
    Equal,
    Exact,
    Finding,
    Within,
    in_words,
    overall,
)
from dlintro.claims.statistics import interval
from dlintro.errors import RunError

EFFECT = Effect("new is better", "acc", more="new", less="old")
EQUAL = Equal("both are as good", "acc", more="new", less="old")
RATIO = Effect("new is faster", "acc", more="new", less="old", ratio=True, worth=0.05)
N_IMAGES = 400


def rows(new: np.ndarray, old: np.ndarray) -> Measurements:
    """Make rows of values (n,) or outcomes (n, N); `old` has twice the seeds."""
    found = []
    for arm, values in (("new", new), ("old", old)):
        for seed, value in enumerate(values):
            outcomes = tuple(np.atleast_1d(value).tolist()) if np.ndim(value) else ()
            found.append(Row("made_up", "acc", arm, seed, float(np.mean(value)), None, outcomes))
    return Measurements(found)


def made_up(n: int, planted: float, sd: float, seed: int) -> Measurements:
    random = np.random.default_rng(seed)
    return rows(0.9 + planted + sd * random.standard_normal(n), 0.9 + sd * random.standard_normal(2 * n))


made = {"n": st.sampled_from([5, 8]), "sd": st.floats(1e-4, 0.01), "seed": st.integers(0, 2**32 - 1)}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**made)
def test_a_planted_effect_is_found_and_the_opposite_is_refused(n: int, sd: float, seed: int) -> None:
    planted = 0.01 + 25 * sd
    assert EFFECT.judge(made_up(n, planted, sd, seed)).verdict == HOLDS
    assert EFFECT.judge(made_up(n, -planted, sd, seed)).verdict == FAILS
    assert EQUAL.judge(made_up(n, 2 * planted, sd, seed)).verdict == FAILS


@settings(max_examples=60, deadline=None, derandomize=True)
@given(**made)
def test_no_effect_is_found_where_none_was_planted(n: int, sd: float, seed: int) -> None:
    assert EFFECT.judge(made_up(n, 0.0, sd, seed)).verdict != HOLDS
    assert RATIO.judge(made_up(n, 0.0, sd, seed)).verdict != HOLDS
    assert EQUAL.judge(made_up(n, 0.0, sd / 20, seed)).verdict == HOLDS


@settings(max_examples=20, deadline=None, derandomize=True)
@given(n=made["n"], seed=made["seed"])
def test_outcomes_of_images_are_judged_as_their_means_and_less_surely(n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    shared = random.random(N_IMAGES)  # hard images are hard for all
    new, old = (
        (0.5 * random.random((runs, N_IMAGES)) + 0.5 * shared < share).astype(float)
        for runs, share in ((n, 0.85), (2 * n, 0.45))
    )
    with_images, without = EFFECT.judge(rows(new, old)), EFFECT.judge(rows(new.mean(1), old.mean(1)))
    assert with_images.verdict == HOLDS and with_images.mean == pytest.approx(without.mean)
    same = interval(old[:n] - old[n:])
    assert same.low < 0 < same.high


@pytest.mark.parametrize("n", [5, 8])
def test_permuted_labels_hold_in_at_most_three_of_a_hundred(n: int) -> None:
    random = np.random.default_rng(n)
    values = np.concatenate([0.95 + 0.002 * random.standard_normal(n), 0.90 + 0.002 * random.standard_normal(2 * n)])
    assert EFFECT.judge(rows(values[:n], values[n:])).verdict == HOLDS
    held = 0
    for _ in range(100):
        random.shuffle(values)
        held += EFFECT.judge(rows(values[:n], values[n:])).verdict == HOLDS
    assert held <= 3


@pytest.mark.parametrize("n", [5, 8])
def test_the_interval_covers_the_true_mean_as_often_as_it_says(n: int) -> None:
    random = np.random.default_rng(n)
    covered = 0
    for _ in range(400):
        found = interval(random.standard_normal((n, 1)))
        covered += found.low <= 0 <= found.high
    assert covered >= 0.97 * 400  # the bare bootstrap of five covers less than nine in ten


def test_the_luck_of_the_test_images_widens_the_interval() -> None:
    """All runs agree on every image, so only the luck of 400 images is left: a standard error of √(0.09 / 400)."""
    outcomes_nN = np.tile(np.arange(400) % 10 != 0, (8, 1)).astype(float)
    found = interval(outcomes_nN)
    assert found.mean == pytest.approx(0.9) and found.sd == 0
    wider = np.sqrt(8 / 7) * 3.4995 / 2.5758  # t of 7 degrees of freedom and z, at 99.5 %
    assert found.half_width == pytest.approx(2.5758 * np.sqrt(0.09 / 400) * wider, rel=0.06)


def test_the_margin_is_the_spread_of_identical_settings_or_the_least_worth_teaching() -> None:
    steady = EFFECT.judge(rows(np.full(5, 0.95), np.full(10, 0.94)))
    assert (steady.verdict, steady.margin) == (HOLDS, 0.002)
    less = EFFECT.judge(rows(np.full(5, 0.9415), np.full(10, 0.94)))
    assert less.verdict == FAILS  # sure, and not worth teaching
    old = np.array([0.94] * 5 + [0.99, 0.90, 0.98, 0.91, 0.94])  # the first five are alike by chance
    spread = EFFECT.judge(rows(np.full(5, 0.95), old))
    assert spread.verdict != HOLDS and (spread.margin or 0) > 0.04


def test_within_a_margin_that_the_spread_makes_senseless_nothing_is_said() -> None:
    old = np.array([0.5] * 5 + [0.9, 0.1, 0.8, 0.2, 0.5])
    unlike, alike = rows(np.full(5, 0.6), old), rows(np.full(5, 0.5), old)
    for scaled in (1.0, 100.0):  # `relative`: a loss in other units is judged as before
        for measurements in (unlike, alike):
            made = Measurements(Row("", "acc", r.arm, r.seed, scaled * r.value) for r in measurements)
            assert Effect("", "acc", "new", "old", worth=0.05, relative=True).judge(made).verdict == UNDECIDED
            assert Equal("", "acc", "new", "old", worth=0.05, relative=True).judge(made).verdict == UNDECIDED
    assert EFFECT.judge(unlike).verdict == EQUAL.judge(alike).verdict == UNDECIDED


def test_a_ratio_is_told_in_times() -> None:
    found = RATIO.judge(rows(np.full(5, 3.0), np.full(10, 1.5)))
    assert (found.verdict, found.mean, found.margin) == (HOLDS, pytest.approx(2), pytest.approx(1.05))
    assert "2×" in found.measured and "1.05×" in found.measured


def test_what_was_measured_is_said_in_plain_words() -> None:
    exact = Exact("one is one", "q", tolerance=0.25)
    assert exact.judge(quantity(1.5, expected=1)).measured == "measured 1.5, expected 1 ± 0.25"
    words = "all 2 values are as expected; the largest error is 0.25 (allowed: 0.25)"
    assert exact.judge(quantity(1, 1.25, expected=1)).measured == words
    assert (
        exact.judge(quantity(1, 2, expected=1)).measured == "1 of 2 values are as expected; q (1) gives 2 instead of 1"
    )
    count = Count("half of them", "q", beyond=1, at_least=0.5)
    assert count.judge(quantity(0, 1, 2)).measured == "2 of 3 values are 1 or more; at least 2 must be (0 to 2)"
    assert count.judge(quantity(3)).measured == "measured 3; must be 1 or more"


def test_verdicts_are_counted_in_whole_sentences() -> None:
    assert in_words({HOLDS: 1}) == "1 holds"
    assert in_words({FAILS: 1, UNDECIDED: 1}) == "1 does not hold here and 1 is undecided"
    counts = {HOLDS: 5, IN_PART: 2, FAILS: 2, UNDECIDED: 3, NOT_MEASURED: 4}
    words = "5 hold, 2 hold in part, 2 do not hold here, 3 are undecided and 4 are not measured here"
    assert in_words(counts) == words
    assert in_words({}) == ""


def test_a_diverged_run_leaves_it_undecided() -> None:
    new = np.array([0.95, math.nan, 0.95, 0.95, 0.95])
    assert EFFECT.judge(rows(new, np.full(10, 0.9))).verdict == UNDECIDED
    assert EQUAL.judge(rows(new, np.full(10, 0.9))).verdict == UNDECIDED


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


def test_bounds() -> None:
    slope = Within("the slope is -1", "q", low=-1.05, high=-0.95)
    assert slope.judge(quantity(-1.001, -0.999, -1.0, -1.002, -0.998)).verdict == HOLDS
    assert slope.judge(quantity(-0.9985, -0.9986, -0.9985)).verdict == HOLDS  # precision does no harm
    assert Within("above", "q", low=-1.05, high=-0.95).judge(quantity(-1.4, -0.8, -1.0)).verdict == UNDECIDED
    assert Within("above", "q", low=0).judge(quantity(-3.0)).verdict == FAILS
    most = Count("17 of 20", "q", beyond=1, at_least=17 / 20)
    assert most.judge(quantity(*[1] * 17, *[0] * 3)).verdict == HOLDS
    assert most.judge(quantity(*[1] * 16, *[0] * 4)).verdict == FAILS
    assert Count("none", "q", below=0).judge(quantity(-1, math.nan)).verdict == FAILS


def test_a_claim_is_judged_by_all_its_statements() -> None:
    def verdict(*verdicts: str) -> str:
        return overall([Finding("", verdict, "") for verdict in verdicts])

    assert verdict(HOLDS, HOLDS) == verdict(HOLDS, NOT_MEASURED) == HOLDS
    assert verdict(HOLDS, FAILS) == verdict(HOLDS, UNDECIDED) == IN_PART
    assert verdict(FAILS, FAILS) == FAILS
    assert verdict(FAILS, UNDECIDED) == UNDECIDED
    assert verdict(NOT_MEASURED) == verdict() == NOT_MEASURED


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
