"""The sums of each logging interval and of each epoch start at zero."""

import pytest
import torch

from dlintro.models.tally import Tally


def test_the_sums_of_an_interval_and_of_an_epoch_begin_again() -> None:
    tally = Tally()

    def add(loss: float, right: int, num: int) -> None:
        """Add a batch of `num` images, `right` of which are classified correctly."""
        labels = torch.zeros(num, dtype=torch.long)
        tally.add(torch.tensor(loss), torch.eye(2)[(torch.arange(num) >= right).long()], labels)

    def sums(loss_sum: float, right: int, num: int) -> object:
        return pytest.approx([loss_sum, right, num])

    for _ in range(2):  # epochs
        add(1.0, 1, 4)
        add(0.5, 2, 2)
        assert tally.read() is None and tally.end_interval() == sums(5.0, 3, 6)
        add(3.0, 0, 3)
        assert tally.read() is None and tally.end_interval() == sums(9.0, 0, 3)
        add(2.0, 5, 5)
        assert tally.end_epoch() == sums(24.0, 8, 14)
        assert tally.read() is None and tally.end_interval() == [0, 0, 0]
