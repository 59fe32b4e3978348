"""The command `scripts/evaluate`: tests a trained model again on a whole test set, and shows each class.

torch is imported inside the functions, so that --help and a mistyped word are answered in a fraction of a second.
The file is read from top to bottom: the words of the command, the test, the figures of each class, the tables.
"""

import argparse
import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.accelerators import PRECISIONS, Device, resolve, resolve_precision
from dlintro.command import MODEL_PATH_HELP, RUN_HELP, Parser, exit_status, heavy_imports, split_words
from dlintro.commands.evaluation_data import (
    check_fit,
    data_settings,
    refuse_other_images,
    stored_data,
    typed_settings,
)
from dlintro.errors import RunError
from dlintro.run.named import find_run
from dlintro.settings.keys import TEST_IMAGES, TEST_READING
from dlintro.text import printable
from dlintro.version import changes_between

if TYPE_CHECKING:
    from dlintro.data import ImageDataModule
    from dlintro.models import Classifier
    from dlintro.run.results import ClassRow, Results

log = logging.getLogger(__name__)

KEYS = (
    "data",
    "accelerator",
    "accelerator.index",
    "trainer.precision",
    "model.path",
    *TEST_IMAGES,
    *TEST_READING,
)
MOST_ROWS = 30  # if there are more classes, the table shows those with the lowest recall


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: evaluate(sys.argv[1:] if argv is None else argv))


def evaluate(argv: Sequence[str]) -> int:
    given, words = split_words(argv, looks_like_key)
    arguments = parser().parse_args(words)
    settings = typed_settings(given, KEYS)
    run = find_run(arguments.run)
    with heavy_imports():
        from dlintro.data import ImageDataModule
        from dlintro.models.views import Views
        from dlintro.run.advice import few_images
        from dlintro.run.record import made_by
        from dlintro.run.restore import find_checkpoint, load_run, run_folder

    checkpoint = find_checkpoint(run)
    model, record = load_run(run, given.get("model.path"))
    stored = stored_data(run_folder(checkpoint), record, "data" in settings)
    data = ImageDataModule(**data_settings(stored, settings))
    refuse_other_images(data, checkpoint, record, stored.get("name"), "data" in settings or "data.path" in settings)
    check_fit(model, data)
    if model.greys is not None and data.greys is not None:
        data.greys = model.greys
    device = resolve(settings.get("accelerator", "auto"), settings.get("accelerator.index", "auto"))
    precision = resolve_precision(settings.get("trainer.precision", recorded_precision(record)), device)
    views = Views(model.network, arguments.views, model.image_shape) if arguments.views else None
    results, loss, num_correct = test(model, data, device, precision)
    metrics, averaged = dict(model.values), None
    if views is not None:
        model.network = views
        averaged = {"views": arguments.views} | figures_of(*test(model, data, device, precision))
    if changes := changes_between(made_by(record or {})):
        log.warning("%s", changes)
    own = not any(key == "data" or key in TEST_IMAGES for key in settings)
    expected = recorded_acc(record, checkpoint) if own and record else None
    report = {
        "model": model.title,
        "checkpoint": str(checkpoint),
        "data": data.source.facts.name,
        "device": device.description,
        "precision": precision,
        "images": len(results.labels_N),
        "correct": num_correct,
        "accuracy": num_correct / len(results.labels_N),
        "recorded_accuracy": expected,
        "balanced_accuracy": metrics["test/balanced_acc"],
        "top5_accuracy": metrics.get("test/top5_acc"),
        "loss": loss,
        "averaged_views": averaged,
    }
    if few := few_images("test", results.labels_N, results.class_names):
        log.warning("%s", few)
    show(report, results.class_rows(), as_json=arguments.json)
    return 0


def looks_like_key(word: str) -> bool:
    return re.fullmatch(r"[a-z_]+(\.[a-z_]+)*", word) is not None


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        "scripts/evaluate",
        "Recomputes a trained model's accuracy on the whole test set, with its 95 % interval, the balanced accuracy, "
        "the top-5 accuracy if there are more than ten classes, the loss, and for each class its recall, its precision "
        "and the class it is most confused with. The test set is that of the run, unless data=NAME names another one.",
    )
    parser.add_argument("run", metavar="RUN_OR_CKPT", help=RUN_HELP)
    parser.add_argument(
        "--views",
        choices=("flip", "shift", "flip+shift"),
        help="test-time augmentation: also test the mean logits of several views of each image. flip adds its mirror "
        "image, shift two shifts by a pixel, flip+shift gives six views",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.epilog = f"KEY=VALUE, as in scripts/train: {', '.join(KEYS)}. model.path: {MODEL_PATH_HELP}."
    parser.usage = "scripts/evaluate RUN_OR_CKPT [KEY=VALUE ...] [--views flip|shift|flip+shift] [--json]"
    return parser


def recorded_precision(record: Mapping[str, Any] | None) -> str:
    precision = str((record or {}).get("precision"))
    return precision if precision in PRECISIONS else "32-true"


def recorded_acc(record: Mapping[str, Any], checkpoint: Path) -> float | None:
    acc = record.get("best/test/acc" if checkpoint.name == "best.ckpt" else "test/acc")
    return float(acc) if isinstance(acc, (int, float)) else None


def test(model: "Classifier", data: "ImageDataModule", device: Device, precision: str) -> tuple["Results", float, int]:
    """The logits and labels, the loss, and the number of right answers, computed as after training."""
    import lightning as L
    import torch

    from dlintro.callbacks.logits import KeepLogits
    from dlintro.run.results import Results

    logging.getLogger("lightning").handlers.clear()  # our first line names the device already
    kept = KeepLogits()
    trainer = L.Trainer(
        accelerator=device.kind,
        devices=[device.index] if device.index else 1,
        precision=precision,  # type: ignore[arg-type]
        callbacks=[kept],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    try:
        trainer.test(model, datamodule=data, verbose=False, weights_only=True)
    except torch.OutOfMemoryError as error:
        smaller = data.batch_size == data.eval_batch_size > 1
        hint = f"data.batch_size={data.batch_size // 2}" if smaller else "accelerator=cpu"
        raise RunError(f"out of memory with batches of {data.eval_batch_size} images; try {hint}") from error
    num_correct = round(model.values["test/acc"] * len(kept.labels_N))
    return Results(kept.logits_NK, kept.labels_N, data.class_names), model.values["test/loss"], num_correct


def figures_of(results: "Results", loss: float, num_correct: int) -> dict[str, Any]:
    from dlintro.run.results import wilson_interval

    num = len(results.labels_N)
    return {
        "correct": num_correct,
        "accuracy": num_correct / num,
        "accuracy_interval_95": wilson_interval(num_correct, num),
        "loss": loss,
    }


def show(report: Mapping[str, Any], rows: Sequence["ClassRow"], as_json: bool) -> None:
    from dlintro.run.results import wilson_interval
    from dlintro.run.screen import percent_with_interval

    num_correct, num = report["correct"], report["images"]
    if as_json:
        interval = {"accuracy_interval_95": wilson_interval(num_correct, num)}
        print(json.dumps({**report, **interval, "classes": [asdict(row) for row in rows]}, indent=2))
        return
    console = Console(highlight=False)
    console.print(
        f"{report['model']} on the test images of {report['data']}  ({report['device']}, {report['precision']})",
        markup=False,
    )
    summary = Table.grid(padding=(0, 2))
    summary.add_row("accuracy", percent_with_interval(num_correct, num))
    summary.add_row("balanced accuracy", f"{report['balanced_accuracy']:.2%}, the mean of the classes' recalls")
    if report["top5_accuracy"] is not None:
        summary.add_row("top-5 accuracy", f"{report['top5_accuracy']:.2%}")
    summary.add_row("loss", f"{report['loss']:.4f}")
    if (views := report["averaged_views"]) is not None:
        summary.add_row(f"accuracy, {views['views']}", percent_with_interval(views["correct"], num))
        summary.add_row(f"loss, {views['views']}", f"{views['loss']:.4f}")
    if report["recorded_accuracy"] is not None:
        recorded = round(report["recorded_accuracy"] * num)
        same = recorded == num_correct
        said = (
            "the same" if same else f"{recorded / num:.2%}, {recorded:,} right: another device, precision or version?"
        )
        summary.add_row("record.json says", said)
    console.print(summary)
    console.print(class_table(rows))


def class_table(rows: Sequence["ClassRow"]) -> Table:
    shown = list(rows)
    if len(rows) > MOST_ROWS:
        shown = sorted(rows, key=lambda row: 2.0 if row.recall is None else row.recall)[:MOST_ROWS]
    caption = f"the {MOST_ROWS} of {len(rows)} classes with the lowest recall" if len(rows) > MOST_ROWS else None
    table = Table(caption=caption, caption_justify="left")
    table.add_column("class", overflow="fold")
    for header in ("images", "recall", "precision"):
        table.add_column(header, justify="right")
    table.add_column("most confused with", overflow="fold")
    for row in shown:
        confused = "–" if row.most_confused_with is None else f"{row.most_confused_with} ({row.confused:,})"
        # Text, because a class's name would be read as markup.
        cells = (printable(row.name), f"{row.images:,}", share(row.recall), share(row.precision), printable(confused))
        table.add_row(*map(Text, cells))
    return table


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


if __name__ == "__main__":
    sys.exit(main())
