"""Tests what a record says of the test set, for the last weights and for those that validation chose."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL
from tests.run_folder import checkpoint, curve, record, scripted, scripted_accuracy, synthetic

Run = Callable[..., Path]


@pytest.mark.parametrize(("levels", "best"), [
    ((3, 9, 5, 2), 1),
    ((3, 5, 9, 4), 2),  # the last epoch but one
    ((3, 5, 9), 2),  # the last epoch: the same weights
])  # fmt: skip
@pytest.mark.usefixtures("no_pictures")
def test_the_test_accuracies_are_those_of_the_last_and_of_the_best_weights(
    run: Run, tmp_path: Path, levels: Sequence[int], best: int
) -> None:
    test = synthetic(1, 20, 20).test
    folder = run(*scripted(tmp_path, levels))
    found = record(folder)
    for name, field, level in (("best.ckpt", "best/test", levels[best]), ("last.ckpt", "test", levels[-1])):
        saved = checkpoint(folder, name)["state_dict"]
        assert levels[(int(saved["network.steps"]) - 1) // 7] == level
        accuracy = scripted_accuracy(test.images_NCHW, test.labels_N, level)
        assert found[f"{field}/acc"] == accuracy

        # The loss also needs the trained weights: 100 for the class that the network answers, and a linear layer.
        pixels_NP = ((test.images_NCHW / 255 - saved["pixels.mean_C11"]) / saved["pixels.std_C11"]).flatten(1).double()
        brightest_N = pixels_NP.reshape(-1, 10, 40).mean(2).argmax(1)
        said_N = torch.where(brightest_N < level, brightest_N, (brightest_N + 1) % 10)
        weight_KP, bias_K = saved["network.trained.weight"].double(), saved["network.trained.bias"].double()
        logits_NK = 100.0 * torch.eye(10)[said_N] + pixels_NP @ weight_KP.T + bias_K
        loss = float(-logits_NK.log_softmax(1)[torch.arange(len(test)), test.labels_N].mean())
        assert found[f"{field}/loss"] == pytest.approx(loss, rel=1e-5)
    assert (found["best/test/acc"] == found["test/acc"]) == (best == len(levels) - 1)
    if best < len(levels) - 1:
        assert curve(folder, "best/test/acc") == [found["best/test/acc"]]
    assert curve(folder, "test/acc") == [found["test/acc"]]


@pytest.mark.usefixtures("no_pictures")
def test_a_batch_larger_than_the_set_is_said_and_recorded_as_it_is(
    run: Run, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = record(run(*SMALL, "model=flatnet", "data.batch_size=4096", "trainer.accumulate_grad_batches=5"))
    assert (found["batch_size"], found["accumulate"], found["train_images"], found["steps"]) == (200, 1, 200, 2)
    assert found["statistics"] == "the training images, without those kept for validation"
    assert "2 steps of 200 images" in capsys.readouterr().out
    assert "data.batch_size=4096: there are 200 training images, so this is data.batch_size=200" in caplog.text
    found = record(run(*SMALL, "model=flatnet", "trainer.accumulate_grad_batches=100"))
    assert (found["batch_size"], found["accumulate"], found["steps"]) == (32, 7, 2)
    assert "2 steps of 200 images" in capsys.readouterr().out


@pytest.mark.parametrize(("levels", "epochs"), [
    ((3, 5, 4, 5, 9, 9), 4),  # two epochs, 2 and 3, are no better than epoch 1
    ((3, 5, 4, 6, 5, 9), 6),
])  # fmt: skip
@pytest.mark.usefixtures("no_pictures")
def test_early_stopping_waits_for_a_higher_accuracy(
    run: Run, tmp_path: Path, levels: Sequence[int], epochs: int
) -> None:
    folder = run(*scripted(tmp_path, levels), "trainer.early_stopping=2")
    assert record(folder)["epochs"] == len(curve(folder, "val/acc")) == epochs
