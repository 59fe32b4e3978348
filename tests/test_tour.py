"""Read this first: one batch, one step, one logged number."""

import lightning as L
import torch

from dlintro.data import ImageDataModule
from dlintro.models import FlatNet


def test_a_batch_is_uint8_images_and_integer_labels() -> None:
    data = ImageDataModule("mnist", batch_size=32)
    data.prepare_data()
    data.setup()
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((32, 1, 28, 28), torch.uint8)
    assert (labels.shape, labels.dtype) == ((32,), torch.int64)


def test_flatnet_is_w_times_x_plus_b() -> None:
    model = FlatNet()
    images = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    weight, bias = model.network[-1].weight, model.network[-1].bias
    x = (images.flatten(1).float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(model(images), x @ weight.T + bias)


def test_training_changes_the_weights_and_logs_the_loss() -> None:
    data = ImageDataModule("mnist", batch_size=32, train_size=320)
    model = FlatNet()
    before = model.network[-1].weight.detach().clone()
    trainer = L.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(model, data)
    assert trainer.global_step == 10
    assert not torch.equal(model.network[-1].weight, before)
    assert trainer.callback_metrics["val/acc"] > 0.3
