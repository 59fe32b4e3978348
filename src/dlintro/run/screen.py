"""The last screen of a run: the result, the worst mistakes drawn in the terminal, and what to type next."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from dlintro.run.advice import FEW_STEPS, longer_words
from dlintro.run.parts import Run
from dlintro.run.results import Results, viewable, wilson_interval
from dlintro.settings.words import key_of
from dlintro.target import falls
from dlintro.text import as_typed, duration, printable, shown_path, typed

LEAST_APART = 0.01  # another accuracy that differs by less from the accuracy isn't worth a line
CELL = 22  # characters that an image is wide: three stand side by side in 80 columns
OF_LENGTH = ("data.batch_size", "trainer.max_epochs", "hydra.run.dir")
SHADES = " .:-=+*#%@"  # without colours, from black to white


def in_colours(console: Console) -> bool:
    return console.color_system is not None and not console.no_color


def draw_image(image_CHW: torch.Tensor, colours: bool) -> list[Text]:
    """uint8 (C, H, W) as lines of CELL characters, two pixels a character: half blocks in colour, or shades."""
    height = 2 * min(CELL, max(1, round(CELL * image_CHW.shape[1] / image_CHW.shape[2] / 2)))
    small = F.interpolate(
        viewable(image_CHW)[None].float(), (height, CELL), mode="bilinear", antialias=True, align_corners=False
    )
    rgb_HW3 = small[0].round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).expand(-1, -1, 3).tolist()
    lines = []
    for upper, lower in zip(rgb_HW3[::2], rgb_HW3[1::2], strict=True):
        line = Text()
        for top, bottom in zip(upper, lower, strict=True):
            if colours:
                line.append("▀", Style(color="rgb({},{},{})".format(*top), bgcolor="rgb({},{},{})".format(*bottom)))
            else:
                line.append(SHADES[(sum(top) + sum(bottom)) * (len(SHADES) - 1) // (6 * 255)])
        lines.append(line)
    return lines


def mistakes_table(
    results: Results, images_NCHW: torch.Tensor, worst: Sequence[int], colours: bool, width: int
) -> Table:
    grid = Table.grid(padding=(0, 2))
    cells = []
    for index in worst:
        probabilities_K = results.probabilities_NK[index]
        predicted = int(probabilities_K.argmax())
        names = results.class_names
        cell = Text("\n").join(draw_image(images_NCHW[index], colours))
        said = printable(f"is {names[int(results.labels_N[index])]}, read as {names[predicted]}")
        cells.append(Text.assemble(cell, f"\n{said}\nwith {probabilities_K[predicted]:.1%}\n"))
    per_row = max(1, (width + 2) // (CELL + 2))
    for start in range(0, len(cells), per_row):
        grid.add_row(*cells[start : start + per_row])
    return grid


def percent_with_interval(num_correct: int, num: int) -> str:
    low, high = wilson_interval(num_correct, num)
    return f"{num_correct / num:.2%} of {num:,}  (95 % interval {low:.2%} to {high:.2%})"


def chosen_by(record: Mapping[str, Any], best: str) -> str:
    """Say what chose the best epoch, if it wasn't its accuracy."""
    value = record[f"best/{best}"]
    return "" if best == "val/acc" else f", by {best} {f'{value:.4f}' if falls(best) else f'{value:.2%}'}"


def result_table(record: Mapping[str, Any], best: str, num_workers: int, threads_typed: bool) -> Table:
    """`best`: the value of trainer.best."""
    table = Table.grid(padding=(0, 2))
    num = record["test_images"]
    if record["best/epoch"] is not None:
        table.add_row("test accuracy, best epoch", percent_with_interval(round(record["best/test/acc"] * num), num))
    if record["best/epoch"] is not None and record["best/epoch"] + 1 != record["epochs"]:
        table.add_row("test accuracy, last epoch", percent_with_interval(round(record["test/acc"] * num), num))
    if record["best/epoch"] is not None:
        for name, meaning in (("balanced_acc", "balanced accuracy"), ("top5_acc", "top-5 accuracy")):
            value = record[f"best/test/{name}"]
            if value is not None and abs(value - record["best/test/acc"]) >= LEAST_APART:
                table.add_row(f"{meaning}, best epoch", f"{value:.2%}")
        epochs = f"(epoch {record['best/epoch'] + 1} of {record['epochs']}{chosen_by(record, best)})"
        table.add_row("val accuracy", f"{record['best/val/acc']:.2%} of {record['val_images']:,}  {epochs}")
    images = min(record["batch_size"] * record["accumulate"], record["train_images"])
    table.add_row("training", f"{duration(record['fit_seconds'])} for {record['steps']:,} steps of {images} images")
    if record["train/images_per_second"]:
        table.add_row(
            "speed", f"{record['train/images_per_second']:,.0f} images/s on {record['device']}, {record['precision']}"
        )
    load, ours = os.getloadavg()[0], record["threads"] + num_workers
    if record["accelerator"] == "cpu" and load > ours + 0.7:
        hint = "" if threads_typed else ", or with threads=1"
        table.add_row("", f"Other programs ran here too (load {load:.1f}). It may be far faster alone{hint}.")
    table.add_row("parameters", f"{record['parameters']:,}")
    return table


def show(run: Run, results: Results) -> None:
    record = run.record.fields
    console = Console(highlight=False)
    console.rule(f"{record['model']} on {record['data']}")
    threads_typed = run.settings.threads is not None
    console.print(result_table(record, run.settings.trainer.best, run.data.num_workers, threads_typed))
    if console.is_terminal and (worst := results.worst(6)):
        console.print("\n[bold]its worst mistakes[/] on the test images")
        console.print(mistakes_table(results, run.data.test.images_NCHW, worst, in_colours(console), console.width))
    console.print("\n[bold]next[/]")
    for meaning, command in next_commands(run).items():
        console.print(f"  {meaning}:", style="dim")
        print(f"    {command}")  # not by rich, which would break a long one


def longer(run: Run) -> dict[str, str]:
    """The run's command with more steps, if it had only a few; nobody who types trainer.max_steps needs that advice."""
    record, settings = run.record.fields, run.settings
    if record["steps"] >= FEW_STEPS or settings.trainer.max_steps is not None or settings.resume or settings.rerun:
        return {}
    words = [word for word in shlex.split(as_typed(record["command"])) if key_of(word) not in OF_LENGTH]
    steps = "1 step is" if record["steps"] == 1 else f"{record['steps']} steps are"
    command = shlex.join([*words, *longer_words(record["train_images"], record["batch_size"])])
    few = "few, even from these weights" if settings.model.get("weights") else "too few to learn much"
    return {f"{steps} {few}; train longer": command}


def next_commands(run: Run) -> dict[str, str]:
    """Return the next commands by their purpose. They have this run's own words, so that they can be pasted."""
    folder, data, code = shown_path(run.folder), run.settings.choices.data, run.settings.code
    path = f" model.path={shown_path(Path(code))}" if code else ""
    commands = longer(run)
    commands |= {
        "the accuracy of each class": f"{typed('evaluate')} {folder}{path}",
        "your own images (a file or a folder for IMAGES)": f"{typed('predict')} {folder} IMAGES{path}",
        "the curves, in your browser": typed("tensorboard"),
    }
    if not run.settings.data.get("path"):  # the data set's name is all there is to say of it
        other = "mnist_cnn" if run.settings.choices.model == "flatnet" else "flatnet"
        words = f"model={other}" if data == "mnist" else f"model={other} data={data}"
        commands["another model, to compare"] = f"{typed('train')} {words}"
    return commands
