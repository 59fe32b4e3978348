"""A run's curves, as TensorBoard events and as metrics.csv, and its row in TensorBoard's HParams.

A sweep in which the batch size differs also writes the curves against images seen, into the folder by_images/.
"""

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

from dlintro.reader import MOST_CURVE_BYTES, opened
from dlintro.run.record import WHOLE_RUN
from dlintro.run.restore import Resumed
from dlintro.target import number

log = logging.getLogger(__name__)

METRICS = (
    "train/loss_step", "train/acc_step", "train/lr", "train/images_per_second", "memory/ram_bytes",
    "memory/device_bytes",
    "train/loss", "train/acc", "val/loss", "val/acc", "train_eval/loss", "train_eval/acc", "test/loss", "test/acc",
    "best/test/loss", "best/test/acc", "noise_scale",
    "val/balanced_acc", "val/top5_acc", "train_eval/balanced_acc", "train_eval/top5_acc", "test/balanced_acc",
    "test/top5_acc", "best/test/balanced_acc", "best/test/top5_acc",
)  # fmt: skip
AXES = ("step", "images", "epoch")
COLUMNS = (*AXES, "seconds", "train_seconds", *METRICS)

OURS = re.compile(r"events\.out\.tfevents\.\d+\..+\.\d+\.\d+(\.was\d+)?")  # as TensorBoard's writer names its files


def event_files(folder: Path) -> list[Path]:
    """A run's own: what somebody has put beside them under another name isn't touched."""
    found = [*folder.glob("events.out.tfevents.*"), *folder.glob("by_images/events.out.tfevents.*")]
    return sorted(path for path in found if OURS.fullmatch(path.name) and path.is_file() and not path.is_symlink())


def first_name(path: Path) -> str:
    """The name that an event file had before `put_in_the_past`."""
    return re.sub(r"^(events\.out\.tfevents\.)\d+(\..*)\.was(\d+)$", r"\1\3\2", path.name)


def put_in_the_past(folder: Path) -> None:
    """TensorBoard reads event files in the order of their names, events.out.tfevents.SECONDS...: where the clock was
    set back, those of an earlier sitting would come last, and their points be taken for new ones."""
    now = int(time.time())
    found = [path for path in event_files(folder) if path.parent == folder]
    if found and int(found[-1].name.split(".")[3]) >= now:
        for position, path in enumerate(found, start=now - len(found)):
            *start, seconds, rest = path.name.split(".", 4)
            was = "" if first_name(path) != path.name else f".was{seconds}"
            path.rename(path.with_name(".".join([*start, str(position), rest]) + was))


def curve_files(folder: Path) -> dict[str, Path]:
    """The files of the curves, by the names that they had at first."""
    found = {f"{path.parent.relative_to(folder)}/{first_name(path)}": path for path in event_files(folder)}
    return found | {"metrics.csv": folder / "metrics.csv"}


def cut_curves(folder: Path, sizes: Mapping[str, int], step: int) -> None:
    """The curves as they were when a checkpoint of that step noted their sizes in bytes: what was written since will be
    written again. By steps alone that can't be told: the test comes at the last checkpoint's step, and so does half an
    accumulation. Each gap is said. A file that the checkpoint doesn't know is a later sitting's, and removed; but it
    stays where it may be a copy of a known one, or a known one under another name."""
    found = curve_files(folder)
    gone = [name for name in sizes if not (name in found and found[name].is_file())]
    starts = {first_bytes(path) for name, path in found.items() if name in sizes and path.is_file()}
    for name, path in found.items():
        if name not in sizes:
            if not gone and first_bytes(path) not in starts:
                path.unlink()
        elif path.is_file() and not path.is_symlink():
            if path.stat().st_size < sizes[name]:
                gone.append(name)
            elif path.stat().st_size > sizes[name]:
                os.truncate(path, sizes[name])
    if mend(folder / "metrics.csv", step) and "metrics.csv" not in gone:
        log.warning("%s: had lines that were cut; the curves have a gap", folder / "metrics.csv")
    for name in gone:
        log.warning("%s: gone, or shorter than it was; the curves have a gap", folder / name)


def first_bytes(path: Path) -> bytes:
    """An event file begins with the time at which it was made."""
    with path.open("rb") as file:
        return file.read(64)


def mend(path: Path, step: int) -> bool:
    """Leaves a metrics.csv with its header and the whole rows up to `step`. True where others were dropped: cut by a
    crash, or grown together with the next one."""
    if not path.is_file():
        return False
    with opened(path, MOST_CURVE_BYTES) as file:
        lines = file.read().splitlines(keepends=True)
    rows = [cells(line) for line in lines]
    header = rows[0] if rows and rows[0][: len(AXES)] == list(AXES) else list(COLUMNS)
    kept = [row for row in rows if row != header and len(row) == len(header) and number(row[0]) is not None]
    dropped = len(kept) + 1 < len(rows)
    kept = [row for row in kept if float(row[0]) <= step]
    if [header, *kept] != rows:
        partial = path.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *kept])
        partial.replace(path)
    return dropped


def cells(line: bytes) -> list[str]:
    """Return the metrics of a row, or nothing for a row that is cut or is no text."""
    try:
        return next(csv.reader([line.decode()])) if line.endswith(b"\n") else []
    except (ValueError, csv.Error, StopIteration):
        return []


class RunLogger(TensorBoardLogger):
    """Seconds count from the start of fitting, over all the sittings of a resumed run. With `by_images` the curves
    are also written against images seen; a resumed run that has such curves goes on with them.

    Nothing is touched before `begin`. Of a resumed run, points later than its checkpoint, of steps that will be taken
    again, are then removed.
    """

    def __init__(self, folder: Path, resumed: Resumed | None = None, by_images: bool = False) -> None:
        self.csv_path = folder / "metrics.csv"
        self.progress: Callable[[], tuple[int, int, float]] = lambda: (0, 0, 0.0)  # images seen, epoch, train_seconds
        self.newest: dict[str, float] = {}  # the last value of each curve
        self._unfinished: dict[str, Any] = {}  # the row of an interval whose last step is not done yet
        self.resumed, self.begun = resumed, False
        has_them = resumed is not None and any(path.parent != folder for path in event_files(folder))
        self._writes_by_images = by_images or has_them
        self._by_images: SummaryWriter | None = None
        self.seconds_before = resumed.seconds if resumed else 0.0
        purge_step = resumed.step + 1 if resumed else None  # for a TensorBoard that has read the points already
        super().__init__(str(folder), name="", version="", default_hp_metric=False, purge_step=purge_step)
        self.start = time.monotonic()

    @rank_zero_only
    def begin(self) -> None:
        folder, resumed = self.csv_path.parent, self.resumed
        if resumed is not None:
            cut_curves(folder, resumed.sizes, resumed.step)
        for axis in (folder, folder / "by_images"):
            put_in_the_past(axis)
        if self._writes_by_images:
            purge_images = resumed.images_seen + 1 if resumed else None
            self._by_images = SummaryWriter(str(folder / "by_images"), purge_step=purge_images)
        if resumed is None or not self.csv_path.is_file():
            with self.csv_path.open("x", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(COLUMNS)
        with self.csv_path.open(newline="", encoding="utf-8") as file:
            self.columns = next(csv.reader(file))  # an earlier version's file may have others
        self.begun = True

    @property
    def experiment(self) -> Any:
        """TensorBoard's writer. Lightning asks for it before it has restored anything: there is none yet."""
        return super().experiment if self.begun else None

    def come_so_far(self) -> dict[str, Any]:
        """Return what a checkpoint notes about the curves on the disk."""
        sizes = {name: path.stat().st_size for name, path in curve_files(self.csv_path.parent).items()}
        return {"sizes": sizes, "seconds": self.seconds}

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.start

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        # Lightning adds `epoch` to the metrics of a test. The test of the val-best weights is in HParams.
        drawn = {name: value for name, value in metrics.items() if name != "epoch" and not name.startswith("best/")}
        super().log_metrics(drawn, step)
        ours = {name: float(value) for name, value in metrics.items() if name in METRICS}
        if not ours:
            return
        self.newest |= ours
        images, epoch, train_seconds = self.progress()
        for name, value in ours.items():
            if self._by_images is not None and not name.startswith(("memory/", "test/", "best/")):
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
                csv.DictWriter(file, self.columns, extrasaction="ignore").writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Everything logged so far reaches the disk: after a power cut no point is missing before the checkpoint."""
        if not self.begun:
            return
        self._write_row()
        self.experiment.flush()
        if self._by_images is not None:
            self._by_images.flush()
        for path in curve_files(self.csv_path.parent).values():
            with path.open("rb") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()

    def close(self) -> None:
        """After the last picture and number of the run."""
        assert self.begun
        self.experiment.close()
        if self._by_images is not None:
            self._by_images.close()

    @property
    def log_dir(self) -> str:
        return str(self.save_dir)

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Nothing: Lightning asks for it when a training starts, and knows no result yet."""

    def log_outcome(self, hparams: Mapping[str, float | str], values: Mapping[str, float], step: int, ok: bool) -> None:
        """The run's row in HParams, with these `values` of the whole run. There is no list of columns in it:
        TensorBoard finds out what differs over all runs that it shows."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

        for name, value in values.items():
            self.experiment.add_scalar(f"{WHOLE_RUN}{name}", value, step)
        start, end = SessionStartInfo(), SessionEndInfo(status=STATUS_SUCCESS if ok else STATUS_FAILURE)
        for name, setting in hparams.items():
            if isinstance(setting, str):
                start.hparams[name].string_value = setting
            else:
                start.hparams[name].number_value = setting
        for tag, content in (
            (metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start)),
            (metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end)),
        ):
            about = metadata.create_summary_metadata(content)
            point = Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)
            self.experiment._get_file_writer().add_summary(Summary(value=[point]))
