"""The command `scripts/predict`: a trained model's answer for image files, as a table or JSON.

torch is imported inside the functions: --help and a slip are answered in a fraction of a second.
Shapes: B images in a batch, C channels, H height, W width, K classes.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.accelerators import NAMES, resolve
from dlintro.command import MODEL_PATH_HELP, RUN_HELP, Parser, existing, exit_status, heavy_imports, split_words
from dlintro.commands.named import find_run
from dlintro.errors import RunError, UsageError
from dlintro.terminal import track
from dlintro.text import printable, say

if TYPE_CHECKING:
    import torch

    from dlintro.models import Classifier

BATCH = 64  # images decoded at a time
KEYS = ("model.path", "accelerator")  # also taken as KEY=VALUE, as scripts/train does
MNIST_WAY = "cropped to the ink, scaled to 20x20 and centred by mass in 28x28, as MNIST was made"


@dataclass(frozen=True)
class Prediction:
    file: str
    probabilities_K: list[float]
    prepared: str  # what was done to the pixels before the model saw them


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: predict(sys.argv[1:] if argv is None else argv))


def predict(argv: Sequence[str]) -> int:
    given, words = split_words(argv, KEYS.__contains__)
    arguments = parser().parse_intermixed_args(words)
    if arguments.top < 1:
        raise UsageError(f"--top {arguments.top}: use a number from 1 up")
    run = find_run(arguments.run)
    for path in arguments.images:
        existing(path)
    with heavy_imports():
        from dlintro.run.restore import load_run

    device = resolve(given.get("accelerator", arguments.accelerator))
    model, record = load_run(run, given.get("model.path", arguments.model_path))
    files = list(image_files(arguments.images))
    predictions, failed = classify(model.to(f"{device.kind}:{device.index}"), files)
    if arguments.json:
        print_json(model, predictions, failed)
    else:
        title = type(model).__name__ + (f", trained on {record.get('data')}" if record else "")
        print_table(title, model.class_names, predictions, arguments.top)
    for file, reason in failed:
        say(1, f"{file}: {reason}")
    return 1 if failed else 0


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        "scripts/predict",
        "Classifies image files of any size, grey or colour. They are resized to what the model takes (the middle, in "
        "its proportions). For a model trained on MNIST a dark-on-light digit is inverted, and a digit is "
        f"{MNIST_WAY}.",
    )
    parser.add_argument("run", metavar="RUN_OR_CKPT", help=RUN_HELP)
    parser.add_argument(
        "images", metavar="IMAGE|FOLDER", nargs="+", help="image files; all images in and below a folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with the probability of each class")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="likeliest classes in the table (default: 3)")
    parser.add_argument("--model-path", metavar="FILE.py", help=f"or model.path=FILE.py: {MODEL_PATH_HELP}")
    parser.add_argument("--accelerator", choices=NAMES, default="cpu", help="or accelerator=NAME (default: cpu)")
    return parser


def image_files(words: Sequence[str]) -> Iterator[Path]:
    """The files named, and of each folder all images in and below it, by name."""
    from dlintro.data.folder import SUFFIXES

    for word in words:
        path = Path(word)
        if path.is_file():
            yield path
            continue
        if not path.is_dir():
            raise UsageError(f"{word}: there is no such file or folder")
        found = []
        for parent, inner, names in os.walk(path):
            inner[:] = [name for name in inner if not name.startswith(".")]
            found += [Path(parent, n) for n in names if Path(n).suffix.lower() in SUFFIXES and not n.startswith(".")]
        if not found:
            raise UsageError(f"{word}: no images in this folder (looked for {' '.join(sorted(SUFFIXES))})")
        yield from sorted(found)


def classify(model: "Classifier", files: Sequence[Path]) -> tuple[list[Prediction], list[tuple[Path, str]]]:
    """Predictions in the files' order, and of each broken file why it has none."""
    import torch

    from dlintro.commands.digits import reads_mnist

    channels, height, width = model.image_shape
    if channels not in (1, 3):
        raise UsageError(f"this model takes images of {channels} channels; image files have 1 or 3")
    mnist = reads_mnist(model)
    predictions, failed = [], []
    for start in track(range(0, len(files), BATCH), "classifying"):
        read = []
        for file in files[start : start + BATCH]:
            try:
                read.append((file, *read_image(file, (channels, height, width), mnist)))
            except RunError as error:
                failed.append((file, str(error).removeprefix(f"{printable(file)}: ").partition("; mend or remove")[0]))
        if not read:
            continue
        images_BCHW = torch.stack([image_CHW for _, image_CHW, _ in read])
        with torch.inference_mode():
            logits_BK = model(images_BCHW.to(model.device)).cpu().double()  # mps has no float64
        answers = zip(read, logits_BK.softmax(1).tolist(), strict=True)
        predictions += [Prediction(str(file), row, prepared) for (file, _, prepared), row in answers]
    return predictions, failed


def read_image(file: Path, shape: tuple[int, int, int], mnist: bool) -> tuple["torch.Tensor", str]:
    """uint8 (C, H, W) of the shape, and how the file's pixels became it. RunError for a file that can't be decoded."""
    import torch
    from torch.nn.functional import interpolate

    from dlintro.commands.digits import AS_IT_IS, to_mnist
    from dlintro.data.folder import decode, read_header

    size, _ = read_header(file)
    if not mnist:
        return torch.from_numpy(decode(file, shape).copy()), AS_IT_IS if size == shape[1:] else "resized"
    try:
        digit_HW, prepared = to_mnist(decode(file, (1, *size))[0])
    except ValueError as error:
        raise RunError(f"{printable(file)}: {error}") from None
    digit_11HW = torch.from_numpy(digit_HW.copy())[None, None]
    if digit_HW.shape != shape[1:]:  # a model trained with data.image_size: resized as the data set was
        digit_11HW = interpolate(digit_11HW, shape[1:], mode="bilinear", antialias=True)
    return digit_11HW[0], prepared


def print_table(title: str, class_names: Sequence[str], predictions: Sequence[Prediction], top: int) -> None:
    # Text, because a file's or a class's name would be read as markup.
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    if top > 1:
        table.add_column("next", overflow="fold")
    for prediction in predictions:
        ranked = sorted(enumerate(prediction.probabilities_K), key=lambda pair: -pair[1])[:top]
        (best, probability), *others = [(printable(class_names[k]), percent(p)) for k, p in ranked]
        following = ", ".join(f"{name} {share}" for name, share in others)
        table.add_row(*map(Text, (printable(prediction.file), best, probability, following)[: 3 + (top > 1)]))
    console = Console(highlight=False)
    if predictions:
        console.print(table)
    for note in notes(predictions):
        console.print(note)


def percent(probability: float) -> str:
    """No model is ever certain."""
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def notes(predictions: Sequence[Prediction]) -> list[str]:
    """What was done to digits, so that nobody wonders what the model saw."""
    counts = Counter(word for p in predictions for word in p.prepared.split(", "))
    said = {"inverted": "dark on light, so inverted", "centred": MNIST_WAY}
    return [f"{counts[word]} of {len(predictions)}: {text}" for word, text in said.items() if counts[word]]


def print_json(model: "Classifier", predictions: Sequence[Prediction], failed: Sequence[tuple[Path, str]]) -> None:
    images: list[dict[str, Any]] = []
    for p in predictions:
        probability = max(p.probabilities_K)
        images.append(
            {
                "file": p.file,
                "class": model.class_names[p.probabilities_K.index(probability)],
                "probability": probability,
                "probabilities": dict(zip(model.class_names, p.probabilities_K, strict=True)),
                "prepared": p.prepared,
            }
        )
    broken = [{"file": str(file), "error": reason} for file, reason in failed]
    print(json.dumps({"model": type(model).__name__, "images": images, "failed": broken}, indent=2))


if __name__ == "__main__":
    sys.exit(main())
