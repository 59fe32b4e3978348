"""Watches: says how far the run is. In a terminal it draws a live line; in a log file it writes a line now and then.

It reads no number from the device: loss, accuracy and speed are those that the curves have already.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer

from dlintro.terminal import Field, Live
from dlintro.text import duration

LINE_SECONDS = 60.0  # between two lines of a log file
ESTIMATE_STEPS = 20  # after so many the time left is worth saying
LONG_MINUTES = 10


class Clock:
    """Estimates the seconds that are left from the last half minute of training, and from the evaluations."""

    def __init__(self, step: float, total: int | None) -> None:
        self.total = total
        self._first_step, self._paused, self._evaluating_since = step, 0.0, 0.0
        self._seen: deque[tuple[float, float]] = deque(maxlen=60)  # (seconds of training, step)

    def tick(self, step: float) -> None:
        if step >= self._first_step + 2:  # the first steps are slower: memory is taken, kernels are chosen
            self._seen.append((time.monotonic() - self._paused, step))

    def begin_evaluation(self) -> None:
        self._evaluating_since = time.monotonic()

    def end_evaluation(self) -> None:
        self._paused += time.monotonic() - self._evaluating_since

    @property
    def num_steps(self) -> float:
        """Steps that the estimate rests on."""
        return self._seen[-1][1] - self._seen[0][1] if self._seen else 0.0

    def seconds_left(self) -> float | None:
        if self.total is None or not self.num_steps:
            return None
        (start, _), (now, step) = self._seen[0], self._seen[-1]
        num_left = max(0.0, self.total - step)
        evaluating = self._paused / (step - self._first_step) * num_left  # as often as so far
        return (now - start) / self.num_steps * num_left + evaluating


class Progress(Callback):
    """`num_steps`: how many optimizer steps the training has. `readings`: the newest value of each curve. `cheaper`: a
    command for a shorter run, or "" if there is none, because this one is resumed. `chosen_by`: the metric that chooses
    the best epoch."""

    def __init__(
        self,
        num_steps: Callable[[L.Trainer], int | None],
        readings: Callable[[], Mapping[str, float]],
        cheaper: str,
        chosen_by: str = "val/acc",
    ) -> None:
        self.chosen_by = chosen_by
        self.num_steps, self.readings, self.cheaper = num_steps, readings, cheaper
        self._live = Live(shown=False)
        self._clock = Clock(0, None)
        self._said_estimate = False
        self._writes = True
        self._num_evaluated = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._writes = trainer.is_global_zero
        self._live = Live(shown=self._writes).start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._live.stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._live.stop()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        step = trainer.global_step
        self._clock = Clock(step, self.num_steps(trainer))
        self._line_due = time.monotonic() + LINE_SECONDS
        if trainer.ckpt_path:
            of = f" of {self._clock.total:,}" if self._clock.total else ""
            self._say(f"resumed at epoch {trainer.current_epoch + 1}, step {step:,}{of}")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._live.due():
            return
        accumulate = trainer.accumulate_grad_batches
        self._clock.tick(trainer.global_step + (batch_idx + 1) % accumulate / accumulate)
        self._show_training(trainer, pl_module)

    def _show_training(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total, left = self._clock.total, self._seconds_left(trainer)
        if not self._said_estimate and left is not None and self._clock.num_steps >= ESTIMATE_STEPS:
            self._said_estimate = True
            self._say_estimate(left)
        steps = f"{trainer.global_step:,}" + (f"/{total:,}" if total else "")
        steps = steps.rjust(2 * len(f"{total or 0:,}") + 1)  # so wide from the first step on: nothing moves
        fields = [epoch_field(trainer), Field("step", steps, 2, short=steps), *self._readings(pl_module)]
        fields.append(Field("", f"{duration(left)} left".ljust(9) if left is not None else " " * 9, 1))
        self._live.show_fields(fields, trainer.global_step / total if total else None)
        if self._live.console is None and time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_SECONDS
            self._say("  ".join(field.text for field in fields if field.text))

    def _seconds_left(self, trainer: L.Trainer) -> float | None:
        limits = [c.time_remaining() for c in trainer.callbacks if isinstance(c, Timer)]  # type: ignore[attr-defined]
        found = [seconds for seconds in (self._clock.seconds_left(), *limits) if seconds is not None]
        return min(found, default=None)

    def _readings(self, pl_module: L.LightningModule) -> Iterator[Field]:
        """Each from the first step on, so that the line keeps its shape."""
        newest = self.readings()
        values: Mapping[str, float] = pl_module.values  # type: ignore[assignment]  # Classifier's: a resume restores them
        loss, acc, speed = newest.get("train/loss_step"), values.get("val/acc"), newest.get("train/images_per_second")
        yield Field("loss", f"{loss:.3f}" if loss is not None else "–    ", 4)
        yield Field("val/acc", f"{acc:6.2%}" if acc is not None else "–     ", 3)
        images = f"{speed or 0:6,.0f}"
        yield Field("", f"{images} images/s" if speed else " " * 15, 5, short=f"{images}/s" if speed else " " * 8)

    def _say_estimate(self, seconds: float) -> None:
        if self._live.console is None or seconds > LONG_MINUTES * 60:
            self._say(f"about {duration(seconds)} of training to go")
        if seconds > LONG_MINUTES * 60:
            self._say(f"a cheaper run: {self.cheaper}   (Ctrl-C stops this one)" if self.cheaper else "Ctrl-C stops it")

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._num_evaluated = 0
        self._clock.begin_evaluation()

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self._show_evaluating(trainer, "validating", trainer.num_val_batches)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._clock.end_evaluation()
        metrics = trainer.callback_metrics
        if "val/acc" in metrics:
            epochs = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            line = f"{epochs}  val/acc {metrics['val/acc']:.2%}  val/loss {metrics['val/loss']:.4f}"
            if self.chosen_by not in ("val/acc", "val/loss"):
                line += f"  {self.chosen_by} {metrics[self.chosen_by]:.2%}"
            self._say(line)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._num_evaluated = 0

    def on_test_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self._show_evaluating(trainer, "testing", trainer.num_test_batches)

    def _show_evaluating(self, trainer: L.Trainer, what: str, num_batches: Sequence[int | float]) -> None:
        self._num_evaluated += 1
        if self._live.due():
            num = int(sum(num_batches))
            fields = [epoch_field(trainer)] if trainer.state.fn == "fit" else []
            fields.append(Field(what, f"{self._num_evaluated:,}/{num:,}", 1))
            self._live.show_fields(fields, self._num_evaluated / num)

    def _say(self, line: str) -> None:
        if self._writes:
            print(line, flush=True)


def epoch_field(trainer: L.Trainer) -> Field:
    return Field("epoch", f"{trainer.current_epoch + 1}/{trainer.max_epochs}", 0)
