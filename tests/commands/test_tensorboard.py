"""scripts/tensorboard: what it shows, the address that it prints, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from torch.utils.tensorboard import SummaryWriter

from dlintro.commands import tensorboard
from dlintro.commands.tensorboard import announce, filters, has_browser, linked
from dlintro.errors import RunError, UsageError

CURVES = "^(train/loss_step|train/acc_step|val/acc|val/loss)$"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir()
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def add_run(folder: Path, seconds: float, by_images: bool = False) -> Path:
    """A run whose last event is of that time."""
    for place in [folder, *([folder / "by_images"] if by_images else [])]:
        with SummaryWriter(str(place)) as writer:
            writer.add_scalar("val/acc", 0.5, 1)
        for path in place.glob("events*"):
            os.utime(path, (seconds, seconds))
    (folder / "record.json").write_text("{}")
    return folder


def add_sweep(folder: Path, seconds: float, by_images: bool = False) -> Path:
    for place, name in enumerate(("lr_0.1-seed_0", "lr_0.1-seed_1")):
        add_run(folder / name, seconds + place, by_images)
    (folder / "sweep.json").write_text("{}")
    return folder


def shown(*names: Path) -> tuple[list[str], dict[str, str]]:
    """The names of the runs that TensorBoard has, and its filters."""
    with linked(list(names)) as logdir:
        runs = [path.relative_to(logdir).as_posix() for path in tensorboard.runs_in(logdir)]
        return sorted(runs), filters(logdir, only_newest=not names)


def test_without_a_name_it_shows_the_runs_and_sweeps_and_first_the_newest_run(outputs: Path) -> None:
    add_run(outputs / "runs" / "one", 10)
    add_run(outputs / "runs" / "two", 30, by_images=True)
    add_sweep(outputs / "sweeps" / "many", 20)
    add_run(outputs / "claims" / "pipeline", 40)
    runs, first = shown()
    assert runs == ["many/lr_0.1-seed_0", "many/lr_0.1-seed_1", "one", "two", "two/by_images"]
    assert first == {"tags": CURVES, "runs": "^two$"}
    assert shown(outputs)[0] == runs, "the same where it is named"


def test_where_the_newest_run_is_a_job_the_sweep_comes_first(outputs: Path) -> None:
    add_run(outputs / "runs" / "one", 10)
    add_sweep(outputs / "sweeps" / "lr+rule", 20)
    assert shown()[1]["runs"] == r"^lr\+rule/[^/]+$"


def test_a_named_run_stands_under_its_name_and_a_named_sweeps_jobs_under_theirs(outputs: Path) -> None:
    one = add_run(outputs / "runs" / "one", 10)
    many = add_sweep(outputs / "sweeps" / "many", 20, by_images=True)
    assert shown(one) == (["one"], {"tags": CURVES, "runs": ""})
    runs, first = shown(many)
    assert [name for name in runs if "/" not in name] == ["lr_0.1-seed_0", "lr_0.1-seed_1"]
    assert first == {"tags": CURVES, "runs": "^(?!.*by_images$)"}
    assert shown(one, many)[0] == sorted(["one", *(f"many/{name}" for name in runs)])
    assert {path.name for path in outputs.iterdir()} == {"runs", "sweeps"}, "nothing is written beside the runs"


def test_two_runs_of_one_name_are_told_apart(outputs: Path) -> None:
    first, second = (add_run(outputs / "sweeps" / sweep / "seed_0", 10) for sweep in ("a", "b"))
    assert shown(first, second)[0] == ["b-seed_0", "seed_0"]
    third, fourth = (add_run(outputs / part / "b" / "seed_0", 10) for part in ("x", "y"))
    assert shown(first, second, third, fourth)[0] == ["b-seed_0", "b-seed_0-2", "b-seed_0-3", "seed_0"]


def test_the_claims_are_shown_where_they_are_named_with_all_that_they_have(outputs: Path) -> None:
    claim = add_run(outputs / "claims" / "pipeline", 40)
    (claim / "record.json").unlink()
    assert shown(outputs / "claims") == (["pipeline"], {"tags": "", "runs": ""})


def test_what_cannot_be_shown_is_one_line(outputs: Path) -> None:
    with pytest.raises(RunError, match=r"there are no runs in outputs yet; .*train makes the first"):
        shown()
    (outputs / "last.ckpt").touch()
    with pytest.raises(UsageError, match="name the folder of a run or a sweep"):
        tensorboard.folder_of(str(outputs / "last.ckpt"))
    with pytest.raises(UsageError, match="nowhere: there is no such"):
        tensorboard.folder_of("nowhere")


def test_the_link_can_be_read_back_and_the_tunnel_has_its_port(capsys: pytest.CaptureFixture[str]) -> None:
    announce("the dashboard", "http://localhost:6013/", CURVES, "^runs/a\\.b$")
    what, link, tunnel = capsys.readouterr().out.splitlines()
    assert what == "the dashboard; Ctrl-C ends it" and urlsplit(link).fragment == "timeseries"
    assert parse_qs(urlsplit(link).query) == {"tagFilter": [CURVES], "runFilter": ["^runs/a\\.b$"], "smoothing": ["0"]}
    assert "ssh -L 6013:localhost:6013 " in tunnel
    announce("the dashboard", "http://0.0.0.0:6013/")
    assert "ssh" not in capsys.readouterr().out


def test_a_user_without_a_name_gets_the_address_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:  # as in a container with a user id of its own
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr("getpass.getuser", nameless)
    announce("the dashboard", "http://localhost:6013/")
    assert capsys.readouterr().out.splitlines()[1:] == ["http://localhost:6013/?smoothing=0#timeseries"]


@pytest.mark.parametrize(
    ("terminal", "environment", "opens"),
    [
        (True, {"DISPLAY": ":0"}, True),
        (True, {"WAYLAND_DISPLAY": "wayland-0"}, True),
        (False, {"DISPLAY": ":0"}, False),
        (True, {"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, False),
        (True, {}, False),
    ],
)
def test_a_browser_opens_only_where_somebody_sits_before_it(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], opens: bool
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "SSH_TTY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert has_browser() is opens


Server = subprocess.Popen[str]


@pytest.fixture
def start(outputs: Path) -> Iterator[Callable[..., Server]]:
    """The command, as somebody types it."""
    servers: list[Server] = []
    code = "import sys; from dlintro.commands.tensorboard import main; sys.exit(main())"

    def start(*words: str) -> Server:
        words = (sys.executable, "-c", code, *words)
        servers.append(
            subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=outputs, start_new_session=True
            )
        )
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.communicate()


def link_of(server: Server) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        if line.startswith("http://"):
            return line.strip()
    raise AssertionError("no address was printed")


def asked(link: str, route: str) -> Any:
    return json.loads(urllib.request.urlopen(link.partition("?")[0] + route, timeout=60).read())


def test_the_printed_address_answers_with_the_runs_and_ctrl_c_ends_it(
    outputs: Path, start: Callable[..., Server]
) -> None:
    add_run(outputs / "runs" / "one", time.time())
    with socket.create_server(("localhost", 0)) as taken:
        port = taken.getsockname()[1]
        server = start("--port", str(port))
        link = link_of(server)
        assert port < urlsplit(link).port < port + 20, "the port that was asked for is taken"
        deadline = time.monotonic() + 60
        while (runs := asked(link, "data/runs")) != ["one"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert runs == ["one"]
        add_run(outputs / "sweeps" / "later" / "job", time.time())  # there was no folder `sweeps` when it began
        while (runs := sorted(asked(link, "data/runs"))) != ["later/job", "one"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert runs == ["later/job", "one"]
        os.killpg(server.pid, signal.SIGINT)
        _, said = server.communicate(timeout=30)
    assert server.returncode == 0 and said == ""


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--nonsense",), 2, "dlintro: TensorBoard: unrecognized arguments: --nonsense\n"),
        (("--port", "many"), 2, "dlintro: TensorBoard: argument --port: not a number: 'many'\n"),
        (("runs", "--logdir", "x"), 2, "dlintro: runs: name a RUN or give --logdir, not both\n"),
        (("--host", "x", "--bind_all"), 2, "dlintro: TensorBoard: Must not specify both --host and --bind_all.\n"),
    ],
)
def test_a_wrong_option_is_one_line(
    outputs: Path, start: Callable[..., Server], words: tuple[str, ...], status: int, said: str
) -> None:
    add_run(outputs / "runs" / "one", time.time())
    server = start(*words)
    assert server.communicate(timeout=60) == ("", said) and server.returncode == status


def test_help_needs_no_tensorboard(start: Callable[..., Server]) -> None:
    began = time.perf_counter()
    said, _ = start("--help").communicate(timeout=60)
    assert "a run, a sweep" in said and "--helpfull" in said and time.perf_counter() - began < 5
