"""What TensorBoard's own server says of a sweep in its HParams tab."""

import json
import math
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.conftest import TINY, records, sweep_folder


@pytest.fixture
def tensorboard() -> Iterator[Callable[[Path], str]]:
    """Starts TensorBoard over a folder; its address."""
    servers = []

    def serve(folder: Path) -> str:
        words = [
            sys.executable,
            "-m",
            "tensorboard.main",
            "--logdir",
            str(folder),
            "--port",
            "0",
            "--load_fast",
            "false",
        ]
        server = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        servers.append(server)
        assert server.stderr is not None
        for line in server.stderr:
            if address := re.search(r"http://localhost:\d+", line):
                return address[0]
        raise AssertionError("TensorBoard said no address")

    yield serve
    for server in servers:
        server.kill()
        server.wait()


def ask(address: str, what: str, **question: Any) -> Any:
    request = urllib.request.Request(
        f"{address}/data/plugin/hparams/{what}",
        json.dumps(question).encode(),
        {"Content-Type": "application/json"},
    )
    return json.loads(urllib.request.urlopen(request, timeout=60).read())


def test_the_tab_lists_exactly_the_ok_jobs_with_the_metrics_of_their_records(
    command: Callable[..., subprocess.CompletedProcess[str]],
    tensorboard: Callable[[Path], str],
    tmp_path: Path,
) -> None:
    done = command("-m", *TINY, "model=flatnet", "optim.name=adam,sgd", "optim.lr=0.01,100", "optim.loss=mse",
                   "optim.schedule=none", "model.hidden=[64,64]", "trainer.max_epochs=4", "seed=0,1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(tmp_path)
    ok = {name: record for name, record in found.items() if record["status"] == "ok"}
    assert {record["status"] for record in found.values()} == {"ok", "diverged"} and len(ok) >= 4

    address = tensorboard(sweep_folder(tmp_path))
    experiment = ask(address, "experiment", experimentName="")
    names = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    metrics = [{"metric": info["name"]} for info in experiment["metricInfos"]]
    answer = ask(
        address,
        "session_groups",
        experimentName="",
        allowedStatuses=["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_FAILURE", "STATUS_RUNNING"],
        colParams=[*names, *metrics],
        startIndex=0,
        sliceSize=1000,
    )
    groups = {group["sessions"][0]["name"].split("/")[0]: group for group in answer["sessionGroups"]}
    assert set(groups) == set(ok) and answer["totalSize"] == len(ok)
    for name, group in groups.items():
        assert set(group["hparams"]) == {info["name"] for info in experiment["hparamInfos"]}
        assert group["hparams"]["seed"] == ok[name]["seed"] and group["hparams"]["optimizer"] == ok[name]["optimizer"]
        values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        for tag in ("best/val/acc", "best/test/acc", "best/test/loss"):
            assert math.isfinite(values[tag]) and values[tag] == pytest.approx(ok[name][tag], rel=1e-6), tag
        assert all(math.isfinite(value) for value in values.values())
        assert {"final/fit_seconds", "final/images_per_second"} <= set(values)
