"""callbacks=pipeline logs and draws the right times, its parts add up, and it doesn't change the run."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlintro.callbacks import pipeline
from dlintro.callbacks.pipeline import ACTIONS, Pipeline, Stopwatches, step_figure
from dlintro.commands.train import check_same_run
from dlintro.errors import Interrupted, UsageError
from dlintro.run import train as train_module
from dlintro.run.train import train
from dlintro.settings.identity import config_hash
from dlintro.sweep.plan import make_jobs, sweep_name
from tests.conftest import SMALL, composed
from tests.run.test_resume import stop_at, weights

Run = Callable[..., Path]
FLAT = (*SMALL, "model=flatnet", "trainer.log_every_n_steps=3")  # 7 batches an epoch
WATCHED = (*FLAT, "callbacks=pipeline")
PARTS = ("read", "move", "forward", "backward", "update", "results", "other")


def points(folder: Path) -> dict[str, dict[int, float]]:
    """Read {part: {step: ms}} from the event files."""
    accumulator = events(folder)
    tags = [tag for tag in accumulator.Tags()["scalars"] if tag.startswith("pipeline/")]
    return {
        tag.removeprefix("pipeline/").removesuffix("_ms"): {p.step: p.value for p in accumulator.Scalars(tag)}
        for tag in tags
    }


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


@pytest.fixture(autouse=True)
def only_its_own_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "draw", lambda *arguments: None)  # the other pictures take longer than the runs


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A clock that advances by a second each time it is read."""
    clock = count()
    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    return clock


def test_a_step_in_fifty_is_in_tensorboard_and_the_picture_is_one(run: Run) -> None:
    folder = run(*WATCHED, "trainer.max_epochs=20")  # 140 steps
    found = points(folder)
    assert set(found) == set(PARTS)
    for part, curve in found.items():
        assert list(curve) == [2, 52, 102], part
        assert all(math.isfinite(ms) and ms >= 0 for ms in curve.values()), part
    assert all(found[part][52] > 0 for part in PARTS)
    (picture,) = events(folder).Images("pipeline/step")
    assert picture.step == 102 and picture.width > 600


def test_augmentation_is_a_part_of_its_own_where_there_is_any(run: Run) -> None:
    found = points(run(*WATCHED, "data.augment=[crop]", "trainer.max_epochs=1"))
    assert set(found) == {*PARTS, "augment"} and found["augment"][2] > 0


def test_the_parts_add_up_to_the_time_from_the_end_of_a_step_to_the_end_of_the_next(
    run: Run, monkeypatch: pytest.MonkeyPatch, ticks: Iterator[int]
) -> None:
    taken: list[float] = []
    begun: list[float] = []
    begin, end = Stopwatches.begin, Stopwatches.end

    def noted_begin(self: Stopwatches, actions: Any) -> None:
        begin(self, actions)
        begun.append(self._since)

    def noted_end(self: Stopwatches) -> dict[str, float]:
        whole = self.actions is ACTIONS
        seconds = end(self)
        if whole:
            taken.append(self._since - begun[-1])
        return seconds

    monkeypatch.setattr(Stopwatches, "begin", noted_begin)
    monkeypatch.setattr(Stopwatches, "end", noted_end)
    found = points(
        run(*WATCHED, "trainer.max_epochs=9", "trainer.log_every_n_steps=1")
    )  # each step is read: no amortising
    assert list(found["read"]) == [2, 52]
    for step, seconds in zip((2, 52), taken, strict=True):
        assert sum(curve[step] for curve in found.values()) == pytest.approx(1000 * seconds)


def test_a_part_within_a_part_is_counted_once(ticks: Iterator[int]) -> None:
    watches = Stopwatches()
    watches.begin(ACTIONS)  # 0
    watches.start("[_TrainingEpochLoop].train_dataloader_next")  # 1
    watches.stop("[_TrainingEpochLoop].train_dataloader_next")  # 2
    with watches.profile("[LightningModule]FlatNet.optimizer_step"):  # 3
        with watches.profile("[Strategy]SingleDeviceStrategy.training_step"), watches.profile("results"):  # 4, 5; 6, 7
            pass
        with watches.profile("[Callback]Progress.on_before_optimizer_step"):  # not a timed action
            pass
        with watches.profile("[Strategy]SingleDeviceStrategy.backward"):  # 8, 9
            pass
    # 10
    assert watches.end() == {"other": 3, "read": 1, "update": 3, "forward": 2, "results": 1, "backward": 1}  # 11


def test_what_comes_once_in_several_batches_is_divided_by_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = {"read": 1.0, "update": 6.0, "results": 12.0, "other": 1.0}

    def end(self: Stopwatches) -> dict[str, float]:
        whole, self.actions = self.actions is ACTIONS, {}
        return dict(measured) if whole else {"results": 12.0}

    monkeypatch.setattr(Stopwatches, "end", end)
    words = (*WATCHED, "data.train_size=384", "trainer.max_epochs=6")  # 12 batches an epoch
    folder = run(*words, "trainer.accumulate_grad_batches=3", "trainer.log_every_n_steps=6")
    found = points(folder)
    assert list(found["update"]) == [1, 18]  # batches 3 and 54: the first two that make a step and are 50 apart
    assert set(found["update"].values()) == {2000}
    assert set(found["results"].values()) == {2000}
    assert set(found["read"].values()) == {1000}


def test_a_step_that_an_evaluation_comes_before_is_left_to_the_next(run: Run) -> None:
    words = ("data.train_size=544", "trainer.max_epochs=4")  # 17 batches an epoch: the 52nd would be due, a first one
    assert list(points(run(*WATCHED, *words))["read"]) == [2, 53]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (("trainer.max_steps=1",), []),
        (("trainer.max_steps=2",), [2]),
        (("trainer.max_epochs=1", "trainer.log_every_n_steps=1000000"), [2]),
        (("trainer.max_epochs=3", "data.batch_size=1000000"), [2]),  # an epoch is a batch
    ],
)
def test_a_short_run_has_a_sample_but_its_first_step(run: Run, words: tuple[str, ...], steps: list[int]) -> None:
    folder = run(*WATCHED, *words)
    assert list(points(folder).get("read", {})) == steps
    assert ("pipeline/step" in events(folder).Tags()["images"]) == bool(steps)


OTHER_WAYS: list[tuple[str, ...]] = [
    (),
    ("trainer.accumulate_grad_batches=3", "optim.ema=0.9"),
    ("trainer.accumulate_grad_batches=100000",),
    ("trainer.eval_images=50", "data.augment=[crop]"),
    ("trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1"),
    ("data.num_workers=2",),
]


@pytest.mark.parametrize("extra", OTHER_WAYS)
def test_the_weights_and_the_hash_are_those_of_a_run_without_it(run: Run, extra: tuple[str, ...]) -> None:
    words = ("trainer.max_epochs=10", "model.hidden=[8]", "model.dropout=0.2", *extra)
    plain, watched = run(*FLAT, *words), run(*WATCHED, *words)
    old, new = weights(plain), weights(watched)
    assert [key for key in old if not torch.equal(old[key], new[key])] == []
    records = [json.loads((folder / "record.json").read_text()) for folder in (plain, watched)]
    assert records[0]["config_hash"] == records[1]["config_hash"]
    found = points(watched)
    assert set(PARTS) <= set(found) and all(ms >= 0 for curve in found.values() for ms in curve.values())
    assert not points(plain)


def test_without_it_nothing_is_timed_and_nothing_waits_for_a_device(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> float:
        raise AssertionError

    monkeypatch.setattr(pipeline, "time", SimpleNamespace(perf_counter=never))
    monkeypatch.setattr(pipeline, "on_accelerator", lambda device: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", never)
    run(*FLAT, "trainer.max_epochs=1")
    watches = Stopwatches()
    assert watches.profile("backward") is watches.profile("results")  # the same empty context


def test_on_an_accelerator_only_the_sampled_step_and_the_reading_wait(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The accelerator is pretended, so the effect of waiting on real times isn't tested."""
    waits: list[int] = []
    watching: list[Pipeline] = []
    start = Pipeline.on_train_start

    def noted_start(self: Pipeline, trainer: Any, pl_module: Any) -> None:
        watching.append(self)
        start(self, trainer, pl_module)

    monkeypatch.setattr(Pipeline, "on_train_start", noted_start)
    monkeypatch.setattr(pipeline, "on_accelerator", lambda device: True)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: waits.append(watching[0]._batches))
    run(*WATCHED, "trainer.max_epochs=7", "trainer.log_every_n_steps=5")  # 49 batches
    # Numbers of batches done: the second batch waits from start to end, and the fifth during its reading.
    assert set(waits) == {1, 2, 4, 5} and waits.count(4) == 2 and waits.count(5) == 1


def test_a_resumed_run_goes_on_with_the_curve_and_may_begin_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Stopwatches.end

    def update_of_a_second(self: Stopwatches) -> dict[str, float]:
        seconds = end(self)
        return seconds | {"update": 1.0} if "read" in seconds else seconds

    monkeypatch.setattr(Stopwatches, "end", update_of_a_second)
    settings = (*FLAT, "trainer.max_epochs=10")
    whole = run(*settings)
    for first, steps in (("default", [12]), ("pipeline", [2, 12])):
        stopped = tmp_path / first
        with monkeypatch.context() as pressed:
            stop_at(9, pressed)
            with pytest.raises(Interrupted):
                run(*settings, f"callbacks={first}", folder=stopped)
        run(*settings, "callbacks=pipeline", f"resume={stopped}", folder=stopped)
        old, new = weights(whole), weights(stopped)
        assert [key for key in old if not torch.equal(old[key], new[key])] == []
        for part, curve in points(stopped).items():
            assert sorted(curve) == [*steps, 62], part  # event files of one second may be read in either order
        assert set(points(stopped)["update"].values()) == {1000}  # the steps before the stop don't count


def test_a_configuration_from_before_the_group_is_the_same_run(tmp_path: Path) -> None:
    settings, old = composed(*WATCHED), composed(*FLAT).plain()
    del old["callbacks"]
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(yaml.safe_dump(old))
    (tmp_path / "record.json").write_text('{"status": "interrupted"}')
    check_same_run(settings, tmp_path)
    assert config_hash(old) == config_hash(settings.plain())


@pytest.mark.slow
def test_an_old_run_folder_is_repeated_and_evaluated(command: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "old"
    assert command(*FLAT, "trainer.max_epochs=1", f"hydra.run.dir={folder}").returncode == 0
    config = yaml.safe_load((folder / ".hydra" / "config.yaml").read_text())
    del config["callbacks"]
    (folder / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    from dlintro.commands.evaluate import main

    assert main([str(folder), "accelerator=cpu"]) == 0
    again = command(f"rerun={folder}", "callbacks=pipeline", f"hydra.run.dir={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    old, new = weights(folder), weights(tmp_path / "again")
    assert all(torch.equal(old[key], new[key]) for key in old) and points(tmp_path / "again")


def test_a_sweep_is_the_same_one_with_it_unless_it_is_what_is_swept() -> None:
    def jobs(*words: str) -> list[str]:
        return [job.name for job in make_jobs([([word], composed("model=flatnet", word)) for word in words])]

    assert sweep_name("seed", ["seed=0,1", "callbacks=pipeline"]) == sweep_name("seed", ["seed=0,1"])
    assert [name.rsplit("-", 1)[1] for name in jobs("callbacks=pipeline")] == [
        name.rsplit("-", 1)[1] for name in jobs("seed=0")
    ]
    assert [name.rsplit("-", 1)[0] for name in jobs("callbacks=default", "callbacks=pipeline")] == [
        "default",
        "pipeline",
    ]


def test_what_is_no_callback_is_refused_before_the_run_is_one(tmp_path: Path) -> None:
    for target in ("torch.nn.Identity", "os.system", "dlintro.callbacks.pipeline.Stopwatches"):
        settings = replace(composed(*FLAT), callbacks={"mine": {"_target_": target}})
        with pytest.raises(UsageError, match="Callback classes"):
            train(settings, tmp_path, "in a test")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num", [1, 2, 61, 1000])
def test_the_picture_has_at_most_sixty_bars_of_the_samples_means(num: int) -> None:
    rows = [(2 + 50 * n, {"read": 1.0 + n % 2, "forward": 5.0, "other": 2.0}) for n in range(num)]
    figure = step_figure(rows)
    (axes,) = figure.axes
    assert len(axes.containers) == 3 and 1 <= len(axes.containers[0]) <= 60  # type: ignore[arg-type]
    tops = [bar.get_y() + bar.get_height() for bar in axes.containers[0]]  # type: ignore[union-attr]
    assert all(8 <= top <= 9 for top in tops)
    (legend,) = figure.legends
    assert "5.000" in legend.get_texts()[1].get_text() and "compute: forward" in legend.get_texts()[1].get_text()
