"""Reads the labels of a folder's images from a CSV file: a line of file,label for each image.

As Kaggle's train.csv, it may have a header, and its names may lack their ending. A column `split` is optional.
"""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dlintro.data.layout import (
    SPLIT_OF,
    SPLITS,
    Labelled,
    Listing,
    ending,
    is_image,
    refuse_empty_class,
    refuse_no_folder,
    visible_files,
    within,
)
from dlintro.errors import UsageError, one_line
from dlintro.text import printable

FILE_COLUMNS = (
    "file", "filename", "file_name", "filepath", "file_path", "path", "image", "image_id", "image_name", "image_path",
    "img", "id", "name",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "category", "target")
SPLIT_COLUMN = "split"
DELIMITERS = (",", ";", "\t")
NO_LABEL = "without a label"


@dataclass(frozen=True)
class Columns:
    """The places of the columns in a row. `header`: the first row names them."""

    file: int
    label: int
    split: int | None
    header: bool


@dataclass(frozen=True)
class Row:
    line: int
    path: Path
    label: str
    split: str


def list_labelled(root: Path, labels: Path) -> Listing:
    """List the images in and below `root` that `labels` has a label for. The labels are the classes, in the order of
    their names, or of their numbers if all are numbers. Raises UsageError for a file that doesn't say this."""
    refuse_no_folder(root)
    found = list(visible_files(root, refuse_links=True))
    rows = read_rows(root, labels, [path for path in found if is_image(path)])
    names = {row.label for row in rows}
    if len(names) < 2:
        raise wrong(labels, f"all images have the label {printable(next(iter(names)))}; there must be two at least")
    class_names = sorted(names, key=int) if all(name.isdecimal() for name in names) else sorted(names)
    number = {name: label for label, name in enumerate(class_names)}
    files: dict[str, list[Labelled]] = {}
    for split in ("all", *SPLITS):
        if some := sorted((row.path, number[row.label]) for row in rows if row.split == split):
            files[split] = some
    if "all" not in files and "train" not in files:
        raise wrong(labels, f"no image has the {SPLIT_COLUMN} train")
    if files.keys() == {"train"}:
        files = {"all": files["train"]}
    taken = {row.path for row in rows}
    skipped = Counter(NO_LABEL if is_image(path) else ending(path) for path in found if path not in taken)
    listing = Listing(class_names, files, dict.fromkeys(files, root), skipped, labels)
    refuse_empty_class(listing)
    return listing


def read_rows(root: Path, labels: Path, images: Sequence[Path]) -> list[Row]:
    """Return the rows in their order. Each names another one of the images."""
    if not labels.exists() and (inside := root / labels.name).is_file():
        raise wrong(labels, f"there is no such file; did you mean data.labels={printable(inside)}?")
    (first_line, first), *others = lines = read_lines(labels)
    columns = columns_of(labels, first)
    named = Named(root, images)
    rows: dict[Path, Row] = {}
    missing: list[tuple[int, str]] = []
    for line, cells in others if columns.header else lines:
        if len(cells) < len(first) or any(cells[len(first) :]):
            raise wrong(
                labels,
                f"line {line} has {len(cells)} columns, but line {first_line} has {len(first)}; a name that contains "
                f"the delimiter needs quotation marks",
            )
        name, label = cells[columns.file], cells[columns.label]
        if not label:
            raise wrong(labels, f"line {line}: {printable(name)} has no label")
        found = named.find(name)
        if len(found) > 1:
            both = " and ".join(sorted(path.name for path in found))
            raise wrong(labels, f"line {line}: {printable(name)} may be {printable(both)}; add the ending")
        if not found:
            missing.append((line, name))
        elif found[0] in rows:
            raise wrong(labels, f"line {line}: {printable(name)} already has a label in line {rows[found[0]].line}")
        else:
            split = "all" if columns.split is None else split_named(labels, line, cells[columns.split])
            rows[found[0]] = Row(line, found[0], label, split)
    if missing:
        refuse_missing(root, labels, missing, len(rows))
    if not rows:
        raise wrong(labels, "there is no line of file,label in it")
    return list(rows.values())


class Named:
    """Finds images by their whole name or that within `root`, with or without its ending."""

    def __init__(self, root: Path, images: Sequence[Path]) -> None:
        self.root = root
        self.by_name = {within(root, path): path for path in images}
        self.by_stem = defaultdict(list)
        for name, path in self.by_name.items():
            self.by_stem[name.removesuffix(path.suffix)].append(path)

    def find(self, name: str) -> list[Path]:
        inside = within(self.root, os.path.normpath(name))
        return [self.by_name[inside]] if inside in self.by_name else self.by_stem[inside]


def split_named(labels: Path, line: int, word: str) -> str:
    if word.casefold() not in SPLIT_OF:
        raise wrong(labels, f"line {line}: {printable(word)!r} is no part of a set; use {', '.join(SPLITS)}")
    return SPLIT_OF[word.casefold()]


def read_lines(labels: Path) -> list[tuple[int, list[str]]]:
    """Return the number and the cells of each line that isn't empty."""
    if not labels.is_file():
        raise wrong(labels, "this is a folder; name the CSV file" if labels.is_dir() else "there is no such file")
    try:
        with labels.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(DELIMITERS, key=first.count), strict=True)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(cells)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise wrong(labels, f"it can't be read as a CSV file in UTF-8 ({one_line(error)})") from None
    if not lines:
        raise wrong(labels, "it is empty")
    return lines


def columns_of(labels: Path, first: Sequence[str]) -> Columns:
    """Find the columns. The first line is a header if it names a column of files. If there is but one more column, the
    labels are there, whatever its name."""
    names = [cell.casefold() for cell in first]
    file = next((names.index(name) for name in FILE_COLUMNS if name in names), None)
    if file is None:
        if len(first) != 2:
            told = f"{len(first)} columns ({printable(', '.join(first))})"
            raise wrong(labels, f"its first line has {told}; name those you mean file and label there")
        return Columns(0, 1, None, header=False)
    split = names.index(SPLIT_COLUMN) if SPLIT_COLUMN in names else None
    others = [place for place in range(len(names)) if place not in (file, split)]
    named = [place for name in LABEL_COLUMNS for place in others if names[place] == name]
    if not named and len(others) != 1:
        raise wrong(labels, f"none of its columns ({printable(', '.join(first))}) is called label; rename yours")
    return Columns(file, (named or others)[0], split, header=True)


def refuse_missing(root: Path, labels: Path, missing: Sequence[tuple[int, str]], num_found: int) -> None:
    line, name = missing[0]
    why = f"there is no image {printable(name)} in {printable(root)}"
    if os.path.isfile(root / name):  # noqa: PTH113  # Path.is_file raises where a name is too long
        beyond = "is hidden, or is not in and below data.path"
        why = f"{printable(name)} {beyond if is_image(Path(name)) else 'is no image by its ending'}"
    if line == 1 and num_found:
        why += "; if this line is a header, name its columns file and label"
    raise wrong(labels, f"line {line}: {why} ({len(missing)} of {len(missing) + num_found} are missing)")


def wrong(labels: Path, what: str) -> UsageError:
    return UsageError(f"data.labels={printable(labels)}: {what}")
