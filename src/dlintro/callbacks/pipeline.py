"""Watches a run: measures how long each part of a training step takes, in the parts of the slides' pipeline
(callbacks=pipeline).

A step is one batch here. Work that happens once in several batches (an optimizer step with accumulation, a reading of
the results) is divided by their number, so that the parts add up to the time of an average batch.
"""

import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import Profiler

from dlintro.callbacks.interval import ends_interval
from dlintro.errors import UsageError
from dlintro.memory import on_accelerator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

EVERY = 50  # one batch in this many is timed
MOST_BARS = 60
ACTIONS = {  # the Trainer's name of an action -> the part of the step; the last two names are dlintro's
    "train_dataloader_next": "read",
    "transfer_batch_to_device": "move",
    "training_step": "forward",
    "backward": "backward",
    "optimizer_step": "update",
    "lr_scheduler_step": "update",
    "augment": "augment",
    "results": "results",
}
PARTS = {  # in the order of the slides: text and colour
    "read": ("1  read, preprocess, into the RAM", "#08519c"),
    "move": ("2  move to the device's memory", "#6baed6"),
    "augment": ("3  compute: augmentation", "#756bb1"),
    "forward": ("3  compute: forward", "#d94801"),
    "backward": ("3  compute: backward", "#fd8d3c"),
    "update": ("3  compute: update of the weights", "#fdd0a2"),
    "results": ("4  results back to the RAM, written", "#31a354"),
    "other": ("    the rest: Trainer, callbacks", "#bdbdbd"),
}
Row = tuple[int, dict[str, float]]  # a step's number and the times of its parts


class Stopwatches(Profiler):
    """Times the 60 actions of a training step that the Trainer reports to its profiler. Lightning's own profilers make
    a generator for each, which takes a sixth of FlatNet's step. This one returns an empty context, except in the steps
    that `Pipeline` samples.

    One clock runs for one part at a time. A part inside another is therefore not counted twice, and the parts add up
    to the time from `begin` to `end`. Time outside all actions is "other".
    """

    _nothing = contextlib.nullcontext()

    def __init__(self) -> None:
        super().__init__()
        self.actions: Mapping[str, str] = {}  # the actions that are timed now
        self.synchronizes = False  # on an accelerator, which Python doesn't wait for
        self._seconds: dict[str, float] = {}
        self._running: list[str] = []
        self._since = 0.0

    def begin(self, actions: Mapping[str, str]) -> None:
        self.actions, self._running, self._seconds = actions, ["other"], defaultdict(float)
        self._since = time.perf_counter()

    def end(self) -> dict[str, float]:
        """Return the seconds of each part since `begin`."""
        self._stop_clock()
        self.actions = {}
        return self._seconds

    def wait(self) -> None:
        if self.synchronizes:
            torch.accelerator.synchronize()

    def _stop_clock(self) -> None:
        """Add the time since the last stop to the running part."""
        self.wait()
        now = time.perf_counter()
        self._seconds[self._running[-1]] += now - self._since
        self._since = now

    def _part(self, action_name: str) -> str | None:
        return self.actions.get(action_name.rpartition(".")[2])  # "[Strategy]SingleDeviceStrategy.backward"

    def start(self, action_name: str) -> None:
        if self.actions and (part := self._part(action_name)):
            self._stop_clock()
            self._running.append(part)

    def stop(self, action_name: str) -> None:
        if self.actions and self._part(action_name):
            self._stop_clock()
            self._running.pop()

    def profile(self, action_name: str) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return self._timed(action_name) if self.actions else self._nothing

    @contextlib.contextmanager
    def _timed(self, action_name: str) -> Iterator[None]:
        self.start(action_name)
        try:
            yield
        finally:
            self.stop(action_name)


class Pipeline(Callback):
    """Logs pipeline/PART_ms of one batch in `EVERY`, and draws pipeline/step from them. It comes after all callbacks
    but the checkpoints, so that their time is part of the step, which lasts from one call of this callback to the next.

    On an accelerator, a timed batch waits for the device after each part. It takes longer than the others, in which
    the device works while Python prepares the next batch. Evaluations and readings of the noise scale are not timed.
    """

    def __init__(self) -> None:
        self._batches, self._readings, self._first_step = 0, 0, 0  # since this process began
        self._next = 1  # the first batch is slower: it allocates memory and chooses kernels
        self._unread: list[Row] = []  # in seconds, until the results are read at the end of the interval
        self._rows: list[Row] = []  # in ms

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        profiler = trainer.profiler  # type: ignore[attr-defined]  # set, but not declared (Lightning 2.6)
        if not isinstance(profiler, Stopwatches):
            raise UsageError(
                "Pipeline times the Trainer's actions: make the Trainer as L.Trainer(profiler=Stopwatches())"
            )
        self._watches = profiler
        self._watches.synchronizes = on_accelerator(pl_module.device)
        self._first_step = trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.num_training_batches == 1:  # otherwise the first batch also orders the epoch, and isn't timed
            self._begin_if_due(trainer, 0)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._unread and not self._watches.actions and ends_interval(trainer, batch_idx):
            self._watches.begin({"results": "results"})  # a reading of results waits for the device anyway

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        reads = ends_interval(trainer, batch_idx)
        self._batches, self._readings = self._batches + 1, self._readings + reads
        if self._watches.actions:
            seconds = self._watches.end()
            if "read" in seconds:  # a whole step
                seconds["update"] *= (trainer.global_step - self._first_step) / self._batches
                self._unread.append((trainer.global_step, seconds))
                self._next = self._batches + EVERY - 1
            if reads:
                self._log(trainer, seconds["results"] * self._readings / self._batches)
        self._begin_if_due(trainer, batch_idx + 1)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._watches.actions = {}  # the step would include an evaluation; another is timed instead

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._watches.actions = {}

    def _begin_if_due(self, trainer: L.Trainer, batch_idx: int) -> None:
        """Start timing if it is due and this batch will make an optimizer step."""
        done = batch_idx + 1
        steps = done % trainer.accumulate_grad_batches == 0 or done == trainer.num_training_batches
        if steps and self._batches >= self._next:
            self._watches.wait()
            self._watches.begin(ACTIONS)

    def _log(self, trainer: L.Trainer, results: float) -> None:
        for step, seconds in self._unread:
            seconds["results"] = results
            row = {part: 1000 * seconds[part] for part in PARTS if part in seconds}
            self._rows.append((step, row))
            for logger in trainer.loggers:
                logger.log_metrics({f"pipeline/{part}_ms": ms for part, ms in row.items()}, step=step)
        self._unread = []

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the picture. In on_train_end, the time for it would count in the run's fit_seconds."""
        for logger in trainer.loggers:
            if self._rows and isinstance(logger, TensorBoardLogger):
                try:
                    logger.experiment.add_figure("pipeline/step", step_figure(self._rows), self._rows[-1][0])
                except Exception:  # no picture is worth a finished training
                    log.warning("the picture of the pipeline could not be drawn; train.log has the reason")
                    log.info("the picture that failed", exc_info=True)
        self._rows = []  # there may be a second test


def step_figure(rows: Sequence[Row]) -> "Figure":
    """Draw stacked bars, one per sampled step. If there are many, a bar is the mean of several neighbours."""
    import numpy as np
    from matplotlib.figure import Figure  # not pyplot: nothing global, no window system

    parts = [part for part in PARTS if part in rows[0][1]]
    steps_N, ms_NP = np.array([step for step, _ in rows]), np.array([[row[part] for part in parts] for _, row in rows])
    medians_P = np.median(ms_NP, axis=0)
    size = -(-len(rows) // MOST_BARS)  # samples in a bar
    steps_B = steps_N[::size]
    ms_BP = np.array([ms_NP[first : first + size].mean(0) for first in range(0, len(rows), size)])
    width = 0.85 * float(np.median(np.diff(steps_B))) if len(steps_B) > 1 else 1.0

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.add_subplot()
    for index, part in enumerate(parts):  # from the top down, as the legend is read
        words, colour = PARTS[part]
        figures = f"{medians_P[index]:8.3f} ms {medians_P[index] / medians_P.sum():6.1%}   "
        said = figures.replace(" ", "\u2007") + words  # spaces as wide as digits
        below_B = ms_BP[:, index + 1 :].sum(1)
        axes.bar(steps_B, ms_BP[:, index], width, below_B, align="edge", color=colour, label=said)
    axes.set(xlabel="step", ylabel="ms per batch", title=f"A sampled batch takes {np.median(ms_NP.sum(1)):.3g} ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    axes.locator_params("x", integer=True)
    title = f"median of {len(rows)} sampled step{'s' * (len(rows) > 1)}, and its share"
    figure.legend(loc="outside right upper", title=title, alignment="left", frameon=False, fontsize=9)
    return figure
