"""Trains as the slides do, in plain PyTorch: the same batches, network, loss and optimizer, without Lightning.

The comments are the lines of the pipeline slide, in its order. With Lightning, the Trainer does these steps for you.

    python -m dlintro.bare_loop
"""

from collections.abc import Iterator

import torch

from dlintro.data import ImageDataModule
from dlintro.models import Classifier, MnistCNN
from dlintro.models.optim import make_optimizer, make_scheduler


def train(
    model: Classifier, data: ImageDataModule, epochs: int, device: str, precision: str = "32-true"
) -> Iterator[float]:
    """Train, and yield the loss of each step (the batch's mean, before the step)."""
    # 1. Read the data, preprocess it and load it into the RAM.
    data.prepare_data()
    data.setup()
    assert data.mean is not None and data.std is not None
    model.pixels.set_statistics(data.mean, data.std)
    loader = data.train_dataloader()
    # 2. Move the model and the data (below, batch by batch) to the device's memory.
    model.to(device)
    num_steps = epochs * len(loader)
    lr = model.optim.scaled_lr(data.batch_size)
    optimizer = make_optimizer(model.optim, model.parameters(), lr, fused=True)
    schedule = make_scheduler(model.optim, optimizer, num_steps)
    model.train()
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for images, labels in loader:
            images, labels = images.to(device), labels.to(device)
            # 3. Compute what the layers describe, on the device.
            with autocast(device, precision):
                loss = model.loss(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if schedule is not None:
                schedule.step()
            # 4. Move the result back to the RAM.
            yield loss.to("cpu").item()


def autocast(device: str, precision: str) -> torch.autocast:
    """Return a context that, for bf16-mixed, computes products and convolutions in bfloat16. The rest is float32."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16-mixed")


if __name__ == "__main__":
    torch.manual_seed(0)
    model = MnistCNN()  # the defaults of scripts/train
    losses = train(model, ImageDataModule("mnist"), epochs=2, device="cpu")
    for step, loss in enumerate(losses, start=1):
        if step % 50 == 0:
            print(f"step {step}  loss {loss:.4f}")
