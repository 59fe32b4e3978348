"""Tests that a sweep or a repeated run refuses changed images or code, or says what differs."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlintro.sweep.plan import make_jobs, note_images, write_plan
from dlintro.sweep.preflight import other_images
from tests.conftest import SMALL, composed

Command = Callable[..., CompletedProcess[str]]
WORDS = ("data=image_folder", "data.batch_size=16", "model=flatnet", "accelerator=cpu", "threads=1")
SWEEP = ("-m", *WORDS, "data.path=set", "trainer.max_epochs=1", "sweep.name=ours")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for split, num in (("train", 10), ("test", 3)):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for n in range(num):
                noise = np.random.default_rng([label, n, num]).integers(256, size=(8, 8), dtype=np.uint8)
                Image.fromarray(noise).save(tmp_path / "set" / split / name / f"{n}.bmp")
    return tmp_path / "set"


def exchange(one: Path, other: Path) -> None:
    """Change what the images show, under their old names and with the same sizes."""
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_goes_on_with_the_images_that_it_began_with(command: Command, images: Path, tmp_path: Path) -> None:
    said = command(*SWEEP, "seed=0,1")
    assert said.returncode == 0, said.stderr
    sweep = tmp_path / "outputs" / "sweeps" / "ours"
    plan = json.loads((sweep / "sweep.json").read_text())
    records = [json.loads(path.read_text()) for path in sweep.glob("*/record.json")]
    assert {record["images_fingerprint"] for record in records} == {plan["base"]["contents of data.path"]["set"]}
    exchange(images / "train" / "cat" / "0.bmp", images / "train" / "dog" / "0.bmp")
    before = (sweep / "sweep.json").read_bytes()
    said = command(*SWEEP, "seed=0,1,2")
    assert said.returncode == 2
    assert "the images are not those that the sweep ours began with (0 added, 0 gone, 2 changed)" in said.stderr
    assert "type sweep.name=NEW" in said.stderr.splitlines()[-1]
    assert (sweep / "sweep.json").read_bytes() == before and len(list(sweep.glob("*/record.json"))) == 2
    exchange(images / "train" / "cat" / "0.bmp", images / "train" / "dog" / "0.bmp")
    said = command(*SWEEP, "seed=0,1,2")
    assert said.returncode == 0 and "3 jobs, 2 of them done before" in said.stdout


def test_a_job_whose_images_changed_while_the_sweep_ran_fails(run: Callable[..., Path], images: Path) -> None:
    from dlintro.errors import UsageError
    from dlintro.run.parts import prepare

    settings = composed(*WORDS, f"data.path={images}")
    found = prepare(settings, images.parent / "job").inputs.images
    assert prepare(settings, images.parent / "job", images=found).inputs.images == found
    exchange(images / "train" / "cat" / "0.bmp", images / "train" / "dog" / "0.bmp")
    with pytest.raises(UsageError, match=r"data\.path=.*/set: the images have changed since the sweep began"):
        prepare(settings, images.parent / "job", images=found)


@pytest.fixture
def sweep(images: Path, tmp_path: Path) -> Path:
    """Write the sweep.json of a sweep over two folders, and the record of a started job."""
    (tmp_path / "sweep").mkdir()
    jobs = planned(tmp_path / "sweep", images)
    (tmp_path / "sweep" / jobs[0].name).mkdir()
    record: dict[str, Any] = {"status": "ok", "data": "image_folder", "images_fingerprint": None}
    (tmp_path / "sweep" / jobs[0].name / "record.json").write_text(json.dumps(record))
    return tmp_path / "sweep"


def planned(folder: Path, images: Path, *more: str) -> list[Any]:
    words = [["data=image_folder", f"data.path={images}", f"seed={seed}", *more] for seed in (0, 1)]
    return write_plan(folder, make_jobs([(w, composed("model=flatnet", *w)) for w in words]), ["seed=0,1"], [])


def test_a_sweep_on_other_images_does_not_go_on(sweep: Path, images: Path) -> None:
    from dlintro.data.folder import ImageFolder
    from dlintro.run.inputs import write_images

    before, (record,) = ImageFolder(images).facts, sweep.glob("*/record.json")
    note_images(sweep, {str(images): before.fingerprint})
    assert other_images(sweep, {str(images): before}) is None
    exchange(images / "train" / "cat" / "0.bmp", images / "train" / "dog" / "0.bmp")
    facts = ImageFolder(images).facts
    assert "(it is not known how many" in (other_images(sweep, {str(images): facts}) or "")
    record.write_text(json.dumps({"status": "ok", "images_fingerprint": before.fingerprint}))
    write_images(record.parent, before.images)
    said = other_images(sweep, {str(images): facts}) or ""
    assert "not those that the sweep sweep began with (0 added, 0 gone, 2 changed); type sweep.name=NEW" in said


def test_a_sweep_of_an_earlier_version_does_not_go_on(sweep: Path, images: Path) -> None:
    from dlintro.data.folder import ImageFolder

    facts, (record,) = ImageFolder(images).facts, sweep.glob("*/record.json")
    assert other_images(sweep, {str(images): facts}) is None, "its jobs never read an image"
    record.write_text(json.dumps({"status": "ok", "data": "image_folder"}))
    said = other_images(sweep, {str(images): facts}) or ""
    assert "an earlier version ran its jobs" in said and "sweep.name=NEW" in said
    record.write_text(json.dumps({"status": "ok", "data": "mnist"}))
    assert other_images(sweep, {str(images): facts}) is None


def test_what_a_sweep_knows_of_its_images_stays_and_grows(sweep: Path, images: Path) -> None:
    assert note_images(sweep, {"a": "1"}) == {"a": "1"}
    assert note_images(sweep, {"a": "2", "b": "3"}) == {"a": "1", "b": "3"}
    planned(sweep, images)
    assert json.loads((sweep / "sweep.json").read_text())["base"]["contents of data.path"] == {"a": "1", "b": "3"}


def test_each_of_several_files_of_code_is_known_by_its_contents(tmp_path: Path) -> None:
    from dlintro.errors import UsageError

    nets = [tmp_path / name for name in ("a.py", "b.py")]
    for net in nets:
        net.write_text("# a network")
    words = [["model=file", f"model.path={net}", *SMALL] for net in nets]
    jobs = make_jobs([(w, composed(*w)) for w in words])
    write_plan(tmp_path, jobs, ["model.path=a.py,b.py"], [])
    write_plan(tmp_path, jobs, ["model.path=a.py,b.py"], [])
    nets[1].write_text("# another network")
    with pytest.raises(UsageError, match=r"b\.py was edited since"):
        write_plan(tmp_path, jobs, ["model.path=a.py,b.py"], [])


def test_a_rerun_says_and_records_what_differs(
    run: Callable[..., Path], images: Path, no_pictures: None, caplog: pytest.LogCaptureFixture
) -> None:
    words = (*WORDS, f"data.path={images}", "trainer.max_epochs=1")
    first = run(*words)
    same = run(*words, f"rerun={first}")
    records = [json.loads((folder / "record.json").read_text()) for folder in (first, same)]
    assert [record["differences"] for record in records] == [None, None] and "the images" not in caplog.text
    assert records[0]["images_fingerprint"] == records[1]["images_fingerprint"]
    (images / "train" / "cat" / "0.bmp").rename(images / "train" / "cat" / "00.bmp")
    exchange(images / "train" / "cat" / "1.bmp", images / "train" / "dog" / "1.bmp")
    (images / "train" / "cat" / "2.bmp").unlink()
    other = json.loads((run(*words, f"rerun={first}") / "record.json").read_text())
    said = "the images are not those of run0 (1 added, 2 gone, 2 changed), so the results can't be compared"
    assert other["differences"] == [said] and said in caplog.text
    assert other["images_fingerprint"] != records[0]["images_fingerprint"]
