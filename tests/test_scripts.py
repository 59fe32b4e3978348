"""Tests the scripts' bootstrap with the real sh in a copy of the checkout, with pretended Pythons on the PATH."""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOBODY = 65534
TOOLS = (
    "sh",
    "cat",
    "chmod",
    "cksum",
    "cp",
    "date",
    "dirname",
    "find",
    "id",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sleep",
)

# Answers what the bootstrap asks a Python, notes what it would have run, and prints the arguments of the last exec.
PYTHON = """#!/bin/sh
case $* in
    *'import ensurepip'*) echo '{answer}'; exit ;;
    *fcntl*) exec '{real}' "$@" ;;
    *importlib.metadata*) cat "$HOME/torch" 2>/dev/null; exit ;;
esac
case $1 in -I | -P) shift ;; esac
printf '%s\\n' "${{0##*/}} $*" >>"$HOME/calls"
case $* in
    '-m venv '*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    '-m pip index '*) [ -e "$HOME/offline" ] && exit 1; echo "Available versions: 2.14.1+cpu, 2.13.0+cpu" ;;
    '-m pip install '*' -e '*) sleep "$(cat "$HOME/pip-seconds" 2>/dev/null || echo 0)"; [ ! -e "$HOME/offline" ] ;;
    '-m pip '* | '-m ensurepip') ;;
    *) printf '%s\\n' "$@" "in $PWD" "outputs ${{DLINTRO_OUTPUTS-unset}}" ;;
esac
"""


class Machine:
    """A checkout, a home and a PATH with only the tools that the scripts may use."""

    def __init__(self, folder: Path) -> None:
        self.root, self.home, self.bin = folder / "a checkout", folder / "home", folder / "bin"
        for path in (self.root / "outputs", self.home, self.bin):
            path.mkdir(parents=True)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.root)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self.executable("uname", "#!/bin/sh\necho Linux\n")

    def executable(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, name: str, answer: str) -> None:
        self.executable(name, PYTHON.format(answer=answer, real=sys.executable))

    def command(self, script: str | Path, *arguments: str) -> list[str]:
        return ["/bin/sh", str(self.root / "scripts" / script), *arguments]

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": str(self.bin), "HOME": str(self.home), **variables}

    def run(
        self, script: str | Path, *arguments: str, cwd: Path | None = None, user: int | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(script, *arguments),
            env=self.environment(**variables),
            cwd=cwd or self.home,
            user=user,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )

    def calls(self) -> list[str]:
        """Return the commands since the last call."""
        file = self.home / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    def installs(self) -> list[str]:
        return [call for call in self.calls() if " -e " in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def ready(machine: Machine) -> Machine:
    machine.python("python3.12", "3.12.1 ok")
    assert machine.run("train").returncode == 0
    machine.calls()
    return machine


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert text.startswith("dlintro: ")
    return text


def test_the_first_python_that_really_runs_and_fits_is_taken(machine: Machine) -> None:
    machine.executable("python3.13", "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
    machine.python("python3", "3.10.12 version")
    machine.python("python", "3.12.1 ok")
    result = machine.run("train", "model=flatnet")
    assert result.returncode == 0
    assert f"Python 3.12.1 ({machine.bin / 'python'})" in result.stderr
    assert "about 3 GB" in result.stderr
    assert "DLINTRO_TORCH=cpu scripts/train" in result.stderr
    assert "pyenv" not in result.stderr
    (install,) = machine.installs()
    assert install.endswith(f"-e {machine.root}")
    assert f"-c {machine.root}/constraints.txt" in install
    assert result.stdout.splitlines()[:2] == [f"{machine.root}/.venv/bin/dlintro-train", "model=flatnet"]


def test_no_fitting_python_is_one_line_that_names_what_was_seen(machine: Machine) -> None:
    machine.python("python3", "3.10.12 version")
    machine.executable("python3.13", "#!/bin/sh\nexit 127\n")
    result = machine.run("train")
    assert result.returncode == 1
    assert "(python3 is 3.10.12)" in one_line(result.stderr)
    assert not (machine.root / ".venv").exists()


def test_no_python_at_all_is_one_line(machine: Machine) -> None:
    result = machine.run("devices")
    assert result.returncode == 1
    assert "found no Python 3.11 to 3.14: install" in one_line(result.stderr)


def test_the_newest_python_is_taken_first(machine: Machine) -> None:
    for minor in (11, 12, 13, 14):
        machine.python(f"python3.{minor}", f"3.{minor}.1 ok")
    machine.python("python3", "3.11.1 ok")
    result = machine.run("train")
    assert result.returncode == 0
    assert f"Python 3.14.1 ({machine.bin / 'python3.14'})" in result.stderr


def test_a_python_that_is_too_new_is_named_as_such_with_what_to_do(machine: Machine) -> None:
    machine.python("python3", "3.15.0 version")
    machine.python("python", "2.7.18 version")
    result = machine.run("train")
    assert result.returncode == 1
    line = one_line(result.stderr)
    assert "python3 is 3.15.0, which is too new: PyTorch 2.14 has no build for it, python is 2.7.18)" in line
    assert "found no Python 3.11 to 3.14 (" in line and "apt install python3.14 python3.14-venv" in line
    assert not (machine.root / ".venv").exists()


def test_a_real_python_is_judged_by_the_versions_that_are_named(machine: Machine) -> None:
    (machine.bin / "python3").symlink_to(sys.executable)
    bootstrap = machine.root / "scripts/_bootstrap.sh"
    bootstrap.write_text(re.sub("pythons='.*?'", "pythons='3.9 3.8'", bootstrap.read_text()))
    line = one_line(machine.run("train").stderr)
    assert f"found no Python 3.8 to 3.9 (python3 is {platform.python_version()}, which is too new" in line


def test_the_pythons_are_the_same_wherever_they_are_named() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bootstrap = (ROOT / "scripts/_bootstrap.sh").read_text()
    (taken,) = re.findall("pythons='(.*?)'", bootstrap)
    newest, *_, oldest = taken.split()
    assert project["requires-python"] == f">={oldest},<3.{int(newest.removeprefix('3.')) + 1}"
    classified = [line.rsplit(" ", 1)[1] for line in project["classifiers"] if "Python :: 3." in line]
    assert classified[::-1] == taken.split()
    assert f"with Python {oldest} to {newest} " in (ROOT / "README.md").read_text()
    assert f'python: ["{oldest}", "{newest}"]' in (ROOT / ".github/workflows/test.yml").read_text()


def test_a_python_without_venv_is_one_line_with_the_package_to_install(machine: Machine) -> None:
    machine.python("python3.11", "3.11.2 no-venv")
    result = machine.run("train")
    assert result.returncode == 1
    assert "apt install python3-venv or python3.11-venv" in one_line(result.stderr)


def test_a_python_without_venv_is_passed_over_where_another_has_it(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 no-venv")
    machine.python("python3.11", "3.11.2 ok")
    result = machine.run("train")
    assert result.returncode == 0
    assert "Python 3.11.2" in result.stderr


@pytest.mark.parametrize("value", ["cuda12", "gpu", "CPU", "cpu cuda"])
def test_a_wrong_build_of_pytorch_is_refused(ready: Machine, value: str) -> None:
    result = ready.run("train", DLINTRO_TORCH=value)
    assert result.returncode == 2
    assert "it must be cpu, cuda, rocm or xpu" in one_line(result.stderr)
    assert ready.calls() == []


def test_the_second_start_is_silent_quick_and_asks_neither_python_nor_pip(ready: Machine) -> None:
    began = time.perf_counter()
    result = ready.run("train", "seed=1")
    assert time.perf_counter() - began < 0.5  # about 0.01 s here; the bar is for a busy machine
    assert (result.returncode, result.stderr) == (0, "")
    assert ready.calls() == [f"python {ready.root}/.venv/bin/dlintro-train seed=1"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_change_of_what_is_needed_installs_once_more(ready: Machine, name: str) -> None:
    with (ready.root / name).open("a") as file:
        file.write("# changed\n")
    assert ready.run("train").returncode == 0
    assert len(ready.installs()) == 1
    assert ready.run("train").returncode == 0
    assert ready.installs() == []


def test_a_moved_checkout_installs_again(ready: Machine) -> None:
    ready.root = ready.root.rename(ready.root.with_name("elsewhere"))
    assert ready.run("train").returncode == 0
    assert len(ready.installs()) == 1


def test_only_the_tests_install_the_tools_and_training_keeps_them(ready: Machine) -> None:
    ready.run("test")
    (install,) = ready.installs()
    assert install.endswith(f"-e {ready.root}[dev]")
    ready.run("train")
    assert ready.installs() == []
    (ready.root / "constraints.txt").write_text("torch==2.14.1\n")
    ready.run("train")
    assert ready.installs()[0].endswith("[dev]")


def test_an_environment_that_holds_pytorch_is_brought_up_to_date_quietly(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    subprocess.run([machine.bin / "python3.12", "-m", "venv", machine.root / ".venv"], env=machine.environment())
    (machine.home / "torch").write_text("2.14.1\n")
    result = machine.run("train")
    assert "PyTorch 2.14.1 is in .venv" in result.stderr
    assert "GB" not in result.stderr
    assert "install -q" in machine.installs()[0]


def test_a_failing_pip_is_one_line_and_the_next_start_goes_on(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    (machine.home / "offline").touch()
    result = machine.run("train")
    assert result.returncode == 1
    assert result.stdout == ""
    assert "pip could not install" in result.stderr.splitlines()[-1]
    (machine.home / "offline").unlink()
    machine.calls()
    assert machine.run("train").returncode == 0
    calls = machine.calls()
    assert sum(" -e " in call for call in calls) == 1
    assert not any("-m venv" in call for call in calls)


def test_an_environment_broken_off_while_it_was_made_is_made_again(ready: Machine) -> None:
    (ready.root / ".venv/dlintro-stamp").write_text("core pypi\nmaking\n")
    assert ready.run("train").returncode == 0
    calls = ready.calls()
    assert sum("-m venv" in call for call in calls) == 1
    assert sum(" -e " in call for call in calls) == 1


def test_an_environment_whose_python_has_gone_is_made_again(ready: Machine) -> None:
    python = ready.root / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3.12")
    assert ready.run("train").returncode == 0
    assert any("-m venv" in call for call in ready.calls())


def test_a_package_broken_off_in_mid_installation_is_installed_again(ready: Machine) -> None:
    site = ready.root / ".venv/lib/python3.12/site-packages"
    for name in ("whole-1.dist-info", "half-1.dist-info"):
        (site / name).mkdir(parents=True)
    (site / "whole-1.dist-info/RECORD").touch()
    (ready.root / ".venv/dlintro-stamp").write_text("core pypi\ninstalling\n")
    assert ready.run("train").returncode == 0
    assert [path.name for path in site.iterdir()] == ["whole-1.dist-info"]


def test_an_environment_of_another_python_is_left_alone(ready: Machine) -> None:
    (ready.root / ".venv/dlintro-stamp").unlink()
    ready.python("../a checkout/.venv/bin/python", "3.15.0 version")
    result = ready.run("train")
    assert result.returncode == 1
    assert "has Python 3.15.0, not 3.11 to 3.14: remove it" in one_line(result.stderr)


def test_two_starts_at_once_install_once(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    (machine.home / "pip-seconds").write_text("0.5")
    starts = [
        subprocess.Popen(machine.command("train"), env=machine.environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    messages = [start.communicate(timeout=20)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert len(machine.installs()) == 1
    assert sum("waiting for it" in message for message in messages) >= 1


def test_a_killed_start_leaves_no_lock_behind(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    (machine.home / "pip-seconds").write_text("0.5")
    start = subprocess.Popen(machine.command("train"), env=machine.environment(), stderr=subprocess.DEVNULL)
    while not any(" -e " in call for call in machine.calls()):
        time.sleep(0.02)
    start.kill()
    start.wait()
    assert machine.run("train").returncode == 0  # waits for the orphaned pip, then goes on


@pytest.fixture
def readable() -> Iterator[Machine]:
    """A machine in a folder that other users can read, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="dlintro test "))
    folder.chmod(0o755)
    yield Machine(folder)
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


def run_without_write_access(machine: Machine, script: str) -> subprocess.CompletedProcess[str]:
    """Run as another user if the tests run as root, because permissions don't stop root."""
    (machine.home / "calls").touch()
    (machine.home / "calls").chmod(0o666)
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "a-w", machine.root], check=True)
    return machine.run(script, user=NOBODY if os.geteuid() == 0 else None)


def test_a_read_only_checkout_with_its_environment_works_and_writes_nothing(readable: Machine) -> None:
    readable.python("python3.12", "3.12.1 ok")
    assert readable.run("train").returncode == 0
    readable.calls()
    before = sorted(readable.root.rglob("*"))
    readable.home.chmod(0o777)  # theirs
    result = run_without_write_access(readable, "train")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"outputs {readable.home}/dlintro-outputs" in result.stdout
    assert sorted(readable.root.rglob("*")) == before


def test_an_environment_whose_python_others_cannot_run_is_said_to_be_such(readable: Machine) -> None:
    readable.python("python3.12", "3.12.1 ok")
    assert readable.run("train").returncode == 0
    python = readable.root / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/of/somebody/python3.12")
    result = run_without_write_access(readable, "train")
    assert result.returncode == 1 and result.stderr.count("\n") <= 2
    assert "is a link to /nowhere/of/somebody/python3.12, which you can't run" in result.stderr


def test_a_read_only_checkout_without_an_environment_says_what_to_do(readable: Machine) -> None:
    readable.python("python3.12", "3.12.1 ok")
    result = run_without_write_access(readable, "train")
    assert result.returncode == 1
    assert "you can't write to" in one_line(result.stderr)


def test_a_read_only_checkout_with_an_environment_made_by_hand_works(readable: Machine) -> None:
    readable.python("python3.12", "3.12.1 ok")
    assert readable.run("train").returncode == 0
    (readable.root / ".venv/dlintro-stamp").unlink()
    readable.calls()
    result = run_without_write_access(readable, "train")
    assert (result.returncode, result.stderr) == (0, "")
    assert readable.installs() == []


def test_a_script_works_from_anywhere_through_a_link_and_leaves_relative_arguments_alone(ready: Machine) -> None:
    elsewhere = ready.home / "else where"
    elsewhere.mkdir()
    link = elsewhere / "my train"
    link.symlink_to(ready.root / "scripts/train")
    result = ready.run(link, "model.path=my net.py", "two  blanks", cwd=elsewhere)
    assert result.stdout.splitlines() == [
        f"{ready.root}/.venv/bin/dlintro-train",
        "model.path=my net.py",
        "two  blanks",
        f"in {elsewhere}",
        f"outputs {ready.root}/outputs",
    ]


def test_a_script_works_by_a_relative_path(ready: Machine) -> None:
    result = subprocess.run(
        ["/bin/sh", "scripts/train"], cwd=ready.root, env=ready.environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert f"outputs {ready.root}/outputs" in result.stdout


def test_the_users_output_folder_is_kept(ready: Machine) -> None:
    assert "outputs my runs" in ready.run("train", DLINTRO_OUTPUTS="my runs").stdout


def test_another_build_comes_from_pytorchs_own_index_and_stays(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    result = machine.run("train", DLINTRO_TORCH="cpu")
    assert result.returncode == 0, result.stderr
    assert "about 0.3 GB" in result.stderr
    (install,) = machine.installs()
    assert "--extra-index-url https://download.pytorch.org/whl/cpu torch==2.14.1+cpu torchvision==0.29.1+cpu" in install
    machine.run("train")
    machine.run("train", DLINTRO_TORCH="cpu")
    assert machine.installs() == []


def test_an_index_out_of_reach_is_one_line(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    (machine.home / "offline").touch()
    result = machine.run("train", DLINTRO_TORCH="rocm")
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "https://download.pytorch.org/whl/rocm" in last
    assert "can't be reached" in last
    assert machine.installs() == []
    (machine.home / "offline").unlink()
    assert machine.run("train").returncode == 0  # the build that couldn't be had isn't remembered
    assert "index-url" not in machine.installs()[0]


def test_macos_has_one_build_only(machine: Machine) -> None:
    machine.python("python3.12", "3.12.1 ok")
    machine.executable("uname", "#!/bin/sh\necho Darwin\n")
    result = machine.run("train", DLINTRO_TORCH="cuda")
    assert result.returncode == 2
    assert "no such build for macOS" in result.stderr.splitlines()[-1]
    assert machine.run("train", DLINTRO_TORCH="cpu").returncode == 0
    assert "index-url" not in machine.installs()[0]


BESIDE = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        ([], [*BESIDE, "{root}/tests"]),
        (["--slow"], ["-m", "", *BESIDE, "{root}/tests"]),
        (["-k", "data"], [*BESIDE, "{root}/tests", "-k", "data"]),
        (["data", "-x"], ["data", "-x"]),
        (["data/test_a.py::test_b", "--slow"], ["-m", "", "data/test_a.py::test_b"]),
    ],
)
def test_the_tests_get_the_users_arguments(ready: Machine, given: list[str], handed_on: list[str]) -> None:
    (ready.home / "data").mkdir()
    (ready.home / "data/test_a.py").touch()
    result = ready.run("test", *given)
    assert result.returncode == 0, result.stdout + result.stderr
    shown = result.stdout.splitlines()
    for title in ("== ruff check", "== mypy", "== pytest"):
        assert title in shown
    pytest_got = shown[shown.index("pytest") + 1 : -2]
    common = ["-c", f"{ready.root}/pyproject.toml", "--rootdir", str(ready.root)]
    assert pytest_got == common + [argument.format(root=ready.root) for argument in handed_on]


@pytest.mark.parametrize(
    "name", ["train", "test", "tensorboard", "devices", "predict", "evaluate", "pack", "report", "runs"]
)
def test_every_script_can_be_run_and_is_short(name: str) -> None:
    script = ROOT / "scripts" / name
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/sh\n# ")
