"""scripts/runs: the table of runs and sweeps, its filters, and what tells two runs apart."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from dlintro.commands.runs import in_lines, main
from tests.commands.test_predict import in_a_terminal, plain
from tests.sweep.fake import write_run, write_sweep
from tests.trained import SYNTHETIC, train_run

Captured = pytest.CaptureFixture[str]
LONG = "20260103-101500-mnist_cnn-fashion_mnist-0a1b"


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four runs and two sweeps; in one of them the best setting has lost a seed."""
    folder = tmp_path / "outputs"
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(folder))
    monkeypatch.chdir(tmp_path)
    write_run(folder / "runs" / "20260101-101500-flatnet-mnist-956f", {"model": "flatnet"}, **acc(0.92, 0.91))
    write_run(folder / "runs" / LONG, {"model": "mnist_cnn", "data": "fashion_mnist"}, **acc(0.99, 0.985))
    failed = {"status": "failed", "error": "RuntimeError: shapes differ", "fit_seconds": None}
    write_run(folder / "runs" / "20260102-101500-vgg16-mnist-beef", {"model": "vgg16"}, **acc(None, None), **failed)
    write_run(folder / "runs" / "mine", {"model": "flatnet"}, started="2026-01-05T00:00:00+00:00", **acc(0.93, 0.92))
    params = {"data.batch_size": [32, 64], "seed": [0, 1]}
    levels = (0.90, 0.92, 0.95, 0.95)
    changed = {place: acc(level, level - 0.01) for place, level in enumerate(levels)}
    write_sweep(folder / "sweeps" / "batch_size-6e42024d", params, changed=changed)
    changed[3] = {"status": "oom"}
    write_sweep(folder / "sweeps" / "lost-00000001", params, changed=changed)
    return folder


def acc(val: float | None, test: float | None) -> dict[str, Any]:
    """Of the val-best weights; the last ones are worse."""
    return {"best/val/acc": val, "val/acc": val and val - 0.2, "best/test/acc": test, "test/acc": test and test - 0.2}


def rows(capsys: Captured, *words: str) -> list[dict[str, Any]]:
    assert main([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def table(capsys: Captured, *words: str) -> list[list[str]]:
    """The words of each line under the header, as in a pipe."""
    assert main(list(words)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.split() for line in out.splitlines()[1:]]


def test_each_run_and_each_sweep_is_a_row_the_newest_last(outputs: Path, capsys: Captured) -> None:
    names = [line[0] for line in table(capsys)]
    assert set(names[:2]) == {"batch_size-6e42024d", "lost-00000001"}, "of 2025"
    assert names[2:] == ["20260101-101500-flatnet-mnist-956f", "20260102-101500-vgg16-mnist-beef", LONG, "mine"]
    text = {line[0]: " ".join(line) for line in table(capsys)}
    assert "mnist_cnn fashion_mnist ok 99.00% 98.50%" in text[LONG]
    assert "vgg16 mnist failed – – – RuntimeError: shapes differ" in text["20260102-101500-vgg16-mnist-beef"]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("scripts/train model=flatnet data=mnist optim.lr=0.1 seed=2", "optim.lr=0.1 seed=2"),
        (
            "scripts/train --config-dir conf experiment=mine 'model.hidden=[8, 8]'",
            "experiment=mine 'model.hidden=[8, 8]'",
        ),
        ("scripts/train hydra.run.dir=outputs/runs/mine", None),
        ("scripts/train 'optim.lr=1", None),
    ],
)
def test_a_run_shows_what_was_typed_beside_model_and_data(
    outputs: Path, capsys: Captured, command: str, shown: str | None
) -> None:
    file = outputs / "runs" / "mine" / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"command": command}))
    (row,) = (row for row in rows(capsys) if row["name"] == "mine")
    assert row["typed"] == shown
    line = " ".join(table(capsys)[-1])
    assert line.endswith(shown) if shown else "=" not in line


def test_a_resumed_run_still_shows_what_was_typed_at_first(outputs: Path, capsys: Captured) -> None:
    folder = outputs / "runs" / "mine"
    record = json.loads((folder / "record.json").read_text())
    command = "scripts/train resume=mine trainer.max_epochs=9"
    (folder / "record.json").write_text(json.dumps(record | {"command": command}))

    def shown() -> str:
        return next(row["typed"] for row in rows(capsys) if row["name"] == "mine")

    assert shown() == "resume=mine trainer.max_epochs=9", "nothing tells how it began"
    words = ["model=flatnet", "optim.lr=0.1", "trainer.max_epochs=2"]
    (folder / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(words))
    assert shown() == "optim.lr=0.1 trainer.max_epochs=9"


def test_a_sweep_counts_its_jobs_and_shows_its_best_setting(outputs: Path, capsys: Captured) -> None:
    """The means over the seeds. A setting that lost a seed is never the best."""
    found = {row["name"]: row for row in rows(capsys) if row["kind"] == "sweep"}
    whole, lost = found["batch_size-6e42024d"], found["lost-00000001"]
    assert whole["status"] == {"ok": 4} and lost["status"] == {"ok": 3, "oom": 1}
    assert (whole["val/acc"], whole["test/acc"]) == pytest.approx((0.95, 0.94))
    assert whole["note"] == "highest: data.batch_size=64 (n=2)"
    assert (lost["val/acc"], lost["test/acc"]) == pytest.approx((0.91, 0.90))
    assert lost["note"] == "highest: data.batch_size=32 (n=2)"
    jobs = [json.loads(path.read_text()) for path in (outputs / "sweeps" / "batch_size-6e42024d").glob("*/record.json")]
    assert whole["fit_seconds"] == pytest.approx(sum(job["fit_seconds"] for job in jobs))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["model=vgg16"], ["20260102-101500-vgg16-mnist-beef"]),
        (["data=fashion_mnist"], [LONG]),
        (["status=failed,oom"], ["lost-00000001", "20260102-101500-vgg16-mnist-beef"]),
        (["model=flatnet", "status=ok", "--sort", "name"],
         ["20260101-101500-flatnet-mnist-956f", "batch_size-6e42024d", "lost-00000001", "mine"]),
    ],
)  # fmt: skip
def test_words_choose_rows(outputs: Path, capsys: Captured, words: list[str], names: list[str]) -> None:
    assert [row["name"] for row in rows(capsys, *words)] == names
    assert [line[0] for line in table(capsys, *words)] == names


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("val", lambda row: -1 if row["val/acc"] is None else row["val/acc"]),
        ("test", lambda row: -1 if row["test/acc"] is None else row["test/acc"]),
        ("time", lambda row: -1 if row["fit_seconds"] is None else row["fit_seconds"]),
        ("name", lambda row: row["name"]),
        ("model", lambda row: row["model"]),
        ("started", lambda row: row["started"]),
    ],
)
def test_rows_are_sorted_the_largest_last(
    outputs: Path, capsys: Captured, key: str, value: Callable[[dict[str, Any]], Any]
) -> None:
    found = [value(row) for row in rows(capsys, "--sort", key)]
    assert found == sorted(found) and len(set(map(str, found))) > 1


def test_a_damaged_folder_is_a_row(outputs: Path, capsys: Captured) -> None:
    runs, sweeps = outputs / "runs", outputs / "sweeps"
    for name, content in (("cut", '{"status": "ok", '), ("odd", '{"status": "ok", "val/acc": -7}'), ("list", "[]")):
        (runs / name).mkdir()
        (runs / name / "record.json").write_text(content)
    (runs / "empty").mkdir()
    (runs / "no folder").touch()
    for name, content in (("half", '{"jobs": ['), ("climbs", '{"jobs": [{"name": "../x", "overrides": []}]}'),
                          ("seven", "7"), ("nameless", '{"jobs": [{}]}')):  # fmt: skip
        (sweeps / name).mkdir()
        (sweeps / name / "sweep.json").write_text(content)
    (sweeps / "batch_size-6e42024d" / "000-32-0" / "record.json").write_text("{")
    found = {row["name"]: row for row in rows(capsys)}
    damaged = {name for name, row in found.items() if row["status"] in ("damaged", {"damaged": 1})}
    assert damaged == {"cut", "odd", "list", "empty", "half", "climbs", "seven", "nameless"}
    assert all(found[name]["note"] for name in damaged)
    assert found["batch_size-6e42024d"]["status"] == {"damaged": 1, "ok": 3}
    assert found["batch_size-6e42024d"]["val/acc"] == pytest.approx(0.95), "the whole setting"
    assert len(table(capsys, "status=damaged")) == 9


def test_what_runs_and_what_was_killed_is_told_by_the_lock(outputs: Path, capsys: Captured) -> None:
    mine, sweep = outputs / "runs" / "mine", outputs / "sweeps" / "batch_size-6e42024d"
    for folder in (mine, sweep / "000-32-0"):
        record = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps(record | {"status": "running"}))
        (folder / ".lock").touch()
    (outputs / "runs" / "just begun").mkdir()
    with FileLock(mine / ".lock"), FileLock(outputs / "runs" / "just begun" / ".lock"):
        found = {row["name"]: row["status"] for row in rows_in_a_process(outputs)}
    assert (found["mine"], found["just begun"]) == ("running", "running")
    assert found["batch_size-6e42024d"] == {"interrupted": 1, "ok": 3}
    assert {row["name"]: row["status"] for row in rows(capsys)}["mine"] == "interrupted"


def rows_in_a_process(outputs: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "dlintro.commands.runs", "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_where_there_are_no_runs_one_friendly_line_says_so(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLINTRO_OUTPUTS", str(tmp_path / "none"))
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.startswith("There are no runs in ") and out.endswith(" makes the first.\n") and out.count("\n") == 1
    assert rows(capsys) == []


def test_where_no_run_fits_one_line_says_what_there_is(outputs: Path, capsys: Captured) -> None:
    assert main(["model=flatnet", "data=cifar10"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out == (
        "None of the 6 runs and sweeps in outputs has model=flatnet data=cifar10. "
        "There are model=flatnet,mnist_cnn,vgg16 and data=fashion_mnist,mnist."
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status=fialed"], "did you mean failed?"),
        (["status=x"], "use one of running, ok"),
        (["seed=1"], "use model, data, status"),
        (["model=a", "model=b"], "twice"),
        (["--sort", "speed"], "--sort"),
        (["--diff", "mine"], "--diff"),
        (["--diff", "mine", "nothing"], "none of the 6 runs and sweeps"),
        (["--diff", "mine", "6e42024d"], "this is a sweep"),
        (["--diff", "mine", "."], "not a run folder"),
        (["mine"], "unrecognized"),
    ],
)
def test_a_wrong_command_is_one_line_and_status_2(outputs: Path, capsys: Captured, words: list[str], said: str) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("dlintro: ") and err.count("\n") == 1 and said in err


def test_the_difference_of_two_runs_is_in_their_settings_and_results(outputs: Path, capsys: Captured) -> None:
    one, other = "batch_size-6e42024d/000-32-0", "batch_size-6e42024d/002-64-0"
    assert main(["--diff", one, other, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["runs"] == [one, other] and found["settings"] == {"data.batch_size": [32, 64]}
    assert found["results"]["best/val/acc"] == [0.90, 0.95] and "status" not in found["results"]
    assert main(["--diff", one, other]) == 0
    text = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "data.batch_size 32 64" in text and "best/val/acc 90.00% 95.00%" in text
    assert not any("optim.lr" in line or "seed " in line for line in text)


def test_other_images_and_versions_are_a_difference(outputs: Path, capsys: Captured) -> None:
    twin = outputs / "runs" / "twin"
    record = json.loads((outputs / "runs" / "mine" / "record.json").read_text())
    write_run(twin, {"model": "flatnet"})
    (twin / "record.json").write_text(json.dumps(record))
    assert main(["--diff", "mine", "twin"]) == 0
    assert capsys.readouterr().out == "mine and twin have the same settings and the same results.\n"
    changed = {"images_fingerprint": "ab" * 32, "versions": {"python": "3.14.0", "torch": "2.14.1"}}
    (twin / "record.json").write_text(json.dumps(record | changed))
    assert main(["--diff", "mine", "twin", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == {"python": ["3.13.1", "3.14.0"], "contents of the images": [None, "ab" * 32]}
    assert found["results"] == {}


def test_a_key_at_its_default_is_no_difference(tmp_path: Path, capsys: Captured) -> None:
    """Of two runs that trained, one of a version that didn't have the key yet."""
    one, other = (train_run(tmp_path / name, *SYNTHETIC, "seed=0") for name in ("one", "other"))
    config = yaml.safe_load((one / ".hydra" / "config.yaml").read_text())
    del config["optim"]["nesterov"]
    (one / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert main(["--diff", str(one), str(other), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == {} and not {"best/val/acc", "test/acc", "test/loss"} & found["results"].keys()


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_the_table_fits_the_terminal(outputs: Path, columns: int) -> None:
    lines = plain(in_a_terminal(columns, module="runs"))
    assert max(map(len, lines)) <= columns and not any("…" in line for line in lines if columns > 60)
    assert any(line.startswith("0a1b ") for line in lines), "a name that is enough to find the run"
    text = " ".join(" ".join(lines).split())
    assert "mine" in text and "99.00%" in text and ("RuntimeError: shapes differ" in text) == (columns == 160)


def test_names_are_neither_markup_nor_terminal_codes(outputs: Path, capsys: Captured) -> None:
    write_run(outputs / "runs" / "[bold]\x1b[5m", {}, error="[red]\x1b[31m")
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "[bold]\\x1b[5m" in out and "[red]\\x1b[31m" in out
    hostile = {"model": "\x1b[31m", "versions": {"torch\x1b[2J": "1"}}
    write_run(outputs / "runs" / "hostile", {"model.\x1b[7m": 1}, **hostile)
    assert main(["model=zzz"]) == 0 and main(["--diff", "mine", "hostile"]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("started", "zone"),
    [("0001-01-01T00:00:00+00:00", "America/New_York"), ("9999-12-31T23:00:00+00:00", "Asia/Tokyo")],
)
def test_a_time_that_no_clock_shows_ends_no_list(
    outputs: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch, started: str, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    write_run(outputs / "runs" / "20260107-000000-flatnet-mnist-0dd0", {}, started=started)
    assert "20260107-000000-flatnet-mnist-0dd0" in [row["name"] for row in rows(capsys)]
    monkeypatch.undo()
    time.tzset()


def test_a_long_name_is_broken_behind_its_hyphens() -> None:
    assert in_lines("batch_size_accelerators-0a1b2c3d", 18).plain.split("\n") == [
        "batch_size_",
        "accelerators-",
        "0a1b2c3d",
    ]
    assert in_lines("fashion_mnist", 9).plain == "fashion_\nmnist" and in_lines("mnist_cnn", 9).plain == "mnist_cnn"


def test_it_needs_no_torch_and_three_hundred_runs_are_listed_at_once(outputs: Path) -> None:
    template = outputs / "runs" / "mine" / "record.json"
    for n in range(300):
        folder = outputs / "runs" / f"20260201-{n:06}-flatnet-mnist-{n:04x}"
        folder.mkdir()
        (folder / "record.json").write_text(template.read_text())
        (folder / ".lock").touch()
    measured = (
        "import sys, time; sys.modules['torch'] = None; sys.modules['scipy'] = None; start = time.process_time(); "
        "from dlintro.commands.runs import main; main([]); print(time.process_time() - start, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", measured], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("\n") == 307, done.stderr
    assert float(done.stderr) < 1.5  # measured: 0.5 s
