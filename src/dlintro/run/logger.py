"""A run's curves: TensorBoard events against steps, the same against images seen (by_images/), and metrics.csv."""

import csv
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter

from dlintro.run.restore import Resumed

log = logging.getLogger(__name__)

METRICS = (
    "train/loss_step", "train/acc_step", "train/lr", "train/images_per_second", "memory/ram_bytes",
    "memory/device_bytes",
    "train/loss", "train/acc", "val/loss", "val/acc", "train_eval/loss", "train_eval/acc", "test/loss", "test/acc",
    "best/test/loss", "best/test/acc", "noise_scale",
)  # fmt: skip
COLUMNS = ("step", "images", "epoch", "seconds", "train_seconds", *METRICS)


def event_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("events.out.tfevents.*"), *folder.glob("by_images/events.out.tfevents.*")])


def first_name(path: Path) -> str:
    """The name that an event file had before `put_in_the_past`."""
    return re.sub(r"^(events\.out\.tfevents\.)\d+(\..*)\.was(\d+)$", r"\1\3\2", path.name)


def put_in_the_past(folder: Path) -> None:
    """TensorBoard reads event files in the order of their names, events.out.tfevents.SECONDS...: where the clock was
    set back, those of an earlier sitting would come last, and their points be taken for new ones."""
    now = int(time.time())
    found = sorted(folder.glob("events.out.tfevents.*"))
    if found and int(found[-1].name.split(".")[3]) >= now:
        for position, path in enumerate(found, start=now - len(found)):
            *start, seconds, rest = path.name.split(".", 4)
            was = "" if first_name(path) != path.name else f".was{seconds}"
            path.rename(path.with_name(".".join([*start, str(position), rest]) + was))


def curve_files(folder: Path) -> dict[str, Path]:
    """The files of the curves, by the names that they had at first."""
    found = {f"{path.parent.relative_to(folder)}/{first_name(path)}": path for path in event_files(folder)}
    return found | {"metrics.csv": folder / "metrics.csv"}


def cut_curves(folder: Path, sizes: Mapping[str, int]) -> None:
    """The curves as they were when a checkpoint noted their sizes in bytes: what was written since will be written
    again. By steps alone that can't be told: the test comes at the last checkpoint's step, and so does half an
    accumulation."""
    for name, path in curve_files(folder).items():
        if name in sizes and (not path.is_file() or path.stat().st_size < sizes[name]):
            log.warning("%s: gone, or shorter than it was; the curves have a gap", path)
        if name not in sizes:
            path.unlink(missing_ok=True)
        elif path.is_file() and not path.is_symlink() and path.stat().st_size > sizes[name]:
            os.truncate(path, sizes[name])


class RunLogger(TensorBoardLogger):
    """Seconds are counted from the start of fitting, over all the sittings of a resumed run.

    Of a resumed run, points later than its checkpoint, of steps that will be taken again, are removed.
    """

    def __init__(self, folder: Path, resumed: Resumed | None = None) -> None:
        self.csv_path = folder / "metrics.csv"
        self.progress: Callable[[], tuple[int, int, float]] = lambda: (0, 0, 0.0)  # images seen, epoch, train_seconds
        self.seconds_before = 0.0
        self._unfinished: dict[str, Any] = {}  # the row of an interval whose last step is not done yet
        purge_step = purge_images = None  # for a TensorBoard that has read the points already
        if resumed is not None:
            cut_curves(folder, resumed.sizes)
            self.seconds_before = resumed.seconds
            purge_step, purge_images = resumed.step + 1, resumed.images_seen + 1
        for axis in (folder, folder / "by_images"):
            put_in_the_past(axis)
        super().__init__(str(folder), name="", version="", default_hp_metric=False, purge_step=purge_step)
        self._by_images = SummaryWriter(str(folder / "by_images"), purge_step=purge_images)
        if resumed is None or not self.csv_path.is_file():
            with self.csv_path.open("x", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(COLUMNS)
        self.start = time.monotonic()

    def come_so_far(self) -> dict[str, Any]:
        """What a checkpoint notes, of curves that are on the disk."""
        sizes = {name: path.stat().st_size for name, path in curve_files(self.csv_path.parent).items()}
        return {"sizes": sizes, "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.start

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # Lightning adds `epoch` to the metrics of a test.
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)
        ours = {name: float(value) for name, value in metrics.items() if name in METRICS}
        if not ours:
            return
        images, epoch, train_seconds = self.progress()
        for name, value in ours.items():
            if not name.startswith(("memory/", "test/", "best/")):
                self._by_images.add_scalar(f"by_images/{name}", value, images)  # else both axes share a chart
        row: dict[str, Any] = {"step": step, "images": images, "epoch": epoch, "seconds": round(self.seconds, 3)}
        row |= {"train_seconds": round(train_seconds, 3)} | ours
        if "train/loss_step" in ours:  # read before the step: its seconds come with the speed, once it is done
            self._write_row()
            self._unfinished = row
            return
        if self._unfinished.get("step") == step:
            row, self._unfinished = self._unfinished | row, {}
        self._write_row()
        self._write_row(row)

    def _write_row(self, row: Mapping[str, Any] | None = None) -> None:
        """Appends `row` to metrics.csv; without one the unfinished row, if there is any, as it is."""
        if row is None:
            row, self._unfinished = self._unfinished, {}
        if row:
            with self.csv_path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS).writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Everything logged so far reaches the disk: after a power cut no point is missing before the checkpoint."""
        self._write_row()
        self.experiment.flush()
        self._by_images.flush()
        for path in curve_files(self.csv_path.parent).values():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def close(self) -> None:
        """After the last picture and number of the run."""
        self.experiment.close()
        self._by_images.close()

    @property
    def log_dir(self) -> str:
        return str(self.save_dir)

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        if metrics:  # without metrics Lightning would write a row of -1
            super().log_hyperparams(params, metrics, step)
