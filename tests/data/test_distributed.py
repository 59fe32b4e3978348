"""When two processes train together, each image is seen once in an epoch. Lightning replaces the sampler by its own,
unless each epoch sees other parts of the images."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.packs import photographs

SCRIPT = """
import lightning as L, torch
from dlintro.data import ImageDataModule
from dlintro.models import FlatNet

class See(L.Callback):
    seen = []
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        weights = torch.rand(64, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        self.seen.append(batch[0].flatten(1).double() @ weights)
    def on_train_epoch_end(self, trainer, module):
        everybody = module.all_gather(torch.cat(self.seen)).flatten()
        sampler = trainer.train_dataloader.sampler
        if trainer.is_global_zero:
            print(type(sampler).__name__, sampler.shuffle, len(everybody), len(everybody.unique()))
        self.seen = []

if __name__ == "__main__":
    data = ImageDataModule("synthetic", batch_size=32, shape=[1, 8, 8], train_size=200)
    trainer = L.Trainer(max_epochs=1, devices=2, accelerator="cpu", strategy="ddp_spawn", logger=False,
                        callbacks=[See()], enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(FlatNet(data.image_shape), data)
"""


@pytest.mark.slow
def test_two_processes_see_each_training_image_once(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "DistributedSampler True 200 200" in done.stdout


CUTTING = """
import sys, lightning as L, torch
from dlintro.data import ImageDataModule
from dlintro.models import FlatNet

class See(L.Callback):
    seen = []
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(batch[0].flatten(1).double().mean(1))
    def on_train_end(self, trainer, module):
        everybody = module.all_gather(torch.cat(self.seen)).flatten()
        if trainer.is_global_zero:
            print(len(everybody), "parts,", len(everybody.unique()), "different ones")

if __name__ == "__main__":
    data = ImageDataModule("imagenet", 3, path=sys.argv[1], image_size=32, val_size=2, augment=["resized_crop"])
    trainer = L.Trainer(max_epochs=3, devices=2, accelerator="cpu", strategy="ddp_spawn", logger=False,
                        callbacks=[See()], enable_checkpointing=False,
                        enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(FlatNet(data.image_shape, 2), data)
"""


@pytest.mark.slow
def test_two_processes_see_other_parts_of_the_images_in_each_epoch(tmp_path: Path) -> None:
    script = tmp_path / "cutting.py"
    script.write_text(CUTTING)
    words = [sys.executable, str(script), str(photographs(tmp_path / "images"))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "54 parts, 54 different ones" in done.stdout
