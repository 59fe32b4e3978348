"""`scripts/train --help`: common arguments, the options of each group, and every key."""

import shutil
import textwrap
from collections.abc import Iterable

from dlintro.settings.conf import default_options, defaults, options
from dlintro.settings.key import Key
from dlintro.settings.keys import GROUPS, TABLE
from dlintro.settings.limits import brief
from dlintro.text import typed

EXAMPLES = {
    "model=flatnet": "another model",
    "optim.lr=0.01": "another learning rate",
    "trainer.max_epochs=5": "train longer",
    "data=image_folder data.path=DIR": "your own images, in class folders",
    "model=file model.path=FILE.py": "your own network",
    "experiment=mnist_99": "a ready-made experiment",
    "-m model=flatnet,mnist_cnn 'seed=range(3)'": "a sweep: every combination",
    "sweep=batch_size": "a ready-made sweep",
    "resume=RUN": "continue a run or a sweep; RUN is its folder, its name or last",
    "rerun=RUN": "repeat a run in a new folder",
    "'model.hidden=[512,512]'": "a list, in quotes",
    "--cfg job": "only print the configuration",
    "--config-dir DIR": "add config files of your own",
    "--version": "print the version",
}
TITLES = {
    "": "The whole run",
    "model": "The model",
    "data": "The images",
    "optim": "The optimizer and the loss",
    "trainer": "The training",
    "accelerator": "The device",
    "checkpoint": "Checkpoints, besides the one after each epoch",
    "target": "The target of a comparison",
    "sweep": "A sweep",
}
WIDEST = 120
NO_BREAK = "\u00a0"


def print_help() -> None:
    width = min(WIDEST, shutil.get_terminal_size().columns - 1)
    print(f"{typed('train')} [GROUP=OPTION] [KEY=VALUE] ...\n")
    print("Trains an image classifier; without arguments, the MNIST CNN on MNIST.\n\nCommon arguments:")
    print_columns(EXAMPLES.items(), width)
    print("\nGroups and their options:")
    chosen = default_options()
    for group in GROUPS:
        line = f"  {group}={' | '.join(options(group))} (default{NO_BREAK}{chosen[group] or 'none'})"
        print(textwrap.fill(line, width, subsequent_indent="      ").replace(NO_BREAK, " "))
    found = defaults()
    for place, title in TITLES.items():
        print(f"\n{title}:")
        keys = [key for key in TABLE.values() if key.name.rpartition(".")[0] == place]
        print_columns([(f"{key.name}={brief(found[key.name])}", described(key)) for key in keys], width)


def described(key: Key) -> str:
    only = f" Only for {key.owners()}." if key.only else ""
    return f"{key.meaning[0].upper()}{key.meaning[1:]}. Use {key.legal()}.{only}"


def print_columns(rows: Iterable[tuple[str, str]], width: int) -> None:
    """Words on the left, what they mean on the right, wrapped to `width` characters."""
    rows = list(rows)
    left = max(len(words) for words, _ in rows) + 4
    for words, meaning in rows:
        print(textwrap.fill(meaning, width, initial_indent=f"  {words:{left - 2}}", subsequent_indent=" " * left))
