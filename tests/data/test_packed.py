"""Packs: what is read from one is what was packed, whatever happens to the packing, and damage is noticed."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dlintro.commands import pack
from dlintro.data import ImageDataModule, packing, shards
from dlintro.data.folder import ImageFolder
from dlintro.data.packed import Packed
from dlintro.data.synthetic import Synthetic
from dlintro.errors import RunError, UsageError
from tests.conftest import SMALL
from tests.data.packs import packed, photograph, photographs
from tests.run_folder import checkpoint, record

Run = Callable[..., Path]
Command = Callable[..., subprocess.CompletedProcess[str]]
SYNTHETIC = ("data=synthetic", "data.shape=[3,6,5]")


def ready(name: str, **arguments: Any) -> ImageDataModule:
    data = ImageDataModule(name, **arguments)
    data.setup()
    return data


@pytest.mark.parametrize("in_ram", ["auto", True])
def test_a_pack_has_the_pixels_the_split_and_the_statistics_of_its_set(
    tmp_path: Path, in_ram: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "SHARD_BYTES", 20_000)
    whole = ready("synthetic", shape=(3, 6, 5))
    read = ready("packed", path=packed(tmp_path / "pack", *SYNTHETIC), in_ram=in_ram)
    assert isinstance(read.train.images_NCHW, torch.Tensor if in_ram is True else shards.PackedPixels)
    for split in ("train", "val", "test"):
        before, after = getattr(whole, split), getattr(read, split)
        rows = list(range(len(before)))
        assert all(torch.equal(a, b) for a, b in zip(before.__getitems__(rows), after.__getitems__(rows), strict=True))
    assert (read.mean, read.std, read.statistics) == (whole.mean, whole.std, whole.statistics)
    assert (read.class_names, read.image_shape) == (whole.class_names, whole.image_shape)


@pytest.mark.usefixtures("no_pictures")
def test_training_from_a_pack_gives_the_weights_that_ram_gives(run: Run, tmp_path: Path) -> None:
    words = [word for word in SMALL if word.startswith("data.shape")]
    rest = [word for word in SMALL if not word.startswith(("data=", "data.shape"))]
    folder = packed(tmp_path / "pack", "data=synthetic", *words)
    runs = [
        run(*SMALL, "model=flatnet", "data.augment=[flip]"),
        run("data=packed", f"data.path={folder}", *rest, "model=flatnet", "data.augment=[flip]"),
        run("data=packed", f"data.path={folder}", *rest, "model=flatnet", "data.augment=[flip]", "data.num_workers=2"),
    ]
    ram, *others = [checkpoint(folder)["state_dict"] for folder in runs]
    for other in others:
        assert all(torch.equal(ram[name], other[name]) for name in ram)


def test_a_jpeg_pack_keeps_jpeg_files_and_makes_jpegs_of_others(tmp_path: Path) -> None:
    root = photographs(tmp_path / "images", splits=("train", "test"))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph(root / "train" / "n01" / "500.jpg", 80, 60, exif=exif.tobytes())
    photograph(root / "train" / "n02" / "501.png", 50, 60)
    folder = packed(tmp_path / "pack", "data=image_folder", f"data.path={root}", "--jpeg", "data.image_size=32")
    source, read = ImageFolder(root, 32), Packed(folder)
    assert read.facts.images == source.facts.images and read.facts.encoded
    train = ready("packed", path=folder).train.images_NCHW
    contents = {bytes(train.content(row)) for row in range(len(train))}
    val = ready("packed", path=folder).val.images_NCHW
    contents |= {bytes(val.content(row)) for row in range(len(val))}
    kept = {path.read_bytes() for path in (root / "train").rglob("*.JPEG")}
    assert kept < contents and len(contents) == 22
    made = sorted(Image.open(io.BytesIO(content)).size for content in contents - kept)
    assert made == [(50, 60), (60, 80)], "the photograph stands upright"
    assert turned.read_bytes() not in contents


def undisturbed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, bytes]]:
    monkeypatch.setattr(packing, "SHARD_BYTES", 20_000)
    folder = packed(tmp_path / "whole", *SYNTHETIC)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_packing_that_was_stopped_goes_on_and_ends_as_the_same_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, wanted = undisturbed(tmp_path, monkeypatch)
    close, written = packing.ShardWriter.close, []

    def stop(writer: packing.ShardWriter) -> shards.Shard:
        if len(written) == 7:
            raise KeyboardInterrupt
        written.append(writer.paths[0].name)
        return close(writer)

    monkeypatch.setattr(packing.ShardWriter, "close", stop)
    folder = tmp_path / "stopped"
    assert pack.main([*SYNTHETIC, "-o", str(folder)]) == 130
    assert not (folder / "index.json").exists()
    with pytest.raises(UsageError, match="no whole pack is in this folder"):
        Packed(folder)
    assert pack.main(["data=synthetic", "data.shape=[1,6,5]", "-o", str(folder)]) == 2, "this is another set"
    first = list(written)
    monkeypatch.setattr(
        packing.ShardWriter, "close", lambda writer: (written.append(writer.paths[0].name), close(writer))[1]
    )
    packed(folder, *SYNTHETIC)
    assert not set(first) & set(written[7:]), "no shard is written twice"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == wanted


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.8])
def test_a_packing_that_is_killed_goes_on(tmp_path: Path, seconds: float) -> None:
    words = [*SYNTHETIC, "-o", str(tmp_path / "pack")]
    small = "from dlintro.data import packing; packing.SHARD_BYTES = 20_000"
    script = f"{small}; from dlintro.commands.pack import main; main({words})"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "pack" / "progress.json").is_file() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    subprocess.run([sys.executable, "-c", script], check=True)
    assert pack.main(["--check", str(tmp_path / "pack")]) == 0
    read, whole = ready("packed", path=tmp_path / "pack"), ready("synthetic", shape=(3, 6, 5))
    rows = list(range(len(whole.train)))
    assert torch.equal(read.train.__getitems__(rows)[0], whole.train.__getitems__(rows)[0])
    assert (read.mean, read.std) == (whole.mean, whole.std)


@pytest.mark.parametrize("encoding", [[], ["--jpeg"]])
@pytest.mark.parametrize("split", ["train", "test"])
def test_broken_images_are_left_out_or_stop_the_packing(
    encoding: list[str], split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photographs(tmp_path / "images", splits=("train", "test"))
    bad = root / split / "n02" / "002.JPEG"
    bad.write_bytes(bad.read_bytes()[:-900])
    words = ["data=image_folder", f"data.path={root}", "data.image_size=16", "-o", str(tmp_path / "pack"), *encoding]
    assert pack.main(words) == 1
    assert f"{bad}: image file is truncated" in capsys.readouterr().err
    assert pack.main([*words, "data.skip_broken=true"]) == 0
    said = capsys.readouterr().err
    assert f"1 broken image is left out; the first is {bad}: " in said and "skip_broken" not in said
    assert sum(Packed(tmp_path / "pack").facts.sizes.values()) == 39


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_jpeg_that_breaks_off_is_never_packed(tmp_path: Path, split: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = photographs(tmp_path / "images", splits=("train", "test"))
    bad = root / split / "n02" / "002.JPEG"
    bad.write_bytes(bad.read_bytes()[:-900])
    words = ["data=image_folder", f"data.path={root}", "--jpeg", "data.image_size=16", "-o", str(tmp_path / "pack")]
    assert pack.main(words) == 1
    assert f"{bad}: image file is truncated" in capsys.readouterr().err
    assert pack.main([*words, "data.skip_broken=true"]) == 0
    data = ready("packed", path=tmp_path / "pack")
    for images in (data.train, data.val, data.test):
        images.__getitems__(list(range(len(images))))
    assert sum(data.source.facts.sizes.values()) == 39


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "x"], "name the set and the folder"),
        (["data=mnist"], "name the set and the folder"),
        (["data=packed", "data.path=.", "-o", "x"], "packed already"),
        (["data=synthetic", "-o", "x", "--jpeg"], "images of data=synthetic are no files"),
        (["data=mnist", "-o", "x", "--jpeg"], "images of data=mnist are no files; leave --jpeg out"),
        (["data=mnist", "-o", "x", "data.batch_size=3"], "data.batch_size: only training takes this key"),
        (["--check", "x", "data=mnist"], "--check takes a pack's folder and nothing else"),
        (["--check", "nowhere"], "there is no such folder"),
        (["data=synthetic", "-o", "full"], "this folder has other files"),
    ],
)
def test_a_wrong_command_is_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def prepare_data(data: ImageDataModule) -> None:
        assert data.source.facts.name == "synthetic", "nothing is fetched for a wrong command"

    monkeypatch.setattr(ImageDataModule, "prepare_data", prepare_data)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    assert pack.main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_what_a_pack_has_once_and_for_all_cant_be_changed(tmp_path: Path) -> None:
    pixels = packed(tmp_path / "pixels", *SYNTHETIC)
    with pytest.raises(UsageError, match=r"data.image_size=8: the images were packed with 6 x 5; pack the set again"):
        Packed(pixels, image_size=8)
    with pytest.raises(UsageError, match=r"data.val_size=7: the pack has 1000 validation images; pack the set again"):
        Packed(pixels, val_size=7)
    assert Packed(pixels, val_size=1000).facts.sizes == {"train": 9_000, "val": 1_000, "test": 2_000}
    jpegs = packed(tmp_path / "jpegs", "data=imagenet", f"data.path={photographs(tmp_path / 'images')}")
    for key in ("on_device", "in_ram"):
        with pytest.raises(UsageError, match=f"data.{key}=true: the images of data=packed are decoded anew"):
            ImageDataModule("packed", path=jpegs, **{key: True})
    with pytest.raises(UsageError, match="name resized_crop once, and first"):
        ImageDataModule("packed", path=jpegs, augment=["flip", "resized_crop"])
    assert pack.main(["data=synthetic", "-o", str(pixels)]) == 2, "another set is packed there"


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


HOSTILE: dict[str, Callable[[Path], object]] = {
    "not JSON": lambda folder: (folder / "index.json").write_text("{"),
    "a list": lambda folder: (folder / "index.json").write_text("[]"),
    "another entry": lambda folder: change(folder / "index.json", more=1),
    "a deep nest": lambda folder: (folder / "index.json").write_text("[" * 100_000),
    "an unknown encoding": lambda folder: change(folder / "index.json", encoding="pickle"),
    "endless images": lambda folder: change(folder / "index.json", image_shape=[3, 10**9, 10**9]),
    "a side that is no number": lambda folder: change(folder / "index.json", image_shape=[3, "6", 5]),
    "classes that are no texts": lambda folder: change(folder / "index.json", class_names=[1, 2]),
    "an endless name": lambda folder: change(folder / "index.json", class_names=["a" * 10_000, *"bcdefghij"]),
    "one class": lambda folder: change(folder / "index.json", class_names=["a"]),
    "fewer classes than labels": lambda folder: change(folder / "index.json", class_names=["a", "b"]),
    "no spread": lambda folder: change(folder / "index.json", std=[0.0, 0.0, 0.0]),
    "no range of greys": lambda folder: change(folder / "index.json", greys=[5, 5]),
    "greys that are no numbers": lambda folder: change(folder / "index.json", greys=["0", "4095"]),
    "three greys": lambda folder: change(folder / "index.json", greys=[0, 1, 2]),
    "a mean for one channel": lambda folder: change(folder / "index.json", mean=[0.5]),
    "no test split": lambda folder: change(folder / "index.json", splits={"train": [], "val": []}),
    "splits that are a list": lambda folder: change(folder / "index.json", splits=[1, 2, 3]),
    "a shard too many": lambda folder: shard(folder, lambda some: some.append(some[0])),
    "negative images": lambda folder: shard(folder, lambda some: some[0].update(images=-1)),
    "endless bytes": lambda folder: shard(folder, lambda some: some[0].update(bytes=2**60)),
    "another file's name": lambda folder: shard(folder, lambda some: some[0].update(file="/etc/passwd")),
    "a shorter shard": lambda folder: os.truncate(folder / "test-00000.images", 1_000),
    "no shard": lambda folder: (folder / "test-00000.images").unlink(),
    "a pipe for a shard": lambda folder: (
        (folder / "test-00000.images").unlink(),
        os.mkfifo(folder / "test-00000.images"),
    ),
    "shorter rows": lambda folder: os.truncate(folder / "test-00000.rows", 100),
    "other rows": lambda folder: (folder / "test-00000.rows").write_bytes(bytes(2_000 * 20)),
    "names of other images": lambda folder: (folder / "images.json").write_text("{}"),
    "an image outside": lambda folder: rows(folder, "offset", 2**63),
    "an image that ends outside": lambda folder: rows(folder, "offset", 2_000 * 90 - 50),
    "a long image": lambda folder: rows(folder, "length", 91),
    "a wrong label": lambda folder: rows(folder, "label", 10),
}


def shard(folder: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    content = json.loads((folder / "index.json").read_text())
    edit(content["splits"]["test"])
    (folder / "index.json").write_text(json.dumps(content))


def rows(folder: Path, name: str, value: int) -> None:
    """Change an entry of an image, with the right checksum."""
    path = folder / "test-00000.rows"
    table = np.frombuffer(path.read_bytes(), shards.ROW).copy()
    table[5][name] = value
    path.write_bytes(table.tobytes())
    digest = shards.hashlib.sha256(path.read_bytes()).hexdigest()
    shard(folder, lambda some: some[0].update(rows_sha256=digest))


@pytest.fixture(scope="module")
def synthetic_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = packed(tmp_path_factory.mktemp("packs") / "pack", *SYNTHETIC)
    names = json.dumps({"test": {"a.png": "0"}}).encode()
    (folder / "images.json").write_bytes(names)
    change(folder / "index.json", names=shards.hashlib.sha256(names).hexdigest())
    ready("packed", path=folder)
    return folder


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_damaged_or_hostile_pack_is_one_line(kind: str, synthetic_pack: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(synthetic_pack, tmp_path / "pack")
    HOSTILE[kind](folder)
    with pytest.raises((RunError, UsageError)) as error:
        ready("packed", path=folder)
    assert "\n" not in str(error.value) and str(folder) in str(error.value)


def test_another_versions_pack_is_refused(synthetic_pack: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(synthetic_pack, tmp_path / "pack")
    change(folder / "index.json", version=2)
    with pytest.raises(UsageError, match="format 2, but this dlintro reads format 1; pack again"):
        Packed(folder)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_changed_byte_is_noticed_when_its_image_is_read(
    synthetic_pack: Path, tmp_path: Path, num_workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(synthetic_pack, tmp_path / "pack")
    path = folder / "test-00000.images"
    content = bytearray(path.read_bytes())
    content[90 * 70 + 3] ^= 1
    path.write_bytes(content)
    data = ready("packed", path=folder, num_workers=num_workers)
    with pytest.raises(RunError, match=r"^[^\n]*test-00000.images: damaged \(image 70 has a wrong CRC-32\)[^\n]*$"):
        list(data.test_dataloader())
    assert pack.main(["--check", str(folder)]) == 1
    assert "test-00000.images: damaged (it has a wrong SHA-256)" in capsys.readouterr().err
    assert pack.main(["--check", str(synthetic_pack)]) == 0
    path.write_bytes((synthetic_pack / path.name).read_bytes())
    (folder / "images.json").write_text("{}")
    assert pack.main(["--check", str(folder)]) == 1
    assert "images.json: damaged (it has a wrong SHA-256" in capsys.readouterr().err


def test_workers_that_are_not_forked_read_a_set_on_disk(synthetic_pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [images.sum() for images, _ in ready("packed", path=synthetic_pack).test_dataloader()]
    monkeypatch.setattr("dlintro.data.module.WORKERS_START", "spawn")
    data = ready("packed", path=synthetic_pack, num_workers=1)
    assert [images.sum() for images, _ in data.test_dataloader()] == wanted


@pytest.mark.slow
def test_memory_stays_flat_however_large_the_set_is(tmp_path: Path, command: Command) -> None:
    """The peak of everything resident in a whole training, mapped files included, grows by less than a tenth of what
    the set grows by."""
    peaks, sizes = [], []
    for num in (1, 16):
        data = ImageDataModule("synthetic", shape=(3, 96, 96), in_ram=False)
        data.source = Synthetic((3, 96, 96), num_train=500 * num, num_test=100)
        data.num_val = 50
        folder = tmp_path / str(num)
        packing.write_pack(folder, "uint8", data.source.facts, data.parts())
        words = ("data=packed", f"data.path={folder}", "data.batch_size=32", "model=flatnet", "model.hidden=[4]")
        done = command(*words, "trainer.max_epochs=1", "threads=1", "accelerator=cpu", f"hydra.run.dir=run{num}")
        assert done.returncode == 0, done.stderr
        peaks.append(record(tmp_path / f"run{num}")["ram_peak_bytes"])
        sizes.append(sum(path.stat().st_size for path in folder.glob("*.images")))
    assert sizes[1] - sizes[0] > 200e6
    assert peaks[1] - peaks[0] < 0.1 * (sizes[1] - sizes[0]), f"{peaks} bytes at the most"
