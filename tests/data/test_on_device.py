"""data.on_device and pinned memory. PyTorch's meta device, which has shapes without values, stands for an accelerator.
Without a GPU, the values of copies, the real free memory and the speed of pinned copies are not tested.
"""

from types import SimpleNamespace

import psutil
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device

from dlintro.accelerators import pinning_helps
from dlintro.data import ImageDataModule, module
from dlintro.data import loader as loader_module
from dlintro.data.loader import ResumableLoader
from dlintro.memory import device_free_bytes
from dlintro.settings.identity import config_hash
from tests.conftest import composed
from tests.data.test_module import ready

ACCELERATOR, CPU = torch.device("meta"), torch.device("cpu")


def attached(device: torch.device, **settings: object) -> ImageDataModule:
    """Attach 10,000 + 2,000 images of 4x4 pixels with labels to a Trainer on this device."""
    data = ready("synthetic", batch_size=16, shape=(1, 4, 4), train_size=100, **settings)
    module = SimpleNamespace(evaluates_training_images=True)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=device), lightning_module=module)
    data.trainer = trainer  # type: ignore[assignment]
    return data


def loaders(data: ImageDataModule) -> list[ResumableLoader]:
    return [data.train_dataloader(), *data.val_dataloader(), data.test_dataloader()]


def set_bytes(data: ImageDataModule) -> int:
    return sum(t.nbytes for part in (data.train, data.test) for t in (part.images_NCHW, part.labels_N))


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The free memory of the pretended accelerator, which a test can change."""
    amount = [10**12]
    monkeypatch.setattr(module, "on_accelerator", lambda device: device == ACCELERATOR)
    monkeypatch.setattr(module, "device_free_bytes", lambda device: amount[0])
    return amount


def test_the_set_is_copied_once_and_batches_are_indexed_there(free: list[int]) -> None:
    data = attached(ACCELERATOR, on_device=True)
    train, val, train_eval, test = loaders(data)
    for loader in (train, val, train_eval, test):
        images, labels = next(iter(loader))
        num = 16 if loader is train else len(loader.dataset)  # these few pixels are evaluated at once
        assert images.device == labels.device == ACCELERATOR
        assert images.shape == (num, 1, 4, 4) and images.dtype == torch.uint8 and labels.shape == (num,)
    for part in (val, train_eval):
        assert part.dataset.images_NCHW is train.dataset.images_NCHW  # type: ignore[attr-defined]
        assert part.dataset.labels_N is train.dataset.labels_N  # type: ignore[attr-defined]
    assert loaders(data)[3].dataset.images_NCHW is test.dataset.images_NCHW  # type: ignore[attr-defined]
    assert [len(loader) for loader in loaders(data)] == [len(loader) for loader in loaders(attached(CPU))]


def test_only_the_indices_of_a_batch_are_sent_to_a_set_on_the_device(
    free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[torch.Tensor] = []

    def noted(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        sent.append(tensor)
        return move_data_to_device(tensor, device)

    monkeypatch.setattr(loader_module, "move_data_to_device", noted)
    next(iter(attached(ACCELERATOR, on_device=True).train_dataloader()))
    assert [tuple(rows.shape) for rows in sent] == [(16,)]
    next(iter(attached(CPU).train_dataloader()))
    assert len(sent) == 1


def test_what_pictures_and_the_screen_take_stays_on_the_cpu(free: list[int]) -> None:
    data = attached(ACCELERATOR, on_device=True)
    loaders(data)
    images, labels = data.train_draw(8, 1)
    kept = (images, labels, data.train_sample(8), data.test.images_NCHW, data.test.labels_N, data.val.labels)
    assert all(tensor.device == CPU for tensor in kept)


def test_a_set_of_more_than_half_of_the_free_memory_stays_in_ram_and_one_line_says_so(
    free: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    num_bytes = set_bytes(attached(CPU))
    for amount, fits in ((2 * num_bytes, True), (2 * num_bytes - 1, False)):
        free[0] = amount
        caplog.clear()
        data = attached(ACCELERATOR, on_device=True)
        assert all((next(iter(loader))[0].device == ACCELERATOR) == fits for loader in loaders(data))
        said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(said) == (not fits) and all(
            "stays in RAM" in line and "0.0 GB free on meta" in line for line in said
        )


@pytest.mark.parametrize(("device", "on_device"), [(CPU, True), (ACCELERATOR, False)])
def test_on_the_cpu_and_without_the_key_the_batches_are_in_ram(
    free: list[int], device: torch.device, on_device: bool
) -> None:
    data = attached(device, on_device=on_device)
    for loader, part in zip(loaders(data), (data.train, data.val, data.train_eval, data.test), strict=True):
        assert loader.dataset is part and next(iter(loader))[0].device == CPU


def test_batches_are_pinned_where_it_helps_and_the_set_is_not_there_already(
    free: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not any(loader.pin_memory for loader in loaders(attached(CPU)))
    monkeypatch.setattr(module, "pinning_helps", lambda device: device == ACCELERATOR)
    assert all(loader.pin_memory for loader in loaders(attached(ACCELERATOR)))
    assert not any(loader.pin_memory for loader in loaders(attached(ACCELERATOR, on_device=True)))
    free[0] = 0
    assert all(loader.pin_memory for loader in loaders(attached(ACCELERATOR, on_device=True)))


def test_pinning_helps_with_cuda_alone() -> None:
    assert pinning_helps(torch.device("cuda", 1))
    assert not any(pinning_helps(torch.device(name)) for name in ("cpu", "mps"))


def test_lightning_moves_a_batch_without_waiting_except_to_the_cpu() -> None:
    asked: list[dict[str, object]] = []

    class Noted(torch.Tensor):
        def to(self, *arguments: object, **keywords: object) -> torch.Tensor:  # type: ignore[override]
            asked.append(keywords)
            return self

    batch = (torch.zeros(2).as_subclass(Noted), torch.zeros(2).as_subclass(Noted))
    for device in (torch.device("cuda", 0), CPU):
        move_data_to_device(batch, device)
    assert asked == [{"non_blocking": True}] * 2 + [{}] * 2


def test_where_a_backend_cannot_say_its_free_memory_is_that_of_the_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "get_memory_info", lambda device: (5, 10))
    assert device_free_bytes(ACCELERATOR) == 5

    def not_implemented(device: torch.device) -> tuple[int, int]:
        raise NotImplementedError

    monkeypatch.setattr(torch.accelerator, "get_memory_info", not_implemented)
    assert 0 < device_free_bytes(ACCELERATOR) <= psutil.virtual_memory().total


def test_it_is_no_part_of_what_a_run_is() -> None:
    plain, there = (composed(f"data.on_device={value}").plain() for value in ("false", "true"))
    assert config_hash(plain) == config_hash(there)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA or AMD device")
def test_on_a_gpu_the_batches_are_those_in_ram() -> None:
    device = torch.device("cuda", 0)
    there, here = attached(device, on_device=True), attached(CPU)
    for ours, theirs in zip(loaders(there), loaders(here), strict=True):
        for (images, labels), (expected_images, expected_labels) in zip(ours, theirs, strict=True):
            assert images.device == labels.device == device
            assert torch.equal(images.cpu(), expected_images) and torch.equal(labels.cpu(), expected_labels)
    assert next(iter(attached(device).train_dataloader()))[0].is_pinned()
