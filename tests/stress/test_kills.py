"""A run that is killed anywhere and resumed ends with the same weights and curves as an undisturbed run.

Every kill is a SIGKILL of a process that runs the command's own code. At a chosen place the process sends it to itself;
the others come at a random moment. The processes are forked from one that has imported everything, so that 50 kills
take minutes.
"""

import csv
import faulthandler
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dlintro.run.logger import METRICS
from dlintro.sweep.job import PRELOADED
from tests.conftest import SMALL
from tests.data.packs import packed, photographs

SYNTHETIC = ("data=synthetic", "data.shape=[1,8,8]")
SETTINGS = {
    "plain": (*SYNTHETIC, "data.augment=[crop,flip]"),
    "ema, two workers": (*SYNTHETIC, "optim.ema=0.9", "data.num_workers=2"),
    "evaluated within epochs": (*SYNTHETIC, "trainer.eval_images=150", "optim.ema=0.8"),
    "accumulated": (*SYNTHETIC, "trainer.accumulate_grad_batches=2", "optim.schedule=onecycle"),
    "a pack of JPEGs, a worker": (
        "data=packed", "data.path=../pack", "data.augment=[resized_crop,flip]", "data.num_workers=1",
    ),
}  # fmt: skip
WORDS = (
    *(word for word in SMALL if "shape" not in word and "train_size" not in word and word != "data=synthetic"),
    "data.train_size=640", "model=mnist_cnn", "model.widths=[4,8,16]", "model.dropout=0.2", "trainer.max_epochs=6",
    "trainer.log_every_n_steps=3", "checkpoint.every_steps=4",
)  # fmt: skip
MOST_KILLS = 6  # per run
MOST_SECONDS = 60  # per process
KILLS = {"validation": 8, "epoch's end": 6, "half a checkpoint": 3, "before the renamings": 3,
         "between two renamings": 2, "any time": 28}  # fmt: skip
MOST = {"epoch's end": 2, "before the renamings": 6, "between two renamings": 6}  # how often a process comes there


@dataclass(frozen=True)
class Kill:
    place: str
    number: int  # counts the times that the process comes there


def victim(words: list[str], folder: str, kill: Kill | None) -> None:
    """Run the command, with a kill at the wanted place."""
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # as in a new process
    os.chdir(folder)
    log = os.open("stdout", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.dump_traceback_later(MOST_SECONDS - 5, file=sys.__stderr__)  # shows where it hangs, if it does
    sys.argv[1:] = words
    if kill is not None and kill.place != "any time":
        plant(kill)
    from dlintro.commands.train import main

    sys.exit(main(words))


def plant(kill: Kill) -> None:
    from dlintro.callbacks import checkpoints
    from dlintro.models import Classifier

    count = iter(range(1, 1_000_000))

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*arguments: Any, **named: Any) -> Any:
            if next(count) == kill.number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return killed

    match kill.place:
        case "validation":
            Classifier.validation_step = before(Classifier.validation_step)
        case "epoch's end":  # after the best weights are written, before the last ones
            save, kinds = checkpoints.Checkpoints._save, [""]

            def between(self: Any, trainer: Any, path: Path) -> None:
                kinds.append(path.name)
                if kinds[-2:] == [checkpoints.BEST, checkpoints.LAST] and next(count) == kill.number:
                    os.kill(os.getpid(), signal.SIGKILL)
                save(self, trainer, path)

            checkpoints.Checkpoints._save = between
        case "half a checkpoint":
            save = torch.save

            def half(checkpoint: Any, file: Any) -> None:
                save(checkpoint, file)
                if next(count) == kill.number:
                    file.truncate(file.tell() // 2)
                    os.kill(os.getpid(), signal.SIGKILL)

            torch.save = half
        case "before the renamings" | "between two renamings":
            replace, first = Path.replace, kill.place == "before the renamings"

            def killed(self: Path, target: Any) -> Path:
                name = checkpoints.PREVIOUS if first else checkpoints.LAST
                if Path(target).name == name and next(count) == kill.number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return replace(self, target)

            Path.replace = killed


class Run:
    """One run, continued by as many processes as it needs."""

    def __init__(self, folder: Path, extra: tuple[str, ...]) -> None:
        folder.mkdir()
        self.folder, self.extra = folder, extra
        self.started = False
        self.kills = 0

    @property
    def last(self) -> Path:
        return self.folder / "run" / "checkpoints" / "last.ckpt"

    @property
    def ended(self) -> bool:
        record = json.loads((self.folder / "run" / "record.json").read_text())
        return bool(record["status"] == "ok")

    def sit(self, kill: Kill | None = None, after: float = 0.0) -> bool:
        """Start or resume the run until it ends or is killed. Return whether a kill kept it from its end: the record of
        a run may say `ok` while its process still closes its files. A kill at any time comes `after` seconds from the
        start or, in a new run, from the first checkpoint."""
        words = ["resume=run"] if self.started else [*WORDS, *self.extra, "hydra.run.dir=run"]
        process = CONTEXT.Process(target=victim, args=(words, str(self.folder), kill))
        process.start()
        if kill is not None and kill.place == "any time":
            while not self.started and not self.last.is_file() and process.is_alive():
                time.sleep(0.01)
            process.join(after)
            process.kill()
        process.join(MOST_SECONDS)
        assert process.exitcode in (0, -signal.SIGKILL), (self.folder / "stdout").read_text()[-6000:]
        self.started = True
        alive = process.exitcode != 0 and not self.ended
        self.kills += alive
        return alive

    def weights(self) -> str:
        """Return SHA-256 of the last and of the best weights."""
        digest = hashlib.sha256()
        for name in ("last.ckpt", "best.ckpt"):
            content = torch.load(self.last.with_name(name), weights_only=True)
            for key, tensor in sorted(content["state_dict"].items()):
                digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def points(self) -> list[tuple[str, str, float, float]]:
        """Return (file, tag, step, value) of all curves except those of time or memory."""
        found = []
        with (self.folder / "run" / "metrics.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                found += [("csv", tag, float(row["step"]), float(row[tag])) for tag in METRICS if row[tag]]
        events = EventAccumulator(str(self.folder / "run"), {"scalars": 0}, purge_orphaned_data=False)
        events.Reload()
        for tag in sorted(events.Tags()["scalars"]):
            found += [("events", tag, event.step, event.value) for event in events.Scalars(tag)]
        return [point for point in found if not any(word in point[1] for word in ("second", "memory"))]


CONTEXT = multiprocessing.get_context("forkserver")


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fifty_kills_lose_nothing(tmp_path: Path) -> None:
    CONTEXT.set_forkserver_preload([*PRELOADED, __name__])
    images = photographs(tmp_path / "images", num=360)
    packed(tmp_path / "pack", "data=imagenet", f"data.path={images}", "data.image_size=16")
    draw = random.Random(0)
    whole = {}
    for name, extra in SETTINGS.items():
        whole[name] = Run(tmp_path / f"whole, {name}", extra)
        begin = time.monotonic()
        assert not whole[name].sit()
        seconds = time.monotonic() - begin
    expected = {name: (run.weights(), run.points()) for name, run in whole.items()}
    assert len({weights for weights, _ in expected.values()}) == len(SETTINGS)

    wanted = [place for place, number in KILLS.items() for _ in range(number)]
    draw.shuffle(wanted)
    done: list[tuple[str, bool]] = []  # (place, whether in a resumed run)
    differences, runs = 0, 0
    while wanted:
        name = list(SETTINGS)[runs % len(SETTINGS)]
        run = Run(tmp_path / f"run{runs}", SETTINGS[name])
        runs += 1
        alive = True
        while alive and wanted and run.kills < MOST_KILLS:
            places = wanted if run.started else ["any time"]  # the first kill comes after the first checkpoint
            place = next((place for place in places if place in wanted), "any time")
            kill, resumed = Kill(place, draw.randint(1, MOST.get(place, 12))), run.started
            alive = run.sit(kill, after=draw.uniform(0, seconds if resumed else 1))
            if alive:
                done.append((place, resumed))
                if place in wanted:
                    wanted.remove(place)
            else:
                draw.shuffle(wanted)
        if alive:
            assert not run.sit()
        weights, points = run.weights(), run.points()
        differences += (weights, points) != expected[name]
    places = {place: [p for p, _ in done].count(place) for place in KILLS}
    told = f"{len(done)} kills of {runs} runs ({places}), {sum(resumed for _, resumed in done)} in resumed runs"
    print(f"{told}: {differences} runs differ from the undisturbed one")
    assert len(done) >= 50 and sum(resumed for _, resumed in done) >= 15
    assert differences == 0, told
