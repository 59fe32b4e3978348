"""Images that are decoded whenever they are used: the same pixels as torchvision's references, and other parts of an
image in each epoch, by (seed, epoch, index) alone."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms.v2 import functional as TF

from dlintro.commands.predict import Seen, classify
from dlintro.data import ImageDataModule
from dlintro.data.augment import random_windows, resized_crop
from dlintro.data.encoded import decode_jpeg, is_plain_jpeg, middle, part
from dlintro.errors import Interrupted, RunError, UsageError
from dlintro.models.vgg16 import VGG16
from dlintro.run.restore import load_run
from tests.data.packs import packed, photograph, photographs
from tests.run.test_resume import stop_at
from tests.run_folder import checkpoint

Run = Callable[..., Path]
LITTLE = ("accelerator=cpu", "threads=1", "model=flatnet", "data.batch_size=4", "trainer.max_epochs=2")


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 256), (230, 701), (100, 80), (33, 1000)])
@pytest.mark.parametrize("size", [224, 96, 31])
def test_evaluation_sees_the_pixels_that_torchvisions_references_see(
    tmp_path: Path, width: int, height: int, size: int
) -> None:
    path = photograph(tmp_path / "a.jpg", width, height)
    image = Image.open(path).convert("RGB")
    wanted = transforms.CenterCrop(size)(transforms.Resize(round(size * 256 / 224))(image))
    assert np.array_equal(np.asarray(middle(decode_jpeg(path.read_bytes(), 3), (size, size))), np.asarray(wanted))


def test_a_strip_of_pixels_never_becomes_a_huge_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    resized, resize = [], Image.Image.resize
    monkeypatch.setattr(
        Image.Image, "resize", lambda image, size, *how: (resized.append(size), resize(image, size, *how))[1]
    )
    for width, height in ((16_000, 1), (2, 9_001)):
        strip = np.zeros((height, width), np.uint8)
        strip[height // 2, width // 2] = 255
        seen = np.asarray(middle(Image.fromarray(strip), (224, 224)))
        assert seen.shape == (224, 224) and seen[112].max() > 200, "the middle is still seen"
    assert max(width * height for width, height in resized) <= 65 * 256 * 256


def test_a_folder_of_imagenets_without_images_is_refused_by_name(tmp_path: Path) -> None:
    root = photographs(tmp_path)
    for path in (root / "val" / "n02").iterdir():
        path.rename(path.with_suffix(".tar"))
    with pytest.raises(UsageError, match=f"no image in the class folder {root}/val/n02 .*; 10 other files skipped"):
        ImageDataModule("imagenet", path=root)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_is_one_line_that_says_what_helps(tmp_path: Path, num_workers: int) -> None:
    root = photographs(tmp_path)
    bad = root / "val" / "n02" / "002.JPEG"
    bad.write_bytes(bad.read_bytes()[:-900])
    data = ImageDataModule("imagenet", path=root, image_size=32, num_workers=num_workers)
    data.setup()
    with pytest.raises(RunError, match=rf"^{bad}: image file is truncated [^\n]*; mend or remove it$"):
        list(data.test_dataloader())


@pytest.mark.parametrize(("height", "width"), [(375, 500), (60, 60), (20, 300), (300, 20), (2, 3)])
def test_random_parts_are_as_likely_as_torchvisions(height: int, width: int) -> None:
    ours_N4 = random_windows(height, width, 2_000, torch.Generator().manual_seed(1))
    image = torch.empty(3, height, width)
    torch.manual_seed(2)
    draw = transforms.RandomResizedCrop.get_params
    theirs_N4 = torch.tensor([draw(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(2_000)])
    for ours_N, theirs_N in zip(ours_N4.T, theirs_N4.T, strict=True):
        assert ks_2samp(ours_N, theirs_N).pvalue > 1e-4
    assert (ours_N4[:, :2] >= 0).all() and (ours_N4[:, 2:] > 0).all()
    assert (ours_N4[:, :2] + ours_N4[:, 2:] <= torch.tensor([height, width])).all()


def test_a_part_is_torchvisions_resized_crop_of_its_window() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8))
    [window] = random_windows(60, 80, 1, torch.Generator().manual_seed(7)).tolist()
    wanted = torchvision.transforms.functional.resized_crop(image, *window, [32, 32])
    assert np.array_equal(np.asarray(part(image, (32, 32), 7)), np.asarray(wanted))


def test_a_resized_crop_of_pixels_in_ram_is_the_same_window_enlarged() -> None:
    coarse = torch.rand(6, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, size=(40, 48), mode="bicubic").clamp(0, 1).mul(255).byte()
    cropped = resized_crop(smooth, torch.Generator().manual_seed(3))
    for image, window, found in zip(
        smooth, random_windows(40, 48, 6, torch.Generator().manual_seed(3)).tolist(), cropped, strict=True
    ):
        wanted = TF.resized_crop(image, *window, [40, 48], antialias=False)
        assert (wanted.int() - found.int()).abs().float().mean() < 1.5
    assert not torch.equal(smooth, cropped)


def test_only_plain_jpegs_are_decoded_by_torchvision(tmp_path: Path) -> None:
    assert is_plain_jpeg(photograph(tmp_path / "a.jpg", 40, 30).read_bytes())
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photograph(tmp_path / "b.jpg", 40, 30, exif=exif.tobytes()).read_bytes()
    png = photograph(tmp_path / "c.png", 40, 30).read_bytes()
    inks = io.BytesIO()
    Image.open(tmp_path / "a.jpg").convert("CMYK").save(inks, "JPEG")
    for content in (turned, png, inks.getvalue(), b"", b"\xff\xd8"):
        assert not is_plain_jpeg(content)
        with pytest.raises(ValueError, match="not a JPEG"):
            decode_jpeg(content, 3)


def batches(data: ImageDataModule, epoch: int) -> list[torch.Tensor]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return [images for images, _ in loader]


def test_parts_are_those_of_seed_epoch_and_index_for_any_workers_and_from_files_or_a_pack(tmp_path: Path) -> None:
    root = photographs(tmp_path / "images")
    folder = packed(tmp_path / "pack", "data=imagenet", f"data.path={root}", "data.image_size=32")

    def made(name: str, path: Path, seed: int = 0, num_workers: int = 0, batch_size: int = 4) -> ImageDataModule:
        data = ImageDataModule(
            name, batch_size, path=path, image_size=32, augment=["resized_crop"], seed=seed, num_workers=num_workers
        )
        data.setup()
        return data

    first = batches(made("packed", folder), 0)
    for other in (made("packed", folder, num_workers=2), made("imagenet", root)):
        assert all(torch.equal(a, b) for a, b in zip(first, batches(other, 0), strict=True))
    assert torch.equal(torch.cat(first), torch.cat(batches(made("packed", folder, batch_size=3), 0)))
    second, elsewhere = batches(made("packed", folder), 1), batches(made("packed", folder, seed=1), 0)
    images = {image.numpy().tobytes() for some in (first, second, elsewhere) for batch in some for image in batch}
    assert len(images) == 3 * 18, "no part is seen twice"
    data = made("packed", folder)
    assert torch.equal(data.test.__getitems__([0])[0], ready_without(folder).test.__getitems__([0])[0])
    plain = ready_without(folder).train.__getitems__(list(range(18)))[0]
    assert torch.equal(data.train_draw(18, 0)[0].sort(0).values, plain.sort(0).values), "no part of them"


def ready_without(folder: Path) -> ImageDataModule:
    data = ImageDataModule("packed", path=folder, image_size=32)
    data.setup()
    return data


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_on_a_pack_that_was_stopped_in_mid_epoch_ends_with_the_same_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    root = photographs(tmp_path / "images")
    folder = packed(tmp_path / "pack", "data=imagenet", f"data.path={root}", "data.image_size=32")
    words = (*LITTLE, "data=packed", f"data.path={folder}", "data.augment=[resized_crop,flip]")
    words += (f"data.num_workers={num_workers}",)
    whole = checkpoint(run(*words))["state_dict"]
    stopped = tmp_path / "stopped"
    with monkeypatch.context() as pressed:
        stop_at(7, pressed)  # the second batch of the second epoch
        with pytest.raises(Interrupted):
            run(*words, folder=stopped)
    resumed = checkpoint(run(*words, f"resume={stopped}", folder=stopped))["state_dict"]
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
    assert whole["network.1.weight"].isfinite().all()


@pytest.mark.slow
@torch.no_grad()
def test_vgg16_on_imagenets_folders_has_the_logits_that_torchvision_has(tmp_path: Path) -> None:
    """The judge is torchvision's ImageFolder, transforms and vgg16, with the same random weights."""
    root = photographs(tmp_path / "images", num=3)
    data = ImageDataModule("imagenet", path=root, val_size=2)
    data.setup()
    ours = VGG16(data.image_shape, 2, head="imagenet", batch_norm=False)
    ours.pixels.set_statistics(data.mean or (), data.std or ())
    theirs = torchvision.models.vgg16(num_classes=2)
    theirs.load_state_dict({name.removeprefix("network."): w for name, w in ours.network.state_dict().items()})
    normalise = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalise]
    images = torchvision.datasets.ImageFolder(str(root / "val"), transforms.Compose(steps))
    by_name = sorted(range(len(images)), key=lambda row: (Path(images.samples[row][0]).name, images.samples[row][1]))
    ours.eval(), theirs.eval()
    batch, labels = data.test.__getitems__(list(range(len(images))))
    assert labels.tolist() == [images.samples[row][1] for row in by_name]
    wanted = theirs(torch.stack([images[row][0] for row in by_name]))
    assert wanted.std() > 1e-3, "the logits tell the images apart"
    assert torch.allclose(ours(batch), wanted, rtol=0, atol=1e-4)


def test_predict_sees_the_pixels_that_the_test_saw(run: Run, tmp_path: Path) -> None:
    """Of a JPEG pack, too, which no longer has the files."""
    files = sorted(photographs(tmp_path / "images").glob("val/*/*.JPEG"), key=lambda file: (file.name, file.parent))
    folder = (f"data.path={tmp_path / 'images'}", "data.image_size=32", "data.augment=[]")
    pack = packed(tmp_path / "pack", "data=imagenet", *folder[:2])
    for name, words in {"files": ("data=imagenet", *folder), "pack": ("data=packed", f"data.path={pack}")}.items():
        model, _ = load_run(run(*LITTLE, *words, folder=tmp_path / name))
        seen: list[Seen] = []
        classify(model, files, seen.append)
        data = ImageDataModule("imagenet", path=tmp_path / "images", image_size=32)
        data.setup()
        assert torch.equal(torch.stack([one.image_CHW for one in seen]), data.test.images_NCHW[:])


def test_the_command_that_unpacks_imagenets_archives_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "it's mine"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"there is no folder .*train; .* unpacks the archives of image-net.org"):
        ImageDataModule("imagenet", path=folder)
    (folder / "ILSVRC2012_img_train.tar").touch()
    with pytest.raises(UsageError) as caught:
        ImageDataModule("imagenet", path=folder)
    command = str(caught.value).partition("This unpacks its archives: ")[2].replace("python", sys.executable)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "The archive ILSVRC2012_devkit_t12.tar.gz is not present" in done.stderr, "torchvision asks for the next one"
