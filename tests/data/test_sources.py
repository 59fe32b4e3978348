"""A name gives a data set, and wrong arguments are refused at once."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from dlintro.data import ImageDataModule
from dlintro.data.folder import ImageFolder
from dlintro.data.imagenet import ImageNet
from dlintro.data.official import CatsDogs, Official
from dlintro.data.packed import Packed
from dlintro.data.sources import make_source, source_classes
from dlintro.data.synthetic import Synthetic
from dlintro.errors import UsageError
from tests.data.packs import packed


def test_every_name_makes_its_source(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for split in ("train", "test", "val"):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(3):
                Image.new("L", (2, 2)).save(tmp_path / split / name / f"{n}.png")
    pack = packed(tmp_path / "pack", "data=image_folder", f"data.path={tmp_path}")
    kinds = {"cats_dogs": CatsDogs, "image_folder": ImageFolder, "synthetic": Synthetic, "imagenet": ImageNet}
    paths = {"image_folder": str(tmp_path), "imagenet": str(tmp_path), "packed": str(pack)}
    for name in source_classes():
        source = make_source(name, path=paths.get(name))
        assert type(source) is (kinds | {"packed": Packed}).get(name, Official) and source.facts.name == name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"name": "imagenette"},
            "data=imagenette: there is no such data set; the data sets are image_folder, imagenet, mnist,",
        ),
        ({"name": "image_folder"}, "needs data.path=DIR"),
        (
            {"name": "mnist", "path": "here"},
            "data.path belongs to data=image_folder and data=imagenet and data=packed, not to data=mnist",
        ),
        ({"name": "mnist", "shape": [1, 8, 8]}, "data.shape belongs to data=synthetic, not to data=mnist"),
        (
            {"name": "cifar10", "skip_broken": True},
            "data.skip_broken belongs to data=image_folder, not to data=cifar10",
        ),
        ({"name": "synthetic", "image_size": 8}, "data.image_size belongs to .*, not to data=synthetic"),
        ({"name": "mnist", "image_size": 0}, "data.image_size=0"),
        ({"name": "mnist", "image_size": 16_385}, "data.image_size=16385"),
        ({"name": "mnist", "val_size": 0}, "data.val_size=0"),
        ({"name": "mnist", "val_size": 60_000}, "data.val_size=60000: mnist has 60000 images"),
        ({"name": "cats_dogs", "val_size": 10_000}, "data.val_size=10000: cats_dogs has 10000 images"),
        ({"name": "synthetic", "shape": [3, 8]}, r"data.shape=\[3, 8\]: type three"),
        ({"name": "synthetic", "shape": [3, 8, 0]}, r"data.shape=\[3, 8, 0\]: type three"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_what_to_type(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        ImageDataModule(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_val_size_replaces_an_official_sets_5000() -> None:
    assert make_source("mnist").facts.val_size == 5_000
    assert make_source("mnist", val_size=10_000).facts.val_size == 10_000


def test_a_resized_official_set_says_its_size() -> None:
    assert make_source("cats_dogs", image_size=48).facts.image_shape == (3, 48, 48)


@pytest.mark.parametrize(("shape", "num_classes"), [((3, 32, 32), 10), ((1, 28, 28), 7), ((2, 5, 7), 100)])
def test_synthetic_images_are_the_same_each_time_in_ram_or_on_disk(
    shape: tuple[int, int, int], num_classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLINTRO_DATA", str(tmp_path))
    source = Synthetic(shape, num_classes, num_train=1_500, num_test=300)
    first, again = source.load(in_ram=True), source.load(in_ram=False)
    for split, num in (("train", 1_500), ("test", 300)):
        images, labels = first[split]
        assert images.shape == (num, *shape) and images.dtype == torch.uint8 and labels.dtype == torch.int64
        assert labels.unique().tolist() == list(range(num_classes))
        assert torch.equal(images, again[split][0][:]) and torch.equal(labels, again[split][1])


def test_synthetic_classes_can_be_learned() -> None:
    splits = Synthetic((1, 8, 8), num_classes=4, num_train=400, num_test=200).load(in_ram=True)
    (images, labels), (test_images, test_labels) = splits["train"], splits["test"]
    means = torch.stack([images[labels == label].float().flatten(1).mean(0) for label in range(4)])
    nearest = torch.cdist(test_images.float().flatten(1), means).argmin(1)
    assert (nearest == test_labels).float().mean() > 0.95


@pytest.mark.parametrize("numbers", [(1, 100, 10), (10, 9, 10), (10, 100, 0)])
def test_there_are_at_least_two_classes_each_with_a_training_image(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="synthetic: "):
        Synthetic((1, 2, 2), *numbers)
