import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlintro.sweep.critical_batch import WIDEST_INTERVAL, fit, why_not

SIZES = 2.0 ** np.arange(3, 13)  # 8 to 4,096


def curve(s_min: float, b_crit: float, sizes: np.ndarray = SIZES) -> np.ndarray:
    return s_min * (1 + b_crit / sizes)


@settings(deadline=None)
@given(s_min=st.floats(1, 1e6), b_crit=st.floats(4, 10_000), first=st.integers(0, 3), num=st.integers(4, 7))
def test_the_known_answer_is_found(s_min: float, b_crit: float, first: int, num: int) -> None:
    sizes = SIZES[first : first + num]
    if not sizes[0] / 10 <= b_crit <= sizes[-1] * 10:
        return
    steps = curve(s_min, b_crit, sizes)
    found = fit(list(steps), list(steps * sizes))
    assert found is not None
    assert found.b_crit == pytest.approx(b_crit, rel=0.001)
    assert found.s_min == pytest.approx(s_min, rel=0.001)
    # the law it is named for, at each point
    products = (steps / found.s_min - 1) * (steps * sizes / found.e_min - 1)
    assert products == pytest.approx(np.ones(num), rel=0.05)


@pytest.mark.parametrize("noise", [0.03, 0.05])
@pytest.mark.parametrize("b_crit", [30, 300, 900, 3_000])
def test_the_known_answer_is_found_in_noise(b_crit: float, noise: float) -> None:
    """As a sweep has it: three seeds of ten sizes."""
    for seed in range(5):
        seeds = curve(100, b_crit) * np.exp(np.random.default_rng(seed).normal(0, noise, (3, len(SIZES))))
        steps = np.exp(np.log(seeds).mean(0))
        found = fit(list(steps), list(steps * SIZES))
        assert found is not None
        assert found.b_crit == pytest.approx(b_crit, rel=0.1)
        assert found.interval[0] < found.b_crit < found.interval[1]


def test_its_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = []
    for seed in range(200):
        steps = curve(100, 900) * np.exp(np.random.default_rng(seed).normal(0, 0.05, len(SIZES)))
        found = fit(list(steps), list(steps * SIZES))
        assert found is not None
        covered.append(found.interval[0] <= 900 <= found.interval[1])
    assert 0.9 < np.mean(covered) < 0.99


def test_points_without_a_bend_have_no_critical_batch() -> None:
    noise = np.exp(np.random.default_rng(0).normal(0, 0.03, len(SIZES)))
    for steps in (1e6 / SIZES * noise, 300 * noise):  # perfect scaling; none at all
        assert fit(list(steps), list(steps * SIZES)) is None
    assert "bend" in why_not(list(SIZES))


def test_an_interval_is_never_wider_than_it_may_be() -> None:
    """Upper over lower end, at any scatter."""
    ratios = []
    for seed in range(200):
        steps = curve(100, 900, SIZES[2:7]) * np.exp(np.random.default_rng(seed).normal(0, 0.3, 5))
        if found := fit(list(steps), list(steps * SIZES[2:7])):
            ratios.append(found.interval[1] / found.interval[0])
    assert ratios and max(ratios) <= WIDEST_INTERVAL


def test_two_sizes_are_too_few() -> None:
    assert fit([100, 60], [800, 960]) is None
    assert "only 2 batch sizes" in why_not([100, 60])
