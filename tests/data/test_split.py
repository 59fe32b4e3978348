"""The split is the same for all runs, and each seed and epoch has its own order."""

import torch

from dlintro.data.split import class_balanced, stratified
from tests.run_folder import synthetic


def test_no_image_is_for_two_purposes_and_the_split_stays_what_it_was() -> None:
    """Otherwise old runs would be evaluated and resumed on images other than theirs."""
    data = synthetic(1, 4, 4, val_size=1000, train_size=300)
    train, val, train_eval = (part.indices.tolist() for part in (data.train, data.val, data.train_eval))  # type: ignore[union-attr]
    assert (len(set(train)), len(set(val))) == (300, 1000)
    assert not set(train) & set(val) and set(train_eval) <= set(train)
    assert data.train.labels.bincount().tolist() == [30] * 10
    whole = synthetic(1, 4, 4, val_size=1000)
    assert sorted([*whole.train.indices.tolist(), *val]) == list(range(10_000))  # type: ignore[union-attr]

    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    assert stratified(labels, 10).tolist() == [295, 317, 321, 359, 409, 591, 685, 730, 871, 977]
    assert class_balanced(labels, 9).tolist() == [321, 359, 591, 685, 730, 871, 906, 955, 977]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {}
    for seed in (0, 1, 2):
        loader = synthetic(1, 4, 4, train_size=100, batch_size=100, seed=seed).train_dataloader()
        for epoch in (0, 1, 2):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            ((images, labels),) = loader
            orders[seed, epoch] = images.numpy().tobytes() + labels.numpy().tobytes()
    assert len(set(orders.values())) == len(orders) == 9
