"""Labels from a CSV file: what is read of it, and the one line that says what is wrong with it."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlintro.data.deal import is_test
from dlintro.data.folder import ImageFolder
from dlintro.data.labels_file import list_labelled
from dlintro.data.sources import make_source
from dlintro.errors import UsageError


def images(root: Path, num: int = 120, name: str = "{:03}.png") -> list[str]:
    """Write images whose grey is their number, and return their names."""
    names = [name.format(n) for n in range(num)]
    for n, each in enumerate(names):
        (root / each).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), n, np.uint8)).save(root / each)
    return names


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def listed(root: Path, labels: Path) -> dict[str, str]:
    """name -> class"""
    found = list_labelled(root, labels)
    return {
        str(path.relative_to(root)): found.class_names[k] for labelled in found.files.values() for path, k in labelled
    }


FORMS = {
    "kaggle": (["id,label"], "{stem},{label}"),
    "no header": ([], "{name},{label}"),
    "any name for the labels": (["filename,breed"], "{name},{label}"),
    "label first": (["Label,File"], "{label},{name}"),
    "more columns": (["image_id,age,label,notes"], '{stem},77,{label},"a, b"'),
    "semicolons": (["file;label"], "{name};{label}"),
    "tabs": (["file\tlabel"], "{name}\t{label}"),
    "spaces and empty lines": (["", "file, label", ""], " {name} , {label} \n"),
    "dot slash": ([], "./{name},{label}"),
    "whole paths": (["path,label"], "{root}/{name},{label}"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["{:03}.png", "more/v1.{:03}.PNG"])
def test_each_image_gets_the_label_of_its_line(tmp_path: Path, form: str, name: str) -> None:
    names = images(tmp_path / "images", 6, name)
    labels = {each: ("cat", "dog")[n % 2] for n, each in enumerate(names)}
    head, line = FORMS[form]
    root = tmp_path / "images"
    lines = [line.format(root=root, name=each, stem=each[:-4], label=label) for each, label in labels.items()]
    assert listed(tmp_path / "images", write(tmp_path / "l.csv", *head, *lines)) == labels
    assert listed(tmp_path / "images", write(tmp_path / "bom.csv", *head, *lines, encoding="utf-8-sig")) == labels


def test_the_pixels_labels_and_parts_are_those_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    names = images(tmp_path / "images")
    (tmp_path / "images" / "notes.txt").touch()
    file = write(tmp_path / "l.csv", "file,label", *(f"{name},{'ab'[n % 2]}" for n, name in enumerate(names[:100])))
    source = make_source("image_folder", path=str(tmp_path / "images"), labels=str(file))
    assert source.facts.class_names == ("a", "b")
    assert (
        "100 images of 2 classes read, 21 other files skipped (without a label 20, .txt 1): a 50, b 50; " in caplog.text
    )
    loaded = source.load(in_ram=True)
    for split, (images_N1HW, labels_N) in loaded.items():
        numbers = images_N1HW[:, 0, 0, 0]
        assert (numbers % 2).tolist() == labels_N.tolist(), split
        if split == "test":
            assert [is_test(names[n]) for n in numbers] == [True] * len(numbers)
    assert {split: len(labels_N) for split, (_, labels_N) in loaded.items()} == source.facts.sizes
    assert sum(source.facts.sizes.values()) == 100 and set(source.facts.sizes) == {"train", "val", "test"}


def test_a_column_split_divides_the_images(tmp_path: Path) -> None:
    names = images(tmp_path / "images", 12)
    parts = ("train", "Valid", "test")
    lines = [f"{name},{'ab'[n % 2]},{parts[n // 2 % 3]}" for n, name in enumerate(names)]
    file = write(tmp_path / "l.csv", "file,label,split", *lines)
    source = ImageFolder(tmp_path / "images", labels=file)
    assert source.facts.sizes == {"train": 4, "val": 4, "test": 4}
    assert [path.stem for path, _ in source.files["val"]] == ["002", "003", "008", "009"]
    write(file, "file,label,split", *(line.replace("Valid", "train").replace("test", "train") for line in lines))
    only_train = list_labelled(tmp_path / "images", file)
    assert list(only_train.files) == ["all"]


def test_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    names = images(tmp_path / "images", 12)
    file = write(tmp_path / "l.csv", *(f"{name},{n}" for n, name in enumerate(names)))
    assert list_labelled(tmp_path / "images", file).class_names == [str(n) for n in range(12)]


def test_other_labels_are_another_set(tmp_path: Path) -> None:
    names = images(tmp_path / "images")
    lines = [f"{name},{'ab'[n % 2]}" for n, name in enumerate(names)]
    file = write(tmp_path / "l.csv", *lines)
    first = ImageFolder(tmp_path / "images", labels=file).facts.fingerprint
    write(file, *reversed(lines))
    assert ImageFolder(tmp_path / "images", labels=file).facts.fingerprint == first, "the order of the lines is nothing"
    write(file, lines[0].replace(",a", ",b"), *lines[1:])
    assert ImageFolder(tmp_path / "images", labels=file).facts.fingerprint != first


WRONG = {
    "there is no such file": None,
    "it is empty": [""],
    r"there is no line of file,label in it": ["file,label"],
    r"line 3: there is no image 9.png in .*/images \(2 of 4 are missing\)": ["0,a", "1,b", "9.png,a", "8,a"],
    r"line 1: there is no image what .*; if this line is a header, name its columns file and label": ["what,x", "0,a"],
    "line 3: 0.png already has a label in line 1": ["0,a", "1,b", "0.png,a"],
    "all images have the label a; there must be two": ["0,a", "1,a"],
    "line 2: 1 has no label": ["0,a", "1, "],
    r"none of its columns \(id, age, breed\) is called label": ["id,age,breed", "0,1,a"],
    r"its first line has 3 columns \(0, a, x\); name those you mean": ["0,a,x", "1,b,y"],
    "line 3 has 1 columns, but line 1 has 2": ["file,label", "0,a", "1"],
    "line 2: 'holdout' is no part of a set; use train, val, test": ["file,label,split", "0,a,holdout"],
    "no image has the split train": ["file,label,split", "0,a,test", "1,b,test"],
    "no image of the class b with the split test": ["file,label,split", "0,a,train", "1,b,train", "2,a,test"],
    r"line 1: both may be both.jpg and both.png; add the ending": ["both,a", "0,b"],
    r"line 2: photo.heif2 is no image by its ending": ["0,a", "photo.heif2,b"],
    r"line 2: ../beside.png is hidden, or is not in and below data.path": ["0,a", "../beside.png,b"],
    "line 3 has 3 columns, but line 1 has 2; a name that contains": ["file,label", "0,dog", "1,tabby, cat"],
    r"it can't be read as a CSV file in UTF-8 \(": ['0,"a'],
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_file_is_one_line_that_names_what_is_wrong(tmp_path: Path, message: str) -> None:
    images(tmp_path / "images", 4, "{}.png")
    for name in ("both.jpg", "both.png"):
        Image.new("L", (4, 4)).save(tmp_path / "images" / name)
    (tmp_path / "images" / "photo.heif2").touch()
    (tmp_path / "beside.png").touch()
    lines, file = WRONG[message], tmp_path / "l.csv"
    if lines is not None:
        write(file, *lines)
    with pytest.raises(UsageError, match=f"data.labels={file}: {message}") as error:
        ImageFolder(tmp_path / "images", labels=file)
    assert "\n" not in str(error.value)


def test_a_labels_file_beside_the_images_and_a_folder_in_its_place_are_said(tmp_path: Path) -> None:
    images(tmp_path / "images", 4, "{}.png")
    write(tmp_path / "images" / "l.csv", "0,a", "1,b")
    with pytest.raises(UsageError, match=r"no such file; did you mean data\.labels=.*/images/l\.csv\?"):
        ImageFolder(tmp_path / "images", labels=tmp_path / "l.csv")
    with pytest.raises(UsageError, match="this is a folder; name the CSV file"):
        ImageFolder(tmp_path / "images", labels=tmp_path / "images")


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    images(tmp_path / "images", 4, "{}.png")
    (tmp_path / "l.csv").write_bytes(b"0,\xff\xfe\n")
    with pytest.raises(UsageError, match=r"l\.csv: it can't be read as a CSV file in UTF-8"):
        ImageFolder(tmp_path / "images", labels=tmp_path / "l.csv")


def test_a_class_without_a_test_image_is_refused_with_the_column_that_helps(tmp_path: Path) -> None:
    names = [name for name in images(tmp_path / "images", 30) if not is_test(name)]
    file = write(tmp_path / "l.csv", *(f"{name},{'ab'[n % 2]}" for n, name in enumerate(names)))
    with pytest.raises(UsageError, match=r"none is in the class a and 1 more; give .*l\.csv a column split"):
        ImageFolder(tmp_path / "images", labels=file)
