"""What the HParams tab says of a sweep, asked from the server that scripts/tensorboard starts."""

import json
import math
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from tests.sweep.conftest import TINY, records, sweep_folder

SHOWN = 5  # columns of each kind that TensorBoard shows at first


@pytest.fixture
def tensorboard() -> Iterator[Callable[[Path], str]]:
    """Starts scripts/tensorboard over a folder; its address."""
    servers = []
    code = "import sys; from dlintro.commands.tensorboard import main; sys.exit(main())"

    def serve(folder: Path) -> str:
        server = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stdout is not None
        for line in server.stdout:
            if line.startswith("http://"):
                return line.partition("/?")[0]
        raise AssertionError("it said no address")

    yield serve
    for server in servers:
        server.terminate()
        server.communicate()


def ask(address: str, what: str, **question: Any) -> Any:
    request = urllib.request.Request(
        f"{address}/data/plugin/hparams/{what}",
        json.dumps(question).encode(),
        {"Content-Type": "application/json"},
    )
    return json.loads(urllib.request.urlopen(request, timeout=60).read())


def experiment_of(address: str, num: int) -> Any:
    """The columns, once all runs are loaded."""
    for _ in range(300):
        if len(json.loads(urllib.request.urlopen(f"{address}/data/runs", timeout=60).read())) == num:
            break
        time.sleep(0.2)
    return ask(address, "experiment", experimentName="")


def test_the_tab_opens_on_what_differs_and_has_a_row_for_every_job(
    command: Callable[..., subprocess.CompletedProcess[str]],
    tensorboard: Callable[[Path], str],
    tmp_path: Path,
) -> None:
    done = command("-m", *TINY, "model=flatnet", "optim.name=adam,sgd", "optim.lr=0.01,100", "optim.loss=mse",
                   "optim.schedule=none", "model.hidden=[64,64]", "trainer.max_epochs=4",
                   "model.dropout=0,0.1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(tmp_path)
    assert {record["status"] for record in found.values()} == {"ok", "diverged"}
    assert not list(sweep_folder(tmp_path).rglob("by_images")), "all have one batch size"

    address = tensorboard(sweep_folder(tmp_path))
    experiment = experiment_of(address, len(found))
    settings = [info["name"] for info in experiment["hparamInfos"]]
    assert settings == ["lr", "optimizer", "dropout", "status"] and len(settings) < SHOWN
    metrics = [info["name"] for info in experiment["metricInfos"]]
    first = [name["tag"] for name in metrics[:SHOWN]]
    assert first == ["whole_run/best/val/acc", "whole_run/best/test/acc", "val/acc", "val/loss", "train/loss"]
    answer = ask(
        address,
        "session_groups",
        experimentName="",
        allowedStatuses=["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_FAILURE", "STATUS_RUNNING"],
        colParams=[*({"hparam": name} for name in settings), *({"metric": name} for name in metrics)],
        startIndex=0,
        sliceSize=1000,
    )
    groups = {group["sessions"][0]["name"]: group for group in answer["sessionGroups"]}
    assert set(groups) == set(found) and answer["totalSize"] == len(found)
    for name, group in groups.items():
        record, cells = found[name], group["hparams"]
        assert all(cells[key] == record[key] for key in ("seed", "lr", "optimizer", "status", "batch_size"))
        ok = record["status"] == "ok"
        assert group["sessions"][0]["status"] == ("STATUS_SUCCESS" if ok else "STATUS_FAILURE")
        values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        for tag in ("best/val/acc", "best/test/acc", "best/test/loss", "fit_seconds", "train/images_per_second"):
            value = values.get(f"whole_run/{tag}")
            assert value == (None if record[tag] is None else pytest.approx(record[tag], rel=1e-6)), tag
        assert not ok or {"val/acc", "test/acc", "whole_run/best/test/acc"} <= set(values)
        assert all(math.isfinite(value) for tag, value in values.items() if ok or tag.startswith("whole_run/"))


def test_a_sweep_over_batch_sizes_has_its_curves_against_images_seen_too(
    command: Callable[..., subprocess.CompletedProcess[str]], tensorboard: Callable[[Path], str], tmp_path: Path
) -> None:
    assert command("-m", *TINY, "data.batch_size=20,40").returncode == 0
    jobs = sorted(records(tmp_path))
    assert all(list((sweep_folder(tmp_path) / job / "by_images").glob("events*")) for job in jobs)
    address = tensorboard(sweep_folder(tmp_path))
    experiment = experiment_of(address, 2 * len(jobs))
    assert [info["name"] for info in experiment["hparamInfos"]] == ["batch_size"]
    url = f"{address}/data/plugin/scalars/scalars?tag=by_images/val/acc&run={jobs[0]}/by_images"
    assert [step for _, step, _ in json.loads(urllib.request.urlopen(url, timeout=60).read())] == [200]


def test_runs_of_an_earlier_version_choose_no_columns(tensorboard: Callable[[Path], str], tmp_path: Path) -> None:
    """Theirs hold a list of columns, all of them, of which TensorBoard would take one at random."""
    for seed in (0, 1):
        with SummaryWriter(str(tmp_path / f"seed_{seed}")) as writer:
            writer.add_scalar("best/val/acc", 0.5, 1)
            for summary in hparams({"accelerator": "cpu", "seed": seed}, {"best/val/acc": 0.5}):
                writer._get_file_writer().add_summary(summary)
    experiment = experiment_of(tensorboard(tmp_path), 2)
    assert [info["name"] for info in experiment["hparamInfos"]] == ["seed"]
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == ["best/val/acc"]
