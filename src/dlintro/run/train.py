"""Runs one training from top to bottom: fit, test, record, curves and pictures.

The settings arrive composed, checked and typed. The files below this one take plain arguments.
"""

import contextlib
import json
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import psutil
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from dlintro.callbacks.averaging import WarmedUpEMA
from dlintro.callbacks.checkpoints import PREVIOUS, AtomicCheckpointIO, Checkpoints
from dlintro.callbacks.eval_grid import EvalGrid
from dlintro.callbacks.logits import KeepLogits
from dlintro.callbacks.noise_scale import NoiseScale
from dlintro.callbacks.pipeline import Stopwatches
from dlintro.callbacks.progress import Progress
from dlintro.callbacks.random_state import RandomState
from dlintro.callbacks.throughput import Throughput
from dlintro.data import ImageDataModule
from dlintro.errors import Interrupted, RunError, UsageError, first_line, one_line
from dlintro.memory import device_peak_bytes, keep_freed_memory, ram_peak_bytes
from dlintro.models.classifier import Diverged
from dlintro.models.length import num_steps
from dlintro.models.weights import read_tensors
from dlintro.reader import read_rows
from dlintro.run import pictures, screen
from dlintro.run.advice import few_steps, slow_files, warnings
from dlintro.run.begin import Begin
from dlintro.run.inputs import other_images, write_images
from dlintro.run.logger import RunLogger
from dlintro.run.parts import Run, facts, prepare, refuse_one_image
from dlintro.run.record import MOST_CLASSES, made_by, read_record, versions
from dlintro.run.restore import put_aside_damaged
from dlintro.run.results import Results
from dlintro.settings.identity import is_of
from dlintro.settings.key import leaves
from dlintro.settings.keys import HOW_RUN, Settings, Target
from dlintro.settings.keys import Trainer as TrainerSettings
from dlintro.target import falls, reach
from dlintro.terminal import at_work, say
from dlintro.text import as_typed, shown_path
from dlintro.version import changes_between

log = logging.getLogger(__name__)

# A row of HParams has the run's settings. For these keys it has what they came to, by the names of the record.
OUTCOME = {
    "seed": "seed", "model._target_": "model", "data.name": "data", "data.train_size": "train_images",
    "data.batch_size": "batch_size", "trainer.accumulate_grad_batches": "accumulate", "trainer.precision": "precision",
    "accelerator": "accelerator", "optim.name": "optimizer", "optim.lr": "lr", "threads": "threads",
}  # fmt: skip
SAID_ALREADY = ("model.name", "data._target_", "data.augment", "trainer.max_epochs")


def train(
    settings: Settings,
    folder: Path,
    command: str,
    *,
    resume: bool | None = None,
    alone: bool = True,
    images: str | None = None,
    attempt: int | None = None,
    by_images: bool = False,
) -> None:
    """Train in the run folder what the settings ask for. Raises UsageError, before anything is decoded or written, if
    the settings can't work together. The record gets the status of other exceptions before they are raised. If a
    resumed run can't start, its record stays as it was.

    `resume`: resume from the folder's last checkpoint (None: if the settings say so). `alone`: the run is not a sweep's
    job, so it draws pictures and shows a last screen. `attempt`: which start or resumption of the run this is (None:
    one more than its record says). `images`: the data set's fingerprint when the sweep began. `by_images`: write the
    curves against images seen, too.
    """
    logging.getLogger("lightning").handlers.clear()  # its lines go to train.log and would stand in the terminal twice
    keep_freed_memory()
    run = prepare(settings, folder, bool(settings.resume) if resume is None else resume, images)
    known = facts(run) | {"n_jobs": 1 if alone else settings.sweep.n_jobs}
    known["differences"] = differences(run, known | {"versions": versions()})
    record = run.record
    if run.resumed is None and (folder / "record.json").exists():
        raise UsageError(
            f"{folder}: holds a run already; type hydra.run.dir=NEW, or resume={shown_path(folder)} to go on with it"
        )
    if attempt is None:
        attempt = 1 + (read_record(folder).get("attempts") or 0 if run.resumed else 0)
    if run.resumed is not None:
        known["begun_by"] = made_by(read_record(folder))
    record.start(at_once=run.resumed is None, **known, command=command, attempts=attempt)
    logger = RunLogger(run.folder, run.resumed, by_images)
    try:
        results = fit_and_test(run, logger, alone)
        write_hyperparameters(run, logger, "ok")
        if alone:
            try:
                with at_work("drawing the pictures for the dashboard"):
                    draw(run, logger, results)
            except Exception:  # e.g. a user's network can't be traced; a finished run is worth more than a picture
                log.warning("not all pictures could be drawn (why: %s/train.log)", folder)
                log.info("the picture that failed", exc_info=True)
        logger.close()
    except BaseException as error:
        if not record.written:  # leaves the record of an earlier start as it is
            raise
        record.update(diverged_step=error.step if isinstance(error, Diverged) else None)
        if status_of(error) != "interrupted":  # an interrupted run may be resumed, and gets its row then
            with contextlib.suppress(Exception):  # the error that is raised is the one to tell
                write_hyperparameters(run, logger, status_of(error))
                logger.close()
        with contextlib.suppress(OSError):  # e.g. a full disk; "running" under a free lock means interrupted, too
            record.finish(status_of(error), first_line(error))
        raise
    record.finish("ok")
    (folder / "checkpoints" / PREVIOUS).unlink(missing_ok=True)
    if alone:
        screen.show(run, results)


def fit_and_test(run: Run, logger: RunLogger, alone: bool = False) -> Results:
    settings, data, model, record = run.settings, run.data, run.model, run.record
    data.prepare_data()
    data.setup()
    refuse_one_image(model, data)  # again, as setup may have left out images that can't be decoded
    record.update(train_images=data.num_train, batch_size=data.batch_size)
    if settings.compile:
        model.network.compile()  # in place, so that the names of the weights stay

    def touch() -> None:
        if run.resumed is not None:
            if put_aside_damaged(run.resumed):
                checkpoints.forget_best()
            record.write()
        write_images(run.folder, run.inputs.each)
        logger.begin()

    begin = Begin(touch, run.resumed.checkpoint if run.resumed else None)
    checkpoints = Checkpoints(
        run.folder / "checkpoints",
        lambda: {"curves": logger.come_so_far(), "run": run.inputs.noted},
        settings.checkpoint.every_steps,
        settings.checkpoint.every_minutes,
        settings.trainer.best,
    )
    throughput, kept = Throughput(), KeepLogits()
    noise = NoiseScale(data.train_draw, data.num_train, data.batch_size)
    cheaper = "" if run.resumed else as_typed(f"{record.fields['command']} data.train_size=5000 trainer.max_epochs=1")
    progress = Progress(num_steps, lambda: logger.newest, cheaper, settings.trainer.best)
    callbacks = [EvalGrid(settings.trainer.eval_images), progress, throughput, kept, checkpoints, *run.callbacks]
    if settings.trainer.eval_images is not None:
        callbacks.insert(0, noise)  # before the training's clock
    trainer = make_trainer(run, logger, [begin, *callbacks])
    logger.progress = lambda: (
        model.images_seen,
        trainer.current_epoch + (trainer.state.fn == "fit"),  # Lightning counts the epochs that have ended
        throughput.seconds,
    )
    device = record.fields["device"]
    print(f"{record.fields['model']} on {record.fields['data']}: {data.num_train:,} images, on {device}", flush=True)
    advise(run, alone)
    record.update(startup_seconds=round(max(0.0, time.time() - psutil.Process().create_time()), 3))

    if run.resumed is None:
        begin(trainer)
    try:
        trainer.fit(model, datamodule=data, ckpt_path=begin.checkpoint, weights_only=True)
        begin(trainer)  # a run resumed after its last epoch doesn't train, so Lightning doesn't count that epoch
        epochs = trainer.fit_loop.epoch_progress.current
        epochs.completed = epochs.processed  # type: ignore[attr-defined]
    except Exception as error:
        if begin.done or isinstance(error, (UsageError, RunError)) or status_of(error) == "oom":
            raise
        raise RunError(f"{begin.checkpoint}: the run can't resume from it ({one_line(error)})") from error
    finally:
        record.update(
            fit_seconds=round(logger.seconds, 3),
            epochs=trainer.current_epoch,
            steps=trainer.global_step,
            ram_peak_bytes=ram_peak_bytes(),
            device_peak_bytes=device_peak_bytes(trainer.strategy.root_device),
            **{"train/images_per_second": throughput.images_per_second},
            **model.values,
            **{"best/epoch": checkpoints.best_epoch},
            **{f"best/{name}": value for name, value in checkpoints.best_values.items()},
            **(target_fields(settings.target, logger.csv_path) if begin.done else {}),
            **{"noise_scale": noise.noise_scale, "noise_scale/trace": noise.trace or None},
            **{"noise_scale/grad_squared": noise.grad_squared or None},
        )
    record.update(ended_by=ended_by(trainer, settings.trainer))
    say_what_ended(settings, record.fields["ended_by"], trainer)
    test(trainer, run, checkpoints)
    results = Results(kept.logits_NK, kept.labels_N, data.class_names)
    if data.num_classes <= MOST_CLASSES:
        record.update(**{"best/test/classes": [asdict(row) for row in results.class_rows()]})
    return results


def advise(run: Run, alone: bool) -> None:
    """Say what of the set doesn't suit the settings. Nobody watches a sweep's job, whose length was typed."""
    settings, record = run.settings, run.record.fields
    max_epochs, _ = lengths(settings, run.data)
    hints = (
        few_steps(run.data, record["command"], max_epochs, record["accumulate"]),
        slow_files(run.data, record["command"]),
    )
    for hint in filter(None, hints if alone else ()):
        say(hint)
    for sentence in warnings(run.data, settings, max_epochs):
        log.warning("%s", sentence)


def test(trainer: L.Trainer, run: Run, checkpoints: Checkpoints) -> None:
    """Test on the whole test set with the last weights and, if an earlier epoch was best, with that epoch's."""
    model, data = run.model, run.data
    trainer.test(model, datamodule=data, verbose=False, weights_only=True)
    model.test_stage = "best/test"
    if checkpoints.best_epoch is not None and checkpoints.best_epoch + 1 < trainer.current_epoch:
        model.load_state_dict(read_tensors(checkpoints.best)["state_dict"])
        trainer.test(model, datamodule=data, verbose=False, weights_only=True)
    else:  # the same weights
        model.values |= {f"best/{name}": value for name, value in model.values.items() if name.startswith("test/")}
    run.record.update(**model.values, val_images=len(data.val), test_images=len(data.test))


def differences(run: Run, new: Mapping[str, Any]) -> list[str] | None:
    """Warn of everything that can make the weights differ from the resumed or repeated run's, and return it."""
    named = run.folder if run.resumed else run.settings.rerun
    if named is None:
        return None
    folder = Path(named).expanduser()
    old = read_record(folder)
    said = [
        f"{key} differs, so the weights may too: {old.get(key)} then, {new[key]} now"
        for key in ("device", "precision", "threads", "versions")
        if old.get(key) != new[key]
    ]
    if changes := changes_between(made_by(old)):
        said.append(changes)
    if differ := other_images(folder, old, run.inputs.images, run.inputs.each):
        said.append(f"the images are not those of {folder.name} ({differ}), so the results can't be compared")
    if run.resumed and run.resumed.edited:
        said.append("model.path: edited since the run began, so it goes on with another network")
    elif run.inputs.code and old.get("code_fingerprint") not in (None, run.inputs.code):
        said.append(f"model.path: edited since {folder.name} ran it, so the network may be another one")
    if not run.resumed and old.get("weights_fingerprint") != run.inputs.weights:
        said.append(f"model.weights: not the file that {folder.name} started from, so the results can't be compared")
    for sentence in said:
        log.warning("%s", sentence)
    earlier = old.get("differences") if run.resumed else None  # from an earlier resumption
    return [*(earlier if isinstance(earlier, list) else []), *said] or None


def target_fields(target: Target, curves: Path) -> dict[str, Any]:
    """Return the record's fields about the target, with the steps, images and seconds to it if it was reached."""
    fields = {"target/metric": target.metric, "target/value": target.value}
    if target.value is None or (reached := reach(read_rows(curves), target.metric, target.value)) is None:
        return fields
    return fields | {f"{name}_to_target": value for name, value in asdict(reached).items()}


def lengths(settings: Settings, data: ImageDataModule) -> tuple[int, int]:
    """Return the Trainer's max_epochs and max_steps (-1: no limit). With sweep.budget=epochs only max_epochs counts.
    With sweep.budget=steps, or without max_epochs, only max_steps counts. A budget of steps without max_steps takes the
    steps that max_epochs have at optim.lr_reference_batch."""
    epochs, steps = settings.trainer.max_epochs, settings.trainer.max_steps
    if settings.sweep.budget == "epochs":
        steps = None
    elif settings.sweep.budget == "steps" and epochs is not None:
        steps = steps or epochs * math.ceil(data.num_train / settings.optim.lr_reference_batch)
        epochs = None
    if epochs is None:
        assert steps is not None, "Settings has one of the two"
        epochs = math.ceil(steps / math.ceil(data.num_train_batches() / settings.trainer.accumulate_grad_batches))
    return epochs, steps or -1


def ended_by(trainer: L.Trainer, asked: TrainerSettings) -> str:
    """Return the key `trainer.*` whose limit ended the training, or "callback" for a callback of the user."""
    whole = num_steps(trainer)
    if whole is None or trainer.global_step >= whole:
        return "max_steps" if trainer.global_step == trainer.max_steps else "max_epochs"
    if asked.early_stopping is not None and getattr(trainer.early_stopping_callback, "stopped_epoch", False):
        return "early_stopping"
    return "callback" if asked.max_time is None else "max_time"


def say_what_ended(settings: Settings, key: str, trainer: L.Trainer) -> None:
    """Print which limit ended the training, if there was more than one."""
    limits = {name: getattr(settings.trainer, name) for name in ("max_epochs", "max_steps", "max_time")}
    limits["early_stopping"] = settings.trainer.early_stopping
    limits.pop({"epochs": "max_steps", "steps": "max_epochs"}.get(settings.sweep.budget or "", ""), None)
    what = "a callback" if key == "callback" else f"trainer.{key}={limits.get(key) or trainer.global_step}"
    if key == "max_steps" and trainer.max_epochs == trainer.current_epoch and trainer.is_last_batch:
        limits.pop("max_epochs", None)  # both limits are reached at once
    others = [f"trainer.{name}={value}" for name, value in limits.items() if value is not None and name != key]
    if others:
        say(f"{what} ended the training after {trainer.global_step:,} steps, before {' and '.join(others)}")


def make_trainer(run: Run, logger: RunLogger, callbacks: list[Callback]) -> L.Trainer:
    settings, device = run.settings.trainer, run.device
    max_epochs, max_steps = lengths(run.settings, run.data)
    steering: list[Callback] = [RandomState()]
    if run.settings.optim.ema:
        steering.append(WarmedUpEMA(run.settings.optim.ema))
    if settings.early_stopping is not None:
        mode = "min" if falls(settings.best) else "max"
        steering.append(EarlyStopping(settings.best, mode=mode, patience=settings.early_stopping, check_finite=False))
    return L.Trainer(
        max_epochs=max_epochs,
        max_steps=max_steps,
        max_time=settings.max_time,
        precision=run.precision,  # type: ignore[arg-type]
        accelerator=device.kind,
        devices=[device.index] if device.index else settings.devices,
        accumulate_grad_batches=settings.accumulate_grad_batches,
        gradient_clip_val=settings.gradient_clip_val,
        log_every_n_steps=settings.log_every_n_steps,
        deterministic=settings.deterministic,
        logger=logger,
        callbacks=[*steering, *callbacks],
        plugins=[AtomicCheckpointIO()],
        profiler=Stopwatches(),
        num_sanity_val_steps=0,  # it would draw random numbers before the first step
        enable_progress_bar=False,  # `Progress` is ours
        enable_model_summary=False,
        default_root_dir=run.folder,
    )


def draw(run: Run, logger: RunLogger, results: Results) -> None:
    model, data, step = run.model.cpu().eval(), run.data, run.record.fields["steps"]
    images_NCHW = data.train_sample(pictures.GRID_IMAGES)
    with torch.no_grad():
        pixels_NCHW = model.pixels(images_NCHW)
    writer = logger.experiment
    pictures.draw_training_images(writer, pixels_NCHW, step)
    pictures.draw_weights(writer, model.network, tuple(pixels_NCHW.shape[1:]), step)
    pictures.draw_feature_maps(writer, model.network, pixels_NCHW[:1], step)
    pictures.draw_test(writer, results, data.test.images_NCHW, step)
    pictures.draw_graph(writer, model, images_NCHW)


def write_hyperparameters(run: Run, logger: RunLogger, status: str) -> None:
    """The run's row in TensorBoard's HParams, with what it has come to; a run that failed or diverged has one too.
    All runs have the same columns, so that they can be compared."""
    record, settings = run.record.fields, run.settings
    if not logger.begun:
        return
    hparams = {name: record[name] for name in OUTCOME.values()}
    hparams |= {"epochs": settings.trainer.max_epochs, "augment": "+".join(run.data.augment) or "none"}
    for key, value in leaves(settings.plain()):
        if not is_of(key, (*HOW_RUN, *OUTCOME, *SAID_ALREADY)):
            hparams[key if key.endswith(".path") else key.rpartition(".")[2]] = value
    hparams["status"] = status
    cells = {
        key: value if isinstance(value, (int, float, str)) else json.dumps(value) for key, value in hparams.items()
    }
    names = ("best/val/acc", "best/test/acc", "best/test/loss", "fit_seconds", "train/images_per_second")
    values = {name: record[name] for name in names if record[name] is not None}
    logger.log_outcome(cells, values, record["steps"] or 0, ok=status == "ok")


def status_of(error: BaseException) -> str:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(
        error, (Interrupted, KeyboardInterrupt, SystemExit)
    ):  # Lightning turns a second Ctrl-C into SystemExit
        return "interrupted"
    out_of_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
    return "oom" if out_of_memory else "failed"
