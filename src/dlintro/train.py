"""One run, top to bottom: data, model, trainer; fit, test; the record, the curves, the pictures.

`entry` has checked the keys and composed the configuration. Nothing below this file sees it.
"""

import contextlib
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

from dlintro import pictures, screen
from dlintro.accelerators import Device, resolve, resolve_precision
from dlintro.callbacks.averaging import WarmedUpEMA
from dlintro.callbacks.checkpoints import PREVIOUS, AtomicCheckpointIO, Checkpoints
from dlintro.callbacks.eval_grid import EvalGrid
from dlintro.callbacks.logits import KeepLogits
from dlintro.callbacks.noise_scale import NoiseScale
from dlintro.callbacks.pipeline import Stopwatches
from dlintro.callbacks.progress import Bar, Lines
from dlintro.callbacks.random_state import RandomState
from dlintro.callbacks.throughput import Throughput
from dlintro.command import shown_path
from dlintro.data import ImageDataModule
from dlintro.errors import Interrupted, UsageError, first_line
from dlintro.logger import RunLogger
from dlintro.memory import device_peak_bytes, keep_freed_memory, ram_peak_bytes
from dlintro.models import Classifier
from dlintro.models.classifier import Diverged
from dlintro.models.weights import read_tensors
from dlintro.parts import build, build_parts, facts, fingerprints
from dlintro.record import Record, read_record, versions
from dlintro.restore import Resumed, newest_checkpoint, read_resumable
from dlintro.results import Results
from dlintro.target import reach

log = logging.getLogger(__name__)


def train(
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    folder: Path,
    command: str,
    *,
    resume: bool | None = None,
    alone: bool = True,
) -> None:
    """Trains what `config` says (plain values, as in conf/) in the run folder. UsageError before anything is decoded or
    written where the settings can't work together; other exceptions after the record has their status.

    `resume`: go on from the folder's last checkpoint (None: if config says so). `alone`: a run of its own, with
    pictures and a last screen; a sweep has its report instead.
    """
    logging.getLogger("lightning").handlers.clear()  # its lines go to train.log, not twice to the terminal
    device = resolve(config["accelerator"]["name"], config["accelerator"]["index"])
    precision = resolve_precision(config["trainer"]["precision"], device)
    keep_freed_memory()
    if config["threads"] is not None:
        torch.set_num_threads(config["threads"])
    L.seed_everything(config["seed"], verbose=False)
    data, model = build_parts(config)
    callbacks: list[Callback] = [build(settings, Callback) for settings in config["callbacks"].values()]
    resumes = bool(config["resume"]) if resume is None else resume
    resume_from = newest_checkpoint(folder) if resumes else None
    if resumes and resume_from is None:
        raise UsageError(
            f"resume={folder.name}: it stopped before its first checkpoint; rerun={folder.name} starts it again"
        )

    resumed = read_resumable(resume_from, model, fingerprints(config, data)) if resume_from else None
    known = facts(config, choices, data, model, device, precision) | {
        "n_jobs": config["sweep"]["n_jobs"] if not alone else 1
    }
    if old := config["resume"] or config["rerun"]:
        warn_of_differences(read_record(Path(old).expanduser()), known | {"versions": versions()})
    record = Record(folder)
    if resumed is None and (folder / "record.json").exists():
        raise UsageError(f"{folder}: holds a run already; hydra.run.dir=NEW, or resume={shown_path(folder)}")
    record.start(**known, command=command)
    try:
        results, logger = fit_and_test(config, data, model, callbacks, device, precision, folder, record, resumed)
        if alone:
            try:
                draw(logger, model, data, results, record.fields["steps"])
            except Exception:  # no picture is worth a finished run; a user's network may not be traceable, say
                log.warning("not all pictures could be drawn (why: %s/train.log)", folder)
                log.info("the picture that failed", exc_info=True)
        logger.close()
        if alone:
            screen.show(record.fields, results, data.test.images_NCHW, folder, data.num_workers)
    except BaseException as error:
        record.update(diverged_step=error.step if isinstance(error, Diverged) else None)
        with contextlib.suppress(OSError):  # a full disk, say; a record that says "running" under a free lock will do
            record.finish(status_of(error), first_line(error))
        raise
    record.finish("ok")
    (folder / "checkpoints" / PREVIOUS).unlink(missing_ok=True)


def fit_and_test(
    config: Mapping[str, Any],
    data: ImageDataModule,
    model: Classifier,
    callbacks: list[Callback],
    device: Device,
    precision: str,
    folder: Path,
    record: Record,
    resumed: Resumed | None,
) -> tuple[Results, RunLogger]:
    data.prepare_data()
    data.setup()
    record.update(train_images=data.num_train)
    if config["compile"]:
        model.network.compile()  # in place: the names of the weights stay as they are
    logger, run = RunLogger(folder, resumed), fingerprints(config, data)
    checkpoints = Checkpoints(
        folder / "checkpoints", lambda: {"curves": logger.come_so_far(), "run": run}, **config["checkpoint"]
    )
    throughput, kept = Throughput(), KeepLogits()
    noise = NoiseScale(data.train_draw, data.num_train, data.batch_size)
    lines = Lines(cheaper=f"{record.fields['command']} data.train_size=5000 trainer.max_epochs=1")
    callbacks = [EvalGrid(config["trainer"]["eval_images"]), lines, throughput, kept, checkpoints, *callbacks]
    if config["trainer"]["eval_images"] is not None:
        callbacks.insert(0, noise)  # before the training's clock
    trainer = make_trainer(config, data, device, precision, folder, logger, callbacks)
    epochs = trainer.max_epochs or 1
    logger.progress = lambda: (model.images_seen, min(trainer.current_epoch + 1, epochs), throughput.seconds)
    record.update(startup_seconds=round(time.time() - psutil.Process().create_time(), 3))

    try:
        trainer.fit(model, datamodule=data, ckpt_path=resumed.checkpoint if resumed else None, weights_only=True)
    finally:
        record.update(
            fit_seconds=round(logger.seconds, 3),
            epochs=trainer.current_epoch,
            steps=trainer.global_step,
            ram_peak_bytes=ram_peak_bytes(),
            device_peak_bytes=device_peak_bytes(trainer.strategy.root_device),
            **{"train/images_per_second": throughput.images_per_second},
            **model.values,
            **{"best/epoch": checkpoints.best_epoch, "best/val/acc": checkpoints.best_acc},
            **target_fields(config["target"], logger.csv_path),
            **{"noise_scale": noise.noise_scale, "noise_scale/trace": noise.trace or None},
            **{"noise_scale/grad_squared": noise.grad_squared or None},
        )
    test(trainer, model, data, checkpoints, record)
    write_hyperparameters(logger, config, record, trainer.global_step)
    return Results(kept.logits_NK, kept.labels_N, data.class_names), logger


def test(
    trainer: L.Trainer,
    model: Classifier,
    data: ImageDataModule,
    checkpoints: Checkpoints,
    record: Record,
) -> None:
    """The test set, whole: once with the last weights and, where validation preferred an earlier epoch, with its."""
    trainer.test(model, datamodule=data, verbose=False, weights_only=True)
    model.test_stage = "best/test"
    if checkpoints.best_epoch is not None and checkpoints.best_epoch + 1 < trainer.current_epoch:
        model.load_state_dict(read_tensors(checkpoints.best)["state_dict"])
        trainer.test(model, datamodule=data, verbose=False, weights_only=True)
    else:  # the same weights
        model.values |= {f"best/{name}": value for name, value in model.values.items() if name.startswith("test/")}
    record.update(**model.values, test_images=len(data.test))


def warn_of_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """What can change the last bits of the weights when a run is resumed or repeated."""
    for key in ("device", "precision", "threads", "versions"):
        if old.get(key) != new[key]:
            log.warning("%s differs, so the weights may too: %s then, %s now", key, old.get(key), new[key])


def target_fields(target: Mapping[str, Any], curves: Path) -> dict[str, Any]:
    """How far the run had come when it first reached the target, if there is one."""
    fields = {"target/metric": target["metric"], "target/value": target["value"]}
    if target["value"] is None or (reached := reach(curves, target["metric"], target["value"])) is None:
        return fields
    return fields | {f"{name}_to_target": value for name, value in asdict(reached).items()}


def lengths(config: Mapping[str, Any], data: ImageDataModule) -> dict[str, int]:
    """The Trainer's max_epochs and max_steps (-1: any). With sweep.budget=epochs max_epochs alone holds, with steps
    max_steps, however many epochs that is; where none is given the two agree at optim.lr_reference_batch."""
    epochs, steps = config["trainer"]["max_epochs"], config["trainer"]["max_steps"]
    if config["sweep"]["budget"] == "epochs":
        steps = None
    elif config["sweep"]["budget"] == "steps":
        if steps is None:
            steps = epochs * math.ceil(data.num_train / config["optim"]["lr_reference_batch"])
        steps_per_epoch = math.ceil(data.num_train_batches() / config["trainer"]["accumulate_grad_batches"])
        epochs = math.ceil(steps / steps_per_epoch)
    return {"max_epochs": epochs, "max_steps": steps or -1}


def make_trainer(
    config: Mapping[str, Any],
    data: ImageDataModule,
    device: Device,
    precision: str,
    folder: Path,
    logger: RunLogger,
    callbacks: list[Callback],
) -> L.Trainer:
    settings = dict(config["trainer"])
    devices, patience, _ = (settings.pop(key) for key in ("devices", "early_stopping", "eval_images"))
    steering: list[Callback] = [RandomState()]
    if config["optim"]["ema"]:
        steering.append(WarmedUpEMA(config["optim"]["ema"]))
    if patience is not None:
        steering.append(EarlyStopping("val/acc", mode="max", patience=patience, check_finite=False))
    return L.Trainer(
        **settings
        | lengths(config, data)
        | {"precision": precision}
        | {"accelerator": device.kind, "devices": [device.index] if device.index else devices},
        logger=logger,
        callbacks=[*steering, Bar(), *callbacks],
        plugins=[AtomicCheckpointIO()],
        profiler=Stopwatches(),
        num_sanity_val_steps=0,  # it would draw random numbers before the first step
        enable_model_summary=False,
        default_root_dir=folder,
    )


def draw(logger: RunLogger, model: Classifier, data: ImageDataModule, results: Results, step: int) -> None:
    model.cpu().eval()
    images_NCHW = data.train_sample(pictures.GRID_IMAGES)
    with torch.no_grad():
        pixels_NCHW = model.pixels(images_NCHW)
    writer = logger.experiment
    pictures.draw_training_images(writer, pixels_NCHW, step)
    pictures.draw_weights(writer, model.network, tuple(pixels_NCHW.shape[1:]), step)
    pictures.draw_feature_maps(writer, model.network, pixels_NCHW[:1], step)
    pictures.draw_test(writer, results, data.test.images_NCHW, step)
    pictures.draw_graph(writer, model, images_NCHW)


def write_hyperparameters(logger: RunLogger, config: Mapping[str, Any], record: Record, step: int) -> None:
    """One row in TensorBoard's HParams: the same keys for all runs, so that they can be compared; real metrics."""
    keys = ["model", "data", "train_images", "accelerator", "precision", "batch_size", "accumulate", "seed", "lr"]
    keys += ["lr_rule", "optimizer", "schedule", "epochs", "threads", "parameters"]
    optim = ("weight_decay", "warmup", "label_smoothing", "loss", "ema")
    hparams = {key: record.fields[key] for key in keys} | {key: config["optim"][key] for key in optim}
    hparams["augment"] = "+".join(config["data"]["augment"]) or "none"
    metrics = {name: record.fields[name] for name in ("best/val/acc", "best/test/acc", "best/test/loss")}
    metrics["final/fit_seconds"] = record.fields["fit_seconds"]
    metrics["final/images_per_second"] = record.fields["train/images_per_second"]
    logger.log_hyperparams(hparams, {name: value for name, value in metrics.items() if value is not None}, step)


def status_of(error: BaseException) -> str:
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit)):  # Lightning turns a second Ctrl-C into an exit
        return "interrupted"
    out_of_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
    return "oom" if out_of_memory else "failed"
