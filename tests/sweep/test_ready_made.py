"""Tests what each sweep of conf/sweep/ runs, and that its jobs are known before it starts."""

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

from dlintro.data import folder
from dlintro.settings.conf import CONF
from dlintro.sweep.plan import make_jobs
from dlintro.sweep.preflight import impossible
from tests.conftest import composed

SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))


def combinations(name: str) -> list[list[str]]:
    content: dict[str, Any] = yaml.safe_load((CONF / "sweep" / f"{name}.yaml").read_text())
    params = content["hydra"]["sweeper"]["params"]
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return [
        [f"sweep={name}", *words]
        for words in product(*([f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()] for o in parsed))
    ]


@pytest.mark.parametrize("name", SWEEPS)
def test_every_combination_is_legal_has_three_seeds_and_a_name_of_its_own(name: str) -> None:
    words = combinations(name)
    some = words[:: max(1, len(words) // 12)]
    for overrides in some:
        composed(*overrides)
    jobs = make_jobs([(overrides, composed(*overrides)) for overrides in some])
    assert len({job.name for job in jobs}) == len(some)
    seeds = Counter(word for overrides in words for word in overrides if word.startswith("seed="))
    assert len(seeds) == 3 and len(set(seeds.values())) == 1


def test_batch_sizes_reach_from_8_to_4096_under_all_rules_and_times_are_taken_one_job_at_a_time() -> None:
    words = combinations("batch_size")
    sizes = {int(word.split("=")[1]) for overrides in words for word in overrides if word.startswith("data.batch_size")}
    assert sizes == {2**k for k in range(3, 13)} and len(words) == 10 * 3 * 3
    for name in ("batch_size", "accelerators", "batch_size_accelerators"):
        assert composed(*combinations(name)[0]).sweep.n_jobs == 1


def test_jobs_come_seed_by_seed_so_that_settings_that_are_compared_run_side_by_side() -> None:
    words = [[f"data.batch_size={size}", f"seed={seed}"] for size in (32, 64) for seed in (0, 1)]
    jobs = make_jobs([(overrides, composed("model=flatnet", *overrides)) for overrides in words])
    assert [job.name.rsplit("-", 1)[0] for job in jobs] == [
        f"batch_size_{size}-seed_{seed}" for seed in (0, 1) for size in (32, 64)
    ]
    swapped = [list(reversed(overrides)) for overrides in words]  # typed in another order
    others = make_jobs([(overrides, composed("model=flatnet", *overrides)) for overrides in swapped])
    assert {job.name for job in others} == {job.name for job in jobs}
    again = make_jobs([(overrides, composed("model=flatnet", *overrides)) for overrides in [*words, words[0]]])
    assert [job.name for job in again] == [job.name for job in jobs]  # the same jobs twice count once


HOW_RUN = ("threads=2", "sweep.n_jobs=2", "target.value=0.9", "checkpoint.every_steps=5", "trainer.log_every_n_steps=9")
WHAT_RUN = ("optim.lr=0.1", "sweep.budget=steps", "trainer.eval_images=9", "data.batch_size=9")


@pytest.mark.parametrize(("key", "same"), [*((key, True) for key in HOW_RUN), *((key, False) for key in WHAT_RUN)])
def test_a_job_keeps_its_name_where_only_how_it_runs_changes(key: str, same: bool) -> None:
    names = [make_jobs([(["seed=0"], composed("model=flatnet", *more))])[0].name for more in ((), (key,))]
    assert (names[0] == names[1]) == same


def test_keys_of_speed_alone_make_jobs_where_they_are_what_is_swept() -> None:
    words = [["threads=1"], ["threads=2"]]
    jobs = make_jobs([(overrides, composed("model=flatnet", *overrides)) for overrides in words])
    assert [job.name.rsplit("-", 1)[0] for job in jobs] == ["threads_1", "threads_2"]


def test_a_network_that_cannot_be_made_without_memory_is_left_to_its_job() -> None:
    settings = composed("model=torchvision", "model.name=regnet_y_400mf", "data=cifar10")
    assert impossible(settings, {}) is None
    settings = composed("model=vgg16", "data=synthetic", "data.shape=[1,8,8]")
    assert "VGG16 needs images of" in (impossible(settings, {}) or "")


def test_a_users_folder_is_looked_at_before_its_jobs_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cat", "dog", "eel"):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                Image.new("L", (8, 8), number).save(tmp_path / split / name / f"{number}.png")
    looks: list[Path] = []
    monkeypatch.setattr(
        folder, "read_header", lambda path, content, look=folder.read_header: looks.append(path) or look(path, content)
    )
    sets: dict[str, Any] = {}
    for loss, said in (("cross_entropy", None), ("bce", "optim.loss=bce needs two classes")):
        words = ("data=image_folder", f"data.path={tmp_path}", "model=flatnet", f"optim.loss={loss}")
        found = impossible(composed(*words), sets)
        assert found is None if said is None else said in (found or "")
    assert len(looks) == 12
