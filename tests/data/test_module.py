"""Batches: their number and order, the splits, and their augmentation."""

import hashlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dlintro.data import ImageDataModule
from dlintro.data.augment import AUGMENTATIONS, augment
from dlintro.data.loader import EpochOrder, Images, ResumableLoader
from dlintro.data.published import PUBLISHED
from dlintro.data.split import class_balanced, others, stratified
from dlintro.data.statistics import channel_statistics
from dlintro.errors import UsageError
from tests.run_folder import checkpoint, synthetic


def ready(*args: object, **kwargs: object) -> ImageDataModule:
    data = ImageDataModule(*args, **kwargs)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup()
    return data


def digest(loader: ResumableLoader, epoch: int, num: int = 50) -> str:
    assert isinstance(loader.sampler, EpochOrder)
    loader.sampler.set_epoch(epoch)
    sha = hashlib.sha256()
    for images, labels in islice(loader, num):
        sha.update(images.numpy().tobytes() + labels.numpy().tobytes())
    return sha.hexdigest()


def test_mnists_test_images_at_batch_500_are_20_batches_and_at_32_as_many_pixels_as_256_of_cifar10() -> None:
    large, small = ready("mnist", batch_size=500), ready("mnist", batch_size=32)
    assert [len(labels) for _, labels in large.test_dataloader()] == [500] * 20
    assert [len(labels) for _, labels in small.test_dataloader()] == [334] * 29 + [314]
    assert [len(labels) for _, labels in islice(small.train_dataloader(), 3)] == [32] * 3
    photographs = ImageDataModule("synthetic", batch_size=4, shape=(3, 224, 224), train_size=8)
    assert photographs.eval_batch_size == 5, "photographs take memory"


def test_drop_last_leaves_out_training_images_only() -> None:
    data = ready("mnist", batch_size=999, drop_last=True, train_size=2500)
    assert len(data.train_dataloader()) == data.num_train_batches() == 2
    assert len(data.val_dataloader()) == 6
    assert sum(len(labels) for _, labels in data.test_dataloader()) == 10_000


def test_the_first_50_batches_are_the_same_for_0_and_4_workers_also_in_epoch_2() -> None:
    alone, helped = (ready("mnist", batch_size=64, num_workers=n, seed=5).train_dataloader() for n in (0, 4))
    digests = [[digest(loader, epoch) for epoch in (0, 1)] for loader in (alone, helped)]
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[0][1]
    assert digest(ready("mnist", batch_size=64, seed=6).train_dataloader(), 0) != digests[0][0]


def test_a_loader_goes_on_where_its_state_says() -> None:
    loader = ready("synthetic", batch_size=16, shape=(1, 4, 4), train_size=100).train_dataloader()
    batches = list(loader)
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    reader = iter(loader)
    next(reader), next(reader)
    state = loader.state_dict()
    again = ready("synthetic", batch_size=16, shape=(1, 4, 4), train_size=100).train_dataloader()
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == len(batches) - 2
    assert all(torch.equal(a[0], b[0]) for a, b in zip(rest, batches[2:], strict=True))
    assert again.state_dict() == {"epoch": 1, "batches": 0}


def test_official_validation_is_the_last_5000_training_images() -> None:
    data = ready("mnist")
    assert (len(data.train), len(data.val), len(data.test)) == (55_000, 5_000, 10_000)
    assert torch.equal(data.val.labels, data.train.labels_N[-5000:])
    assert data.num_train == 55_000


def test_train_size_takes_a_fixed_class_balanced_part_for_every_seed() -> None:
    one, two = ready("mnist", train_size=1000, seed=1), ready("mnist", train_size=1000, seed=2)
    assert one.train.labels.bincount().tolist() == [100] * 10
    assert torch.equal(one.train.indices, two.train.indices)  # type: ignore[arg-type]


def test_stratified_takes_each_classs_share_and_others_takes_the_rest() -> None:
    labels = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)
    taken = stratified(labels, 10)
    assert labels[taken].bincount().tolist() == [7, 2, 1]
    assert sorted([*taken.tolist(), *others(100, taken).tolist()]) == list(range(100))
    assert labels[class_balanced(labels, 30)].bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"val_size": 60_000}, "60000 images"),
        ({"train_size": 55_001}, "55000 training images"),
        ({"train_size": 10, "batch_size": 11, "drop_last": True}, "leaves no batch"),
        ({"augment": ["flop"]}, "use names from crop"),
        ({"on_device": True, "num_workers": 2}, "data.on_device=true with data.num_workers=2"),
    ],
)
def test_impossible_sizes_are_refused_before_anything_is_read(
    arguments: dict[str, object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLINTRO_DATA", "/nonexistent")
    with pytest.raises(UsageError, match=said):
        ImageDataModule("mnist", **arguments)  # type: ignore[arg-type]


def test_channel_statistics_are_those_of_the_pixels() -> None:
    images = torch.randint(0, 256, (50, 3, 6, 5), dtype=torch.uint8)
    rows = torch.arange(10, 40)
    mean, std = channel_statistics(images, rows, at_once=7 * 90)
    scaled = images[rows].double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-7)
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-7)


@pytest.mark.usefixtures("no_pictures")
def test_pixels_are_normalised_by_the_training_images_alone(run: Callable[..., Path]) -> None:
    """Validation images are in the same tensor and don't count. All training images count, whatever train_size is."""
    words = (
        "data=synthetic",
        "data.shape=[3,4,4]",
        "data.batch_size=1000",
        "data.val_size=4000",
        "data.train_size=3000",
    )
    folder = run(*words, "model=flatnet", "trainer.max_epochs=1", "accelerator=cpu", "threads=1")
    saved = checkpoint(folder)["state_dict"]
    data = synthetic(3, 4, 4, val_size=4000)
    images_NCHW = data.train.images_NCHW.numpy() / 255.0
    assert data.val.indices is not None and len(images_NCHW) == 10_000
    left_out = np.zeros(10_000, dtype=bool)
    left_out[data.val.indices.numpy()] = True
    train, everything = images_NCHW[~left_out], images_NCHW
    assert len(train) == 6000
    for name, statistic in (("mean", np.mean), ("std", np.std)):
        found_C = saved[f"pixels.{name}_C11"].flatten().numpy()
        assert found_C == pytest.approx(statistic(train, axis=(0, 2, 3)), abs=2e-7)
        assert np.abs(found_C - statistic(everything, axis=(0, 2, 3))).min() > 2e-6


@pytest.mark.parametrize("splits", [("",), ("train", "test"), ("train", "val", "test")], ids=str)
def test_a_users_images_are_normalised_by_those_for_training_alone(tmp_path: Path, splits: tuple[str, ...]) -> None:
    """This holds if validation images come from the training folder, and if they have their own, brighter folder."""
    for split in splits:
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            for number in range(40):
                generator = np.random.default_rng([number, label == "cat"])
                low = 200 if split in ("val", "test") else 0
                image = generator.integers(low, 256, size=(6, 6, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / split / label / f"{number}.png")
    data = ready("image_folder", path=str(tmp_path), image_size=6, train_size=20)
    images_NCHW = data.train.images_NCHW.numpy() / 255.0
    kept = np.ones(len(images_NCHW), dtype=bool)
    if data.val.indices is not None:  # they are in the same tensor
        kept[data.val.indices.numpy()] = False
    assert kept.sum() > 20 and (splits != ("train", "test") or kept.sum() == 72)
    for found, statistic in ((data.mean, np.mean), (data.std, np.std)):
        assert found == pytest.approx(statistic(images_NCHW[kept], axis=(0, 2, 3)), abs=1e-7)
    assert data.statistics == "the training images, without those kept for validation"


def test_which_images_the_published_statistics_are_of_is_said() -> None:
    data = ImageDataModule("mnist")
    assert data.mean == PUBLISHED["mnist"].mean
    assert "published constants" in data.statistics and "validation included" in data.statistics
    assert ImageDataModule("cats_dogs").mean is None and "without" in ImageDataModule("cats_dogs").statistics


def test_a_batch_has_at_most_all_training_images() -> None:
    data = ready("synthetic", batch_size=4096, shape=(1, 4, 4), train_size=200)
    assert data.batch_size == 200 and [len(labels) for _, labels in data.train_dataloader()] == [200]
    data = ImageDataModule("synthetic", batch_size=100_000, shape=(1, 4, 4), val_size=1000)
    assert data.batch_size == data.num_train == 9000, "what remains after validation"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_draws_for_each_image_and_repeats_for_the_same_draw(name: str) -> None:
    images = torch.randint(1, 256, (1, 3, 12, 16), dtype=torch.uint8).expand(64, -1, -1, -1)
    out = augment(images, [name], (0, 1, 2))
    assert out.shape == images.shape and out.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in out}) > 1
    assert torch.equal(out, augment(images, [name], (0, 1, 2)))
    assert not torch.equal(out, augment(images, [name], (0, 1, 3)))


def test_flip_mirrors_crop_shifts_and_cutout_blackens() -> None:
    images = torch.randint(1, 256, (40, 1, 16, 16), dtype=torch.uint8)
    flipped = augment(images, ["flip"], (0,))
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(2)) for a, b in zip(flipped, images, strict=True))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    for cropped, image in zip(augment(images, ["crop"], (0,)), padded, strict=True):
        windows = [image[:, r : r + 16, c : c + 16] for r in range(5) for c in range(5)]
        assert any(torch.equal(cropped, window) for window in windows)
    cut = augment(images, ["cutout"], (0,))
    black = (cut == 0).flatten(1).sum(1)
    assert int(black.max()) == 16 and int(black.min()) >= 4
    assert torch.equal(cut[cut != 0], images[cut != 0])


@given(rows=st.lists(st.integers(0, 39), min_size=1, max_size=70), part=st.booleans())
def test_a_batch_is_what_indexing_gives(rows: list[int], part: bool) -> None:
    images_NCHW = torch.randint(256, (50, 3, 4, 5), dtype=torch.uint8)
    labels_N, indices = torch.arange(50), torch.randperm(50)[:40]
    images_BCHW, labels_B = Images(images_NCHW, labels_N, indices if part else None).__getitems__(rows)
    wanted = indices[rows] if part else torch.tensor(rows)
    assert torch.equal(images_BCHW, images_NCHW[wanted]) and torch.equal(labels_B, labels_N[wanted])


def test_a_set_on_disk_gives_the_batches_that_ram_gives() -> None:
    in_ram, on_disk = ready("mnist", in_ram=True, train_size=500), ready("mnist", in_ram=False, train_size=500)
    assert digest(in_ram.train_dataloader(), 0) == digest(on_disk.train_dataloader(), 0)


@pytest.mark.parametrize(("values", "same"), [((0, 0), "all pixels are 0"), ((0, 9), "the same pixels in each")])
def test_training_images_that_are_all_the_same_are_refused(tmp_path: Path, values: tuple[int, int], same: str) -> None:
    pixels_HW = np.array([values], np.uint8)
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for n in range(20):
                kept = pixels_HW if split == "train" else pixels_HW + np.uint8(n)
                Image.fromarray(kept).save(tmp_path / split / name / f"{n}.png")
    with pytest.raises(UsageError, match=rf"data=image_folder: the 40 training images are all the same \({same}\)"):
        ready("image_folder", path=str(tmp_path))
    Image.fromarray(pixels_HW + np.uint8(1)).save(tmp_path / "train" / "a" / "19.png")
    assert len(ready("image_folder", path=str(tmp_path)).train) == 40
    assert ready("image_folder", path=str(tmp_path), train_size=1).num_train == 1
