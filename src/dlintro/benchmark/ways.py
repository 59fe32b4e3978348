"""Runs the same training in four ways and measures the images per second of each.

stack   dlintro as its users run it, with Trainer, TensorBoard, progress bar, exact metrics, checkpoints
bare    bare_loop.py with the same network, batches and precision
plain   bare_loop.py in float32 with PyTorch's default memory format
usual   torchvision's transforms image by image, a metric object and self.log in each step
"""

import contextlib
import csv
import io
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from dlintro import bare_loop
from dlintro.accelerators import Device
from dlintro.benchmark.usual import UsualModule, per_image_loader
from dlintro.commands.evaluate import test
from dlintro.data.loader import Images
from dlintro.memory import keep_freed_memory, on_accelerator
from dlintro.run.logger import RunLogger
from dlintro.run.parts import Run, facts, prepare
from dlintro.run.train import fit_and_test
from dlintro.settings.compose import compose

NOWHERE = Path(os.devnull)


@dataclass(frozen=True)
class Case:
    """A training of `steps` steps, of which the first `warmup` aren't timed, and a test of `test_images` images."""

    model: str
    data: str
    batch_size: int
    precision: str
    steps: int
    warmup: int
    test_images: int

    @property
    def words(self) -> list[str]:
        """Return what a user types for this case."""
        return [
            f"model={self.model}", f"data={self.data}", f"data.batch_size={self.batch_size}",
            f"data.train_size={self.steps * self.batch_size}", "data.val_size=256", "trainer.max_epochs=1",
            f"trainer.precision={self.precision}", f"trainer.log_every_n_steps={min(50, self.warmup)}",
        ]  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Images per second of the training steps, and of a whole test including the making of its Trainer."""

    training: float
    inference: float


def prepared(case: Case, device: Device, folder: Path = NOWHERE) -> Run:
    """Prepare the case for training. Files go to `folder`, if any are written."""
    logging.getLogger("lightning").handlers.clear()  # keeps Lightning's lines out of the terminal
    run = prepare(compose([*case.words, f"accelerator={device.kind}", f"accelerator.index={device.index}"]), folder)
    run.data.prepare_data()
    run.data.setup()
    test = run.data.test
    run.data.test = Images(test.images_NCHW, test.labels_N, torch.arange(min(case.test_images, len(test))))
    return run


def stack(case: Case, device: Device) -> Speed:
    keep_freed_memory()  # as dlintro.run.train.train does
    with tempfile.TemporaryDirectory() as name, terminal():
        run = prepared(case, device, Path(name))
        run.record.start(**facts(run), command="scripts/benchmark")
        logger = RunLogger(run.folder)
        fit_and_test(run, logger)
        logger.close()
        run.record.finish("ok")
        start = time.perf_counter()
        test(run.model, run.data, device, case.precision)
        seconds = time.perf_counter() - start
        with logger.csv_path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["train/images_per_second"]]
    first, last = rows[0], rows[-1]
    training = (int(last["images"]) - int(first["images"])) / (
        float(last["train_seconds"]) - float(first["train_seconds"])
    )
    return Speed(training, len(run.data.test) / seconds)


def bare(case: Case, device: Device) -> Speed:
    return loop(case, device, prepared(case, device))


def plain(case: Case, device: Device) -> Speed:
    run = prepared(case, device)
    run.model.network.to(memory_format=torch.contiguous_format)
    run.model.channels_last = False
    return loop(replace(case, precision="32-true"), device, run)


def loop(case: Case, device: Device, run: Run) -> Speed:
    data, model, times = run.data, run.model, []
    for _ in bare_loop.train(model, data, 1, device.kind, case.precision):
        times.append(time.perf_counter())
    model.eval()
    correct = 0
    start = time.perf_counter()
    with torch.inference_mode():
        for images, labels in data.test_dataloader():
            with bare_loop.autocast(device.kind, case.precision):
                logits = model(images.to(device.kind))
            correct += (logits.argmax(1).cpu() == labels).sum().item()
    return Speed(training_speed(case, times), len(data.test) / (time.perf_counter() - start))


def usual(case: Case, device: Device) -> Speed:
    case = replace(case, steps=max(4, case.steps // 4), warmup=max(1, case.warmup // 4))  # because it is slow
    run = prepared(case, device)
    data, model = run.data, run.model
    module = UsualModule(model.network.to(memory_format=torch.contiguous_format), data.num_classes, model.optim.lr)
    train_loader = per_image_loader(data, data.train, shuffle=True)
    test_loader = per_image_loader(data, data.test, shuffle=False)
    clock = Clock()
    with tempfile.TemporaryDirectory() as name, terminal():
        trainer = L.Trainer(
            accelerator=device.kind,
            devices=1,
            max_epochs=1,
            default_root_dir=name,
            callbacks=[clock, TQDMProgressBar()],  # with rich installed, Lightning would choose a slower bar
            enable_model_summary=False,
        )
        trainer.fit(module, train_loader)
        start = time.perf_counter()
        tester = L.Trainer(accelerator=device.kind, devices=1, logger=False, callbacks=[TQDMProgressBar()])
        tester.test(module, test_loader, verbose=False)
        seconds = time.perf_counter() - start
    return Speed(training_speed(case, clock.times), len(data.test) / seconds)


class Clock(Callback):
    """Notes when each training step ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if on_accelerator(pl_module.device):
            torch.accelerator.synchronize()
        self.times.append(time.perf_counter())


def training_speed(case: Case, times: list[float]) -> float:
    """Return the images per second from the times at which steps ended, without the first `warmup` steps."""
    num_steps = len(times) - case.warmup
    return num_steps * case.batch_size / (times[-1] - times[case.warmup - 1])


class Terminal(io.StringIO):
    """Pretends to be a terminal, because progress bars aren't drawn into files."""

    def isatty(self) -> bool:
        return True


@contextlib.contextmanager
def terminal() -> Iterator[None]:
    with contextlib.redirect_stdout(Terminal()), contextlib.redirect_stderr(Terminal()):
        yield


WAYS = {"stack": stack, "bare": bare, "plain": plain, "usual": usual}
