"""optim.ema: the averaged weights equal those computed by hand from the weights after each step."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dlintro.models import MnistCNN
from tests.conftest import SMALL
from tests.run_folder import checkpoint, record, synthetic

Run = Callable[..., Path]
STEPS = 5
SETTINGS = (*SMALL, "model=mnist_cnn", "model.widths=[2,4]", "model.dropout=0", "optim.name=sgd", "optim.lr=0.5",
            "optim.schedule=none")  # fmt: skip


@pytest.mark.usefixtures("no_pictures")
def test_the_average_begins_at_the_first_weights_and_forgets_them_sooner_at_first(run: Run) -> None:
    """Update n = 1, 2, ... keeps min(decay, (1 + n) / (10 + n)) of the average: 2/11, 3/12, 4/13, 5/14."""
    after = [checkpoint(run(*SETTINGS, f"trainer.max_steps={step}"))["state_dict"] for step in range(1, STEPS + 1)]
    for decay, kept in ((0.9, (2 / 11, 3 / 12, 4 / 13, 5 / 14)), (0.26, (2 / 11, 3 / 12, 0.26, 0.26))):
        folder = run(*SETTINGS, f"trainer.max_steps={STEPS}", f"optim.ema={decay}")
        found = checkpoint(folder)
        for name, first in after[0].items():
            average = first.double()
            for share, weights in zip(kept, after[1:], strict=True):
                average = share * average + (1 - share) * weights[name].double()
            if not first.is_floating_point():  # batch norm's count of batches has no average
                average = after[-1][name]
            torch.testing.assert_close(found["state_dict"][name], average.to(first.dtype), rtol=1e-4, atol=1e-6)
            assert torch.equal(found["current_model_state"][name], after[-1][name]), "the training goes on as without"

        # The averaged weights are the ones that are validated and tested.
        model = MnistCNN.load_from_checkpoint(folder / "checkpoints" / "last.ckpt").eval()
        data = synthetic(1, 8, 8)
        for images, field in ((data.val, "val/loss"), (data.test, "test/loss")):
            images_NCHW, labels_N = images.__getitems__(list(range(len(images))))
            with torch.no_grad():
                loss = F.cross_entropy(model(images_NCHW).double(), labels_N)
            assert record(folder)[field] == pytest.approx(float(loss), rel=1e-4)
