"""The published sets. Their facts are compared with the real files, which are fetched as users do."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from dlintro.data.cache import wrong_files
from dlintro.data.official import CatsDogs, Official
from dlintro.data.published import PUBLISHED
from dlintro.data.source import Split
from dlintro.errors import UsageError
from tests.conftest import have


def real(name: str) -> dict[str, Split]:
    have(name)
    return Official(name).load(in_ram=True)


def test_facts_are_known_without_touching_the_disk(cache: Path) -> None:
    facts = Official("mnist").facts
    assert (facts.image_shape, facts.val_size, facts.sizes) == ((1, 28, 28), 5_000, {"train": 60_000, "test": 10_000})
    assert Official("cifar10").facts.class_names[3] == "cat"
    assert not cache.parent.exists()


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_the_published_mean_and_std_are_those_of_the_training_pixels(name: str) -> None:
    images, labels = real(name)["train"]
    facts = Official(name).facts
    assert images.shape == (facts.sizes["train"], *facts.image_shape) and images.dtype == torch.uint8
    assert labels.dtype == torch.int64 and labels.bincount().numel() == len(facts.class_names)
    counts = [np.bincount(images[:, c].numpy().ravel(), minlength=256) for c in range(images.shape[1])]
    values = np.arange(256) / 255
    means = [np.average(values, weights=count) for count in counts]
    stds = [np.average((values - mean) ** 2, weights=count) ** 0.5 for mean, count in zip(means, counts, strict=True)]
    assert facts.mean == pytest.approx(means, abs=5e-9, rel=0)
    assert facts.std == pytest.approx(stds, abs=5e-9, rel=0)


def test_mnist_begins_with_five_zero_four_one_nine() -> None:
    splits = real("mnist")
    assert splits["train"][1][:5].tolist() == [5, 0, 4, 1, 9]
    assert splits["test"][1][:5].tolist() == [7, 2, 1, 0, 4]


def test_cats_dogs_are_cifar10s_classes_3_and_5_in_its_order() -> None:
    cifar10, cats_dogs = real("cifar10"), CatsDogs().load(in_ram=True)
    for split in ("train", "test"):
        images, labels = cifar10[split]
        rows = torch.isin(labels, torch.tensor([3, 5]))
        assert torch.equal(cats_dogs[split][0], images[rows])
        assert torch.equal(cats_dogs[split][1], (labels[rows] == 5).long())
    facts = CatsDogs().facts
    assert (facts.class_names, facts.val_size, facts.mean) == (("cat", "dog"), None, None)
    assert facts.sizes == {"train": 10_000, "test": 2_000}


@pytest.mark.parametrize("image_size", [None, 12])
def test_a_set_on_disk_equals_the_one_in_ram_and_no_warning_is_heard(filled: Path, image_size: int | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        on_disk, in_ram = (Official("mnist", image_size).load(in_ram) for in_ram in (False, True))
        for split in ("train", "test"):
            assert torch.equal(on_disk[split][0][:], in_ram[split][0])
            assert torch.equal(on_disk[split][1], in_ram[split][1])
        del on_disk  # closes the files
    assert not [path for path in filled.parent.iterdir() if path.name != "mnist"], "the copy's file has a name"


def test_what_is_written_into_an_image_never_reaches_the_file(filled: Path) -> None:
    Official("mnist").load(in_ram=False)["train"][0][:].zero_()
    assert not wrong_files(PUBLISHED["mnist"], filled)


def test_resized_images_have_the_size_the_facts_say_and_no_published_mean(filled: Path) -> None:
    source = Official("mnist", image_size=14)
    images, _ = source.load(in_ram=True)["train"]
    whole, _ = Official("mnist").load(in_ram=True)["train"]
    assert source.facts.image_shape == (1, 14, 14) == tuple(images.shape[1:])
    assert source.facts.mean is None and images.dtype == torch.uint8
    assert abs(images.float().mean() - whole.float().mean()) < 1  # antialiased: every pixel has its share
    assert Official("mnist", image_size=28).facts.mean == PUBLISHED["mnist"].mean


def test_an_unknown_name_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="mnist, fashion_mnist, cifar10"):
        Official("mnits")
