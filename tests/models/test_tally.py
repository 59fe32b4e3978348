"""The sums of each logging interval and of each epoch start at zero, and the counts by class are torchmetrics'."""

import pytest
import torch
from torchmetrics.functional.classification import multiclass_accuracy

from dlintro.models.tally import MOST_KEPT, ClassTally, Tally


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


@pytest.mark.parametrize("num_batches", [MOST_KEPT - 1, MOST_KEPT, 3 * MOST_KEPT + 7])
@pytest.mark.parametrize("bad", [None, 0, 5, MOST_KEPT - 2])
def test_any_number_of_batches_waits_for_a_reading(num_batches: int, bad: int | None) -> None:
    """The sums are right and the first loss that is not finite is found, however many batches came before and after."""
    tally, logits_BK, labels_B = Tally(), torch.eye(2), torch.tensor([0, 0])
    for n in range(num_batches):
        with torch.inference_mode(n % 2 == 0):
            tally.add(torch.tensor(float("nan") if n in (bad, num_batches - 1) else n / 8), logits_BK, labels_B)
    assert tally.read() == num_batches - 1 - (num_batches - 1 if bad is None else bad)
    assert tally.read() is None
    tally.end_epoch()
    for n in range(num_batches):
        tally.add(torch.tensor(n / 8), logits_BK, labels_B)
    assert tally.end_epoch() == [2 * sum(n / 8 for n in range(num_batches)), num_batches, 2 * num_batches]


@pytest.mark.parametrize("num_classes", [2, 10, 11, 30])
def test_balanced_and_top5_accuracy_are_torchmetrics_in_each_epoch(num_classes: int) -> None:
    tally, generator = ClassTally(num_classes), torch.Generator().manual_seed(num_classes)
    for _ in range(2):  # epochs
        uneven_K = torch.arange(1, num_classes + 1).float() ** 2
        labels_N = torch.cat([torch.arange(num_classes), uneven_K.multinomial(500, True, generator=generator)])
        logits_NK = torch.randn(len(labels_N), num_classes, generator=generator)
        logits_NK[torch.arange(len(labels_N)), labels_N] += 0.1 * labels_N  # later classes are easier
        for logits_BK, labels_B in zip(logits_NK.split(64), labels_N.split(64), strict=True):
            tally.add(logits_BK, labels_B)
        found = tally.shares(tally.end_epoch())
        assert found["balanced_acc"] == pytest.approx(
            float(multiclass_accuracy(logits_NK, labels_N, num_classes, average="macro")), rel=1e-6
        )
        assert ("top5_acc" in found) == (num_classes > 10)
        if num_classes > 10:
            top5 = multiclass_accuracy(logits_NK, labels_N, num_classes, top_k=5, average="micro")
            assert found["top5_acc"] == pytest.approx(float(top5), rel=1e-6)
    assert tally.end_epoch().tolist() == [0] * (2 * num_classes + 1)


def test_a_class_without_images_has_no_share_in_the_balanced_accuracy() -> None:
    tally = ClassTally(3)
    tally.add(torch.eye(3)[[0, 1, 1, 1]], torch.tensor([0, 0, 1, 1]))
    assert tally.shares(tally.end_epoch()) == {"balanced_acc": 0.75}
