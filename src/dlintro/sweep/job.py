"""Runs one job of a sweep in its own process. Everything it prints and logs goes to its train.log."""

import faulthandler
import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from dlintro.command import set_up_logging, terminated
from dlintro.errors import RunError, Unresumable, UsageError, first_line
from dlintro.run.record import Record
from dlintro.settings.keys import Settings
from dlintro.sweep.standing import FAILURES, Retry, attempts, standing, stored

ELSEWHERE = 75  # exit status if another process has this job (EX_TEMPFAIL in sysexits.h)
# The process that the jobs are forked from imports these once. The first optimizer would import torch._dynamo.
PRELOADED = ("dlintro.run.train", "torch._dynamo", "torch.utils.tensorboard", "tensorboard.plugins.hparams.metadata")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobSpec:
    """Everything that a job's process needs to know."""

    folder: Path
    settings: Settings
    overrides: list[str]
    command: str
    retry: Retry
    attempt: int  # the number of this attempt
    threads: int | None  # used if the job's settings don't name a number
    n_jobs: int
    images: str | None  # the data set's fingerprint when the sweep began, or None if the set can't change
    by_images: bool  # write the curves against images seen, too
    environment: dict[str, str] = field(default_factory=dict)


def run_job(spec: JobSpec) -> None:
    """Claim the job, run it and write its record. Exits with ELSEWHERE if another process has the job."""
    gc.freeze()  # keeps the garbage collector from copying the pages that the server imported
    os.setsid()  # Ctrl-C reaches only the sweep, which sends SIGTERM to its jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, terminated)
    os.environ.update(spec.environment)
    spec.folder.mkdir(parents=True, exist_ok=True)
    record = Record(spec.folder)
    if not record.claim():
        sys.exit(ELSEWHERE)
    status = standing(spec.folder, ours=True)
    if spec.retry.leaves(spec.folder, status):  # another runner has finished it
        return
    spec = replace(spec, attempt=attempts(spec.folder) + 1)  # another runner may have tried in the meantime
    write_into(spec.folder / "train.log")
    resume = status in ("interrupted", *FAILURES) and can_resume(spec.folder)
    if not resume:
        clear(spec.folder)
    write_hydra_files(spec, resume)
    try:
        try:
            train_job(spec, resume)
        except Unresumable as error:
            log.warning("%s; the job starts again", error)
            resume = False
            clear(spec.folder)
            write_hydra_files(spec, resume)
            train_job(spec, resume)
    except BaseException as error:
        log.error("%s", error, exc_info=error)
        begun = attempts(spec.folder) == spec.attempt and stored(spec.folder)["status"] != "running"
        if not begun and isinstance(error, Exception):
            end_unstarted(record, spec, error, resume)


def can_resume(folder: Path) -> bool:
    from dlintro.run.restore import newest_checkpoint

    try:
        return newest_checkpoint(folder) is not None
    except RunError as error:  # run_job starts the job again
        log.warning("%s", error)
        return False


def train_job(spec: JobSpec, resume: bool) -> None:
    from dlintro.run.train import train

    settings = replace(spec.settings, sweep=replace(spec.settings.sweep, n_jobs=spec.n_jobs))
    if settings.threads is None:  # a resumed job keeps its threads, because other numbers round differently
        settings = replace(settings, threads=stored(spec.folder).get("threads") if resume else spec.threads)
    train(
        settings, spec.folder, spec.command,
        resume=resume, alone=False, attempt=spec.attempt, images=spec.images,
        by_images=spec.by_images,
    )  # fmt: skip
    (spec.folder / "checkpoints" / "last.ckpt").unlink(missing_ok=True)  # a finished job keeps only best.ckpt


def end_unstarted(record: Record, spec: JobSpec, error: Exception, resume: bool) -> None:
    """Write the record of a job that couldn't start. If it couldn't resume, record and checkpoint stay."""
    from dlintro.accelerators import Unavailable

    message = str(error) if isinstance(error, UsageError) else first_line(error)
    if resume:
        before = stored(spec.folder)
        record.update(**{key: value for key, value in before.items() if key in record.fields})
        record.update(attempts=spec.attempt)
        record.finish(before["status"] if before.get("status") in FAILURES else "interrupted", message)
        return
    settings = spec.settings
    record.update(
        model=settings.choices.model,
        data=settings.choices.data,
        seed=settings.seed,
        accelerator=settings.accelerator.name,
        precision=settings.trainer.precision,
        batch_size=settings.data["batch_size"],
        command=spec.command,
        n_jobs=spec.n_jobs,
        attempts=spec.attempt,
    )
    record.finish("unavailable" if isinstance(error, Unavailable) else "failed", message)


def write_into(path: Path) -> None:
    """Send everything that this process and its libraries print to the log, the trace of a crash too."""
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # as keep_streams does for other commands
    faulthandler.enable(sys.stderr)
    set_up_logging()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().handlers = [handler]
    for name in (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
    ):  # Lightning was imported before there was a root handler
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def clear(folder: Path) -> None:
    """Remove what an earlier attempt without a checkpoint left, except for its log."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in (".lock", "train.log"):
            path.unlink()


def write_hydra_files(spec: JobSpec, resume: bool) -> None:
    """Write the files that Hydra writes for a single run, so that resume=, rerun= and evaluate accept a job."""
    number = 1 + sum(1 for _ in spec.folder.glob(".hydra-resume-*"))
    subdir = spec.folder / (f".hydra-resume-{number}" if resume else ".hydra")
    subdir.mkdir(exist_ok=True)
    runtime = {"cwd": str(Path.cwd()), "output_dir": str(spec.folder), "choices": asdict(spec.settings.choices)}
    hydra: Mapping[str, Any] = {"hydra": {"runtime": runtime, "overrides": {"task": spec.overrides}}}
    for name, content in (("config", spec.settings.plain()), ("hydra", hydra), ("overrides", spec.overrides)):
        (subdir / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), "utf-8")
