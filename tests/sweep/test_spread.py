"""How often the report's sentences are wrong, and how often they see what is there, by simulation of whole sweeps.

Each sweep is one line of settings, whose seeds' accuracies are drawn; the sentences are read as a user reads them. A
sentence is wrong where it calls a setting better than another that is at least as good.
"""

import itertools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import false_discovery_control, ttest_ind

from dlintro.sweep import compare
from dlintro.sweep.groups import BATCH, RATE, Study, study
from dlintro.sweep.runs import Run
from dlintro.sweep.spread import holm, page_factor, pair_p

Draw = Callable[[np.random.Generator], np.ndarray]  # accuracies (settings, seeds)
VALUES = {BATCH: [8 * 2**k for k in range(9)], RATE: [0.001 * 2**k for k in range(9)]}
FIGURE = {BATCH: "best/test/acc", RATE: "best/val/acc"}
SD = 0.004  # of accuracies over seeds


def sweep(key: str, num_settings: int, num_seeds: int, lost: Collection[tuple[int, int]], images: int) -> Study:
    """Write runs without accuracies; `lost` has the (setting, seed) of diverged runs."""
    runs = []
    for setting, value in enumerate(VALUES[key][:num_settings]):
        for seed in range(num_seeds):
            leaves = {"data": "mnist", "model": "flatnet", BATCH: 64, RATE: 0.1, "seed": seed} | {key: value}
            status = "diverged" if (setting, seed) in lost else "ok"
            record = {"val_images": images, "test_images": images}
            runs.append(Run(f"{value}-{seed}", Path("job"), status, "", record, leaves, {}, [], {"steps": 1.0}))
    return study([], runs)


def sentences(key: str, empty: Study, accuracies: np.ndarray) -> list[str]:
    values = [{"steps": 1.0, FIGURE[key]: float(value)} for value in accuracies.ravel()]
    runs = [replace(run, figures=figures) for run, figures in zip(empty.runs, values, strict=True)]
    found = compare.compared(full := replace(empty, runs=runs))
    claims = [sentence for _, said, _ in compare.claims(found, full) for sentence in said]
    return claims + compare.preferences(found)


def called_better(key: str, sentence: str) -> set[tuple[int, int]]:
    """Return the places of the (better, worse) settings that a sentence names."""

    def places(text: str) -> list[int]:
        return [VALUES[key].index(float(number.replace(",", ""))) for number in re.findall(r"\d[\d.,]*\d|\d", text)]

    found = set()
    if ends := re.search(r"reaches (higher|lower) test accuracy .*? % at ([\d,]+), .*? % at ([\d,]+) \(n", sentence):
        (small,), (large,) = places(ends[2]), places(ends[3])
        found.add((large, small) if ends[1] == "higher" else (small, large))
    best = r"(?:The best batch size is|prefers learning rate) ([\d.,]+) \(.*?\), which is better than ([\d., and]+)"
    if named := re.search(best, sentence):
        found |= {(place, worse) for place in places(named[1]) for worse in places(re.sub(r"\D+$", "", named[2]))}
    return found


def rates(
    key: str, means: Sequence[float], sds: Sequence[float], num_seeds: int, times: int, **how: Any
) -> tuple[float, float]:
    """Return how many of `times` sweeps have a wrong sentence, and the share of worse settings that are called worse.
    `means` and `sds` are in SDs. `how` has `lost` and `images` of a sweep, or `draw` instead of normal accuracies."""
    lost, images, draw = how.get("lost", ()), how.get("images", 10_000), how.get("draw")
    mean = np.array(means)
    empty, generator = sweep(key, len(means), num_seeds, lost, images), np.random.default_rng(0)
    worse = {(mean.argmax(), place) for place in range(len(means)) if mean[place] < mean.max()}
    lossy = {place for place, _ in lost}
    wrong, seen = 0, 0
    for _ in range(times):
        noise = generator.normal(size=(len(means), num_seeds))
        accuracies = draw(generator) if draw else 0.9 + SD * (mean[:, None] + np.array(sds)[:, None] * noise)
        if "images" in how:
            accuracies = np.round(accuracies * images) / images
        said = set().union(*(called_better(key, sentence) for sentence in sentences(key, empty, accuracies)))
        wrong += any(mean[better] <= mean[less] or lossy & {better, less} for better, less in said)
        seen += len(said & worse)
    return wrong / times, seen / max(1, times * len(worse))


def two_values(num_settings: int, num_seeds: int) -> Draw:
    return lambda generator: 0.9 + 0.01 * generator.integers(0, 2, (num_settings, num_seeds))


def unequal(num_settings: int) -> dict[str, list[float]]:
    """The spreads are in SDs."""
    middle, ends = [1.0] * num_settings, [1.0] * num_settings
    middle[num_settings // 2] = 10
    ends[0] = ends[-1] = 4
    return {"middle": middle, "ends": ends, "graded": list(np.geomspace(1, 10, num_settings))}


@pytest.mark.parametrize("key", [BATCH, RATE])
@pytest.mark.parametrize("num_seeds", [2, 3, 5])
def test_equal_settings_are_rarely_told_apart(key: str, num_seeds: int) -> None:
    """Spreads are equal, or the seeds tie: on two values, or on a grid of one standard deviation."""
    images = round(1 / SD)
    assert rates(key, [0] * 5, [1] * 5, num_seeds, 60)[0] <= 0.1
    assert rates(key, [0] * 3, [1] * 3, num_seeds, 60, images=images)[0] <= 0.1
    assert rates(key, [0] * 5, [1] * 5, num_seeds, 60, draw=two_values(5, num_seeds))[0] <= 0.1


@pytest.mark.parametrize(("num_seeds", "false"), [(2, 0), (3, 2)])
def test_of_all_that_two_coins_can_show_little_is_called_a_difference(num_seeds: int, false: int) -> None:
    """This tries every outcome of two settings on two values, so the rates are exact, none and 2 / 64. Welch's test
    alone calls every eighth outcome of two seeds a difference."""
    empty = sweep(RATE, 2, num_seeds, (), 10_000)
    outcomes = itertools.product((0.90, 0.91), repeat=2 * num_seeds)
    said = [sentences(RATE, empty, np.array(outcome).reshape(2, -1)) for outcome in outcomes]
    assert sum(bool(called_better(RATE, sentence)) for (sentence,) in said) == false


@pytest.mark.parametrize("spreads", ["middle", "ends", "graded"])
def test_nor_are_they_where_spreads_are_unequal(spreads: str) -> None:
    """A t test with the pooled spread calls every fifth such sweep different."""
    for num_seeds in (2, 3, 5):
        assert rates(RATE, [0] * 5, unequal(5)[spreads], num_seeds, 60)[0] <= 0.15


@pytest.mark.parametrize(("num_seeds", "least"), [(2, 0.05), (3, 0.6), (5, 0.95)])
def test_the_best_in_the_middle_is_named_and_called_better(num_seeds: int, least: float) -> None:
    """It is better by four standard deviations. A comparison of the ends would not mention it."""
    for key in (BATCH, RATE):
        wrong, seen = rates(key, [0, 0, 4, 0, 0], [1] * 5, num_seeds, 30)
        assert wrong <= 0.1 and seen >= least


@pytest.mark.parametrize("num_lost", [0, 1, 3])
def test_a_setting_that_lost_seeds_is_never_the_best_and_the_others_are_compared(num_lost: int) -> None:
    """The remaining runs of the last setting are the best of all."""
    lost = [(4, seed) for seed in range(num_lost)]
    for key in (BATCH, RATE):
        wrong, seen = rates(key, [0, 0, 4, 0, 8 if num_lost else 0], [1] * 5, 5, 30, lost=lost)
        assert wrong <= 0.1
        if not num_lost:
            assert seen > 0.95
    empty = sweep(BATCH, 5, 5, lost, 10_000)
    accuracies = 0.9 + 0.001 * np.arange(25).reshape(5, 5) % 0.003 + [[0], [0], [0.02], [0], [0.05]]
    (said, *_) = [text for text in sentences(BATCH, empty, accuracies) if "test accuracy" in text]
    assert ("The best batch size is 128" in said) == (num_lost == 0)
    without = "The best batch size is 32 (" in said and f"This leaves out 128 ({num_lost} of 5 seeds diverged)." in said
    assert without == (num_lost > 0)


def test_what_a_test_says_of_two_settings_is_scipys() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        one, other = generator.normal(0, 1, 3), generator.normal(1, 3, 4)
        pooled, welch = pair_p([one, other], 0, ties_are_chance=True)
        own = ttest_ind(one, other, equal_var=False).pvalue
        assert welch[0, 1] == pytest.approx(own) and welch[0, 0] == pooled[0, 0] == 1
        student = ttest_ind(one, other).pvalue
        same_size = generator.normal(1, 3, 3)
        assert pooled[0, 1] >= student - 1e-12
        both = pair_p([one, same_size], 0, True)[0][0, 1]
        assert both == pytest.approx(ttest_ind(one, same_size).pvalue)


def test_ties_are_no_certainty() -> None:
    """Two coins tossed twice fall like this once in eight times. Memory repeats for another reason than chance."""
    for step in (0.0, 0.0001):
        assert pair_p([[0.9, 0.9], [0.91, 0.91]], step, True)[0][0, 1] == pytest.approx(1 / 8)
        assert pair_p([[0.9] * 5, [0.91] * 5], step, True)[0][0, 1] == pytest.approx(2 / 2**10)
    assert pair_p([[1.0, 1.0], [2.0, 2.0]], 0.002, False)[0][0, 1] < 1e-5
    # A step of one image in sixty is no difference, however many seeds tie.
    assert min(table[0, 1] for table in pair_p([[50 / 60] * 5, [51 / 60] * 5], 1 / 60, True)) > 0.1
    assert pair_p([[0.9, 0.9], [0.9, 0.9]], 0, True)[0][0, 1] == 1


def test_a_setting_that_is_much_noisier_is_not_pooled() -> None:
    """Two rates at which training works are told apart beside one at which it hardly does."""
    good, better, wild = [0.970, 0.971, 0.972], [0.980, 0.981, 0.982], [0.2, 0.5, 0.9]
    assert pair_p([good, better, wild], 0, True)[0][0, 1] < 0.01
    assert pair_p([good, better, wild], 0, True)[0][0, 2] > 0.05


def test_the_adjustments_are_holms_and_benjamini_and_hochbergs() -> None:
    assert holm(np.array([0.03, 0.005, 0.9, 0.01])) == pytest.approx([0.06, 0.02, 0.9, 0.03])
    assert holm(np.array([0.02, 0.02])) == pytest.approx([0.04, 0.04])
    assert page_factor([0.01, 0.02, 0.03, 0.9], 0.05) == pytest.approx(4 / 3)  # three of four are selected
    assert page_factor([0.02, 0.9, 0.9], 0.05) == 3 and page_factor([], 0.05) == 1
    chosen = [0.001, 0.012, 0.04, 0.3]
    assert page_factor(chosen, 0.05) == 4 / sum(false_discovery_control(chosen) <= 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("num_settings", [2, 9])
def test_the_rates_hold_for_few_and_many_settings(num_settings: int) -> None:
    times = 150
    null, equal = [0] * num_settings, [1.0] * num_settings
    top = [4 if place == num_settings // 2 else 0 for place in range(num_settings)]
    for num_seeds, least in ((2, 0.08), (3, 0.6), (5, 0.95)):
        assert rates(RATE, null, equal, num_seeds, times)[0] <= 0.08
        for sds in unequal(num_settings).values():
            assert rates(RATE, null, sds, num_seeds, times)[0] <= 0.13
        assert rates(RATE, null, equal, num_seeds, times, draw=two_values(num_settings, num_seeds))[0] <= 0.08
        assert rates(RATE, top, equal, num_seeds, times)[1] >= least
