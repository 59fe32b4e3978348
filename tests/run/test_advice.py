"""A run says what would make it faster or better, and says it only where that is so."""

import logging
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from dlintro.run.train import train
from tests.conftest import SMALL, composed
from tests.data.packs import packed, photographs

Run = Callable[..., Path]
LITTLE = ("model=flatnet", "trainer.max_epochs=1", "accelerator=cpu", "threads=1")
FOLDER = ("data=image_folder", "data.image_size=8")


@pytest.mark.usefixtures("no_pictures")
def test_files_that_are_decoded_anew_are_faster_once_packed(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photographs(tmp_path / "images", splits=("train", "test"))
    words = [*FOLDER, f"data.path={root}"]
    pack = packed(tmp_path / "pack", *words)
    assert "decoded anew" not in capsys.readouterr().out, "who packs has no need of it"
    run(*LITTLE, *words)
    run(*LITTLE, "data=packed", f"data.path={pack}")
    assert "decoded anew" not in capsys.readouterr().out
    run(*LITTLE, *words, "data.in_ram=false")
    assert (
        "decoded anew whenever it is used: scripts/pack, with the data.* words of this set" in capsys.readouterr().out
    )
    words_of_pack, words = words, [*LITTLE, *words, "data.in_ram=false"]
    (tmp_path / "typed").mkdir()
    train(composed(*words), tmp_path / "typed", shlex.join(["scripts/train", *words]))
    assert f": scripts/pack {shlex.join(words_of_pack)} -o PACK writes them once" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("freezes", [True, False])
def test_a_backbone_frozen_at_random_is_warned_of(run: Run, freezes: bool, caplog: pytest.LogCaptureFixture) -> None:
    words = (*SMALL, "model=flatnet", "model.hidden=[4]", "trainer.max_epochs=1")
    with caplog.at_level(logging.WARNING):
        first = run(*words, *(["model.freeze=backbone"] if freezes else []))
        assert ("model.freeze=backbone without model.weights" in caplog.text) == freezes
        caplog.clear()
        run(*words, "model.freeze=backbone", f"model.weights={first / 'checkpoints' / 'last.ckpt'}")
        assert "without model.weights" not in caplog.text


@pytest.mark.usefixtures("no_pictures")
def test_few_steps_from_learnt_weights_are_not_said_to_teach_nothing(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first = run(*SMALL, *LITTLE)
    assert "steps are too few to learn much; train longer" in capsys.readouterr().out
    run(*SMALL, *LITTLE, f"model.weights={first}/checkpoints/best.ckpt")
    assert "steps are few, even from these weights; train longer" in capsys.readouterr().out


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(("steps", "warned"), [(14, True), (15, False)])
def test_a_backbone_that_never_learns_is_warned_of(
    run: Run, steps: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    words = (*SMALL, "model=flatnet", "model.hidden=[4]", "trainer.max_epochs=null")  # 7 steps an epoch
    run(*words, "optim.head_epochs=2", f"trainer.max_steps={steps}")
    said = "optim.head_epochs=2: the training ends in epoch 2, so the backbone never learns"
    assert (said in caplog.text) == warned
