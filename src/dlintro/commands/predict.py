"""The command `scripts/predict`: a trained model's answer for image files, in the terminal or as JSON.

torch is imported inside the functions: --help and a slip are answered in a fraction of a second.
Shapes: B images in a batch, C channels, H height, W width, K classes.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.accelerators import NAMES, resolve
from dlintro.command import MODEL_PATH_HELP, RUN_HELP, Parser, existing, exit_status, heavy_imports, split_words
from dlintro.commands.image_files import Found, found_images, save_image, save_targets
from dlintro.errors import RunError, UsageError
from dlintro.run.named import find_run
from dlintro.terminal import track
from dlintro.text import printable, say, shown_path

if TYPE_CHECKING:
    import torch

    from dlintro.models import Classifier

BATCH = 64  # images decoded at a time
MOST_DRAWN = 6  # images that are drawn in the terminal; of more there is a table
BAR = 24  # characters of a probability of 1
KEYS = ("model.path", "accelerator")  # also taken as KEY=VALUE, as scripts/train does
MNIST_WAY = "cropped to the ink, scaled to 20x20 and centred by mass in 28x28, as MNIST was made"
SEVERAL = "there seems to be more than one digit in it, and the answer takes them as one"


@dataclass(frozen=True)
class Seen:
    """A file as the model sees it: `image_CHW` is uint8. `prepared` says what was done to the file's pixels."""

    file: Path
    image_CHW: "torch.Tensor"
    prepared: str
    several: bool = False
    digest: str = ""


@dataclass(frozen=True)
class Prediction:
    """`digest` is the hash of the file's bytes, as in a run's images.json."""

    file: str
    probabilities_K: list[float]
    prepared: str
    several: bool
    digest: str
    image_CHW: "torch.Tensor | None"  # None where there are too many images to draw them

    def likeliest(self, number: int) -> list[tuple[int, float]]:
        return sorted(enumerate(self.probabilities_K), key=lambda pair: -pair[1])[:number]


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: predict(sys.argv[1:] if argv is None else argv))


def predict(argv: Sequence[str]) -> int:
    given, words = split_words(argv, KEYS.__contains__)
    arguments = parser().parse_intermixed_args(words)
    if arguments.top < 1:
        raise UsageError(f"--top {arguments.top}: use a number from 1 up")
    run = find_run(arguments.run)
    for path in arguments.images:
        refuse_swapped(path)
        existing(path)
    with heavy_imports():
        from dlintro.run.restore import load_run

    device = resolve(given.get("accelerator", arguments.accelerator))
    model, record = load_run(run, given.get("model.path", arguments.model_path))
    found = found_images(arguments.images)
    targets = save_targets(Path(arguments.save), arguments.images, found.files) if arguments.save else {}

    def keep(seen: Seen) -> None:
        if targets:
            save_image(seen.image_CHW, targets[str(seen.file)])

    predictions, failed = classify(model.to(f"{device.kind}:{device.index}"), found.files, keep)
    if arguments.json:
        print_json(model, predictions, failed, found, targets)
    else:
        title = model.title + (f", trained on {record.get('data')}" if record else "")
        show(title, model.class_names, predictions, arguments.top)
        right = right_said(model.class_names, predictions, digests_learnt_from(run))
        counts = [*counts_said(found, len(predictions), len(failed)), *right]
        for line in [*counts, *saved_said(targets, predictions)]:
            print(line)
    for file, reason in failed:
        say(1, f"{file}: {reason}")
    return 1 if failed else 0


def refuse_swapped(path: str) -> None:
    """Raise UsageError if a run stands where an image should."""
    if Path(path).exists():
        return
    try:
        find_run(path)
    except UsageError:
        return
    raise UsageError(
        f"{path}: there is no such image file or folder; if this is the run, name it first: scripts/predict RUN IMAGE"
    )


def parser() -> argparse.ArgumentParser:
    parser = Parser(
        "scripts/predict",
        "Classifies image files of any size, grey or colour. They are resized to what the model takes (the middle, in "
        "their proportions). For a model trained on MNIST, a dark digit on light paper is inverted, and a digit is "
        f"{MNIST_WAY}. Up to {MOST_DRAWN} images are drawn in the terminal as the model saw them.",
    )
    parser.add_argument("run", metavar="RUN_OR_CKPT", help=RUN_HELP)
    parser.add_argument(
        "images", metavar="IMAGE|FOLDER", nargs="+", help="image files; all images in and below a folder"
    )
    parser.add_argument("--json", action="store_true", help="print JSON with the probability of each class")
    parser.add_argument("--save", metavar="DIR", help="write what the model saw of each image there, as PNG files")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many classes are listed (default: 3)")
    parser.add_argument("--model-path", metavar="FILE.py", help=f"or model.path=FILE.py: {MODEL_PATH_HELP}")
    parser.add_argument("--accelerator", choices=NAMES, default="cpu", help="or accelerator=NAME (default: cpu)")
    return parser


def classify(
    model: "Classifier", files: Sequence[Path], keep: Callable[[Seen], None] = lambda seen: None
) -> tuple[list[Prediction], list[tuple[Path, str]]]:
    """Predictions in the files' order, and of each broken file why it has none. `keep` is told of each image."""
    import torch

    from dlintro.commands.digits import reads_mnist
    from dlintro.data.image_file import BrokenImage

    channels, height, width = model.image_shape
    if channels not in (1, 3):
        raise UsageError(f"this model takes images of {channels} channels; image files have 1 or 3")
    mnist = reads_mnist(model)
    predictions, failed = [], []
    for start in track(range(0, len(files), BATCH), "classifying"):
        read = []
        for file in files[start : start + BATCH]:
            try:
                read.append(read_image(file, (channels, height, width), mnist, model.greys, model.sees_middle))
            except RunError as error:
                why = error.what if isinstance(error, BrokenImage) else str(error)
                failed.append((file, why.removeprefix(f"{printable(file)}: ")))
        if not read:
            continue
        for seen in read:
            keep(seen)
        with torch.inference_mode():
            images_BCHW = torch.stack([seen.image_CHW for seen in read])
            logits_BK = model(images_BCHW.to(model.device)).cpu().double()  # mps has no float64
        for seen, row in zip(read, logits_BK.softmax(1).tolist(), strict=True):
            image_CHW = seen.image_CHW if len(files) <= MOST_DRAWN else None
            predictions.append(Prediction(str(seen.file), row, seen.prepared, seen.several, seen.digest, image_CHW))
    return predictions, failed


def read_image(
    file: Path,
    shape: tuple[int, int, int],
    mnist: bool,
    black_and_white: tuple[int, int] | None = None,
    sees_middle: bool = False,
) -> Seen:
    """The file's pixels in the shape that the model takes, as it saw those of its test set. `black_and_white` are the
    greys of more than 8 bits that it saw as 0 and 255. With `sees_middle`, it saw the middle of larger images. RunError
    for a file that can't be decoded."""
    import torch
    from torch.nn.functional import interpolate

    from dlintro.commands.digit_count import has_several
    from dlintro.commands.digits import AS_IT_IS, paper_behind, to_mnist
    from dlintro.data.encoded import channels_first, middle
    from dlintro.data.image_file import Greys, content_hash, decode, open_image, read_file, read_header

    content = read_file(file)
    digest = content_hash(content)
    size = read_header(file, content).size
    greys = Greys(*black_and_white) if black_and_white else None
    if sees_middle:
        image = open_image(file, "L" if shape[0] == 1 else "RGB", content, greys)
        return Seen(file, torch.from_numpy(channels_first(middle(image, shape[1:])).copy()), "resized", digest=digest)
    if not mnist:
        image_CHW = torch.from_numpy(decode(file, shape, content, greys).copy())
        return Seen(file, image_CHW, AS_IT_IS if size == shape[1:] else "resized", digest=digest)
    try:
        digit = to_mnist(decode(file, (1, *size), content, greys, paper_behind)[0])
    except ValueError as error:
        raise RunError(f"{printable(file)}: {error}") from None
    digit_11HW = torch.from_numpy(digit.pixels_HW.copy())[None, None]
    if digit.pixels_HW.shape != shape[1:]:  # a model trained with data.image_size: resized as the data set was
        digit_11HW = interpolate(digit_11HW, shape[1:], mode="bilinear", antialias=True)
    return Seen(file, digit_11HW[0], digit.prepared, has_several(digit.ink_HW), digest)


# What is printed.


def show(title: str, class_names: Sequence[str], predictions: Sequence[Prediction], top: int) -> None:
    console = Console(highlight=False)
    in_pictures = console.is_terminal and all(prediction.image_CHW is not None for prediction in predictions)
    if in_pictures:
        from dlintro.run.screen import in_colours

        console.print(Text(printable(title), style="italic"))
        for prediction in predictions:
            console.print(drawn(prediction, class_names, top, in_colours(console)))
            console.print()
    elif predictions:
        console.print(table_of(title, class_names, predictions, top))
    for note in notes(predictions):
        console.print(note, markup=False)
    for note in [] if in_pictures else several_said(predictions):
        console.print(note, markup=False, soft_wrap=True)  # its paths stay whole


def drawn(prediction: Prediction, class_names: Sequence[str], top: int, colours: bool) -> Table:
    """Draw the image that the model saw, and its answer beside it."""
    from dlintro.run.screen import draw_image

    # Text, because a file's or a class's name would be read as markup.
    answer = Table.grid(padding=(0, 1))
    answer.add_column(overflow="fold")
    answer.add_column(justify="right")
    answer.add_column(no_wrap=True)
    for k, probability in prediction.likeliest(top):
        name = Text(printable(class_names[k]), style="bold" if not answer.rows else "")
        answer.add_row(name, percent(probability), "█" * round(BAR * probability))
    said = Table.grid()
    for part in (Text(printable(prediction.file)), Text(), answer, Text()):
        said.add_row(part)
    if prediction.several:
        said.add_row(Text(SEVERAL, style="yellow"))
    assert prediction.image_CHW is not None
    beside = Table.grid(padding=(0, 2, 0, 0))
    beside.add_row(Text("\n").join(draw_image(prediction.image_CHW, colours)), said)
    return beside


def table_of(title: str, class_names: Sequence[str], predictions: Sequence[Prediction], top: int) -> Table:
    table = Table(title=Text(printable(title)), title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    if top > 1:
        table.add_column("next", overflow="fold")
    for prediction in predictions:
        (best, probability), *others = [(printable(class_names[k]), percent(p)) for k, p in prediction.likeliest(top)]
        following = ", ".join(f"{name} {share}" for name, share in others)
        table.add_row(*map(Text, (printable(prediction.file), best, probability, following)[: 3 + (top > 1)]))
    return table


def percent(probability: float) -> str:
    """No model is ever certain."""
    if 0.9995 <= probability < 1:
        return ">99.9%"
    return "<0.1%" if 0 < probability < 0.0005 else f"{probability:.1%}"


def notes(predictions: Sequence[Prediction]) -> list[str]:
    """Says what was done to digits, so that nobody wonders what the model saw."""
    counts = Counter(word for p in predictions for word in p.prepared.split(", "))
    told = {"inverted": "inverted, as their ink was darker than the paper", "centred": MNIST_WAY}
    if len(predictions) == 1:
        told["inverted"] = "inverted, as its ink was darker than the paper"
    of = f"{{}} of the {len(predictions)} images: " if len(predictions) > 1 else ""
    return [of.format(counts[word]) + text for word, text in told.items() if counts[word]]


def several_said(predictions: Sequence[Prediction]) -> list[str]:
    several = [printable(p.file) for p in predictions if p.several]
    listed = ", ".join(several[:3]) + (" ..." if len(several) > 3 else "")
    return [f"{len(several)} of the {len(predictions)} images: {SEVERAL} ({listed})"] if several else []


def counts_said(found: Found, num_read: int, num_failed: int) -> list[str]:
    """One line on the files of the folders, if there were any folders or files that were left out."""
    if not found.in_folders:
        return []
    said = [f"{num_read} image{'s' if num_read != 1 else ''} read"]
    said += [f"{num_failed} not readable"] if num_failed else []
    if found.skipped:
        from dlintro.data.layout import skipped_said

        said.append(skipped_said(found.skipped))
    return [", ".join(said)]


def right_said(
    class_names: Sequence[str], predictions: Sequence[Prediction], learnt: Collection[str] = ()
) -> list[str]:
    """Count the right answers, if each image lies in a folder with the name of a class. `learnt` has the hashes of the
    images that the run was trained or validated on: the others are counted by themselves, as only they tell how good
    the model is."""
    folders = [Path(p.file).absolute().parent.name for p in predictions]
    if len(folders) < 2 or not set(folders) <= set(class_names):
        return []
    right = [folder == class_names[p.likeliest(1)[0][0]] for folder, p in zip(folders, predictions, strict=True)]
    share = percent(sum(right) / len(right))
    said = [f"{sum(right)} of the {len(right)} answers are the name of the image's folder ({share})"]
    new = [is_right for is_right, p in zip(right, predictions, strict=True) if p.digest not in learnt]
    if num := len(right) - len(new):
        rest = f"; of the {len(new)} others, {sum(new)} ({percent(sum(new) / len(new))})" if new else ""
        said.append(f"the model was trained or validated on {num} of these images, so this is too high{rest}")
    return said


def digests_learnt_from(run: Path) -> set[str]:
    """Return the hashes of the files that the run was trained or validated on, as far as its folder has them."""
    from dlintro.run.inputs import learnt_from, read_images
    from dlintro.run.restore import find_checkpoint, run_folder

    folder = run_folder(find_checkpoint(run))
    return learnt_from((read_images(folder) if folder else None) or {})


def saved_said(targets: Mapping[str, Path], predictions: Sequence[Prediction]) -> list[str]:
    if not targets:
        return []
    pictures = f"{len(predictions)} picture{'s' if len(predictions) != 1 else ''}"
    return [f"saved: {pictures} of what the model saw, in {shown_path(next(iter(targets.values())).parent)}"]


def print_json(
    model: "Classifier",
    predictions: Sequence[Prediction],
    failed: Sequence[tuple[Path, str]],
    found: Found,
    targets: Mapping[str, Path],
) -> None:
    images: list[dict[str, Any]] = []
    for p in predictions:
        [(best, probability)] = p.likeliest(1)
        images.append(
            {
                "file": p.file,
                "class": model.class_names[best],
                "probability": probability,
                "probabilities": dict(zip(model.class_names, p.probabilities_K, strict=True)),
                "prepared": p.prepared,
                "several_digits": p.several,
            }
            | ({"saved": str(targets[p.file])} if targets else {})
        )
    broken = [{"file": str(file), "error": reason} for file, reason in failed]
    told = {"model": model.title, "images": images, "failed": broken, "skipped": dict(found.skipped)}
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    sys.exit(main())
