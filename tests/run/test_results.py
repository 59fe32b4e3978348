"""Tests the accuracy's interval against scipy, and the worst mistakes."""

import pytest
import torch
from scipy.stats import binomtest

from dlintro.run.results import Results, wilson_interval


@pytest.mark.parametrize(("correct", "num"), [(0, 10), (1, 10), (9, 10), (10, 10), (37, 50), (9_911, 10_000)])
def test_the_interval_of_an_accuracy_is_wilsons(correct: int, num: int) -> None:
    wanted = binomtest(correct, num).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, num) == pytest.approx((wanted.low, wanted.high), abs=1e-7)


def test_the_worst_mistakes_are_those_of_the_least_probable_true_class() -> None:
    probabilities_NK = torch.tensor([[0.3, 0.6, 0.1], [0.9, 0.05, 0.05], [0.1, 0.7, 0.2], [0.45, 0.5, 0.05]])
    results = Results(probabilities_NK.log(), torch.tensor([0, 0, 0, 0]), ["a", "b", "c"])
    assert results.worst(5) == [2, 0, 3]
    assert results.worst(2) == [2, 0]
    assert results.acc == 0.25
    assert results.confusion_KK().tolist() == [[1, 3, 0], [0, 0, 0], [0, 0, 0]]
