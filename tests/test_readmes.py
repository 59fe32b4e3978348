"""What the READMEs say is so: their commands and keys are right, their files and links are there, the short commands
run, and the front page's ten minutes print what it shows."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from dlintro.commands import pack
from dlintro.settings.keys import GROUPS, TABLE
from dlintro.version import VERSION
from tests.checkout import ROOT
from tests.readme_commands import console_scripts
from tests.terminal import in_terminal

FRONT = ROOT / "README.md"
PAGES = [FRONT, ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "conf").rglob("README.md"))]
PAGES += sorted((ROOT / "src").rglob("README.md"))
PICTURES = ROOT / ".github/pictures"
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
COMMAND = r"(?:[A-Z_]+=\S+ )*scripts/[a-z]+(?![./\w])"
ADDED_BY_THE_PAGE = ("model=lenet5", "data=npz")  # tests/test_contributing.py runs these
LONG = {  # what takes minutes, doesn't end by itself, or needs another run; `scripts/test` would run this test
    r"sweep=",
    r"vgg16",
    r"cifar10|imagenet data\.val_size|weights=imagenet",
    r"-m model=flatnet,mnist_cnn 'seed|evaluate RUN (model|data)\.path",
    r"mnist_cnn data\.batch_size|-m optim\.lr|-m '?experiment|-m model=flatnet data\.batch_size=",
    r"experiment=(fashion_cnn|flatnet_linear|mlp_mnist|mnist_cnn_tiny|three_models|vgg16_cifar10)",
    r"^scripts/claims( --quick| --falsified)?$|shared_weights|likelihood",
    r"^scripts/(tensorboard|benchmark|test)",
    r"fashion_mnist",
    r"optim\.schedule=none trainer\.max_epochs=5",
}
VARIABLES = ("DLINTRO_TORCH=", "DLINTRO_DATA=", "DLINTRO_OUTPUTS=")


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, content) of each block, without the spaces that indent it in a list."""
    for indent, language, content in re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        yield language, re.sub(rf"^{indent}", "", content, flags=re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page.read_text(encoding="utf-8")))


def commands(page: Path) -> list[str]:
    """Every command that the page shows, without its comment, in the page's order."""
    lines = [
        line
        for language, content in code_blocks(page.read_text(encoding="utf-8"))
        if language != "text"
        for line in content.splitlines()
    ]
    lines += [code for code in inline_code(page) if " " in code]  # a word alone is a file's name
    found = [line.strip() for line in lines if re.match(COMMAND, line.strip())]
    plain = [shlex.join(shlex.split(line, comments=True)) for line in found]
    return [line for line in dict.fromkeys(plain) if not any(word in line for word in ADDED_BY_THE_PAGE)]


def as_typed(command: str) -> str:
    """With a name that the test's folder has in the place of each placeholder."""
    words = [word for word in shlex.split(command) if not word.startswith(VARIABLES)]
    names = {"RUN": "finished", "RUN_OR_CKPT": "finished", "IMAGE...": "my_digit.png", "DIR": "my_images"}
    names |= {"SWEEP": "outputs/sweeps/sweep", "outputs/sweeps/NAME": "outputs/sweeps/sweep", "NAME": "batching"}
    names |= {"resume=RUN": "resume=interrupted", "rerun=RUN": "rerun=finished", "data.path=DIR": "data.path=my_images"}
    names |= {"resume=SWEEP": "resume=outputs/sweeps/sweep", "model.path=FILE.py": "model.path=my_net.py"}
    typed = [names.get(word, word) for word in words]
    return shlex.join([f"new {word}" if before == "-o" else word for before, word in pairwise(["", *typed])])


EVERY = list(dict.fromkeys(command for page in PAGES for command in commands(page)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has who types the commands: runs, a sweep, a network, images."""
    folder = tmp_path_factory.mktemp("user")
    made = ROOT / "tests/made_at_063d9bb"
    for name in ("finished", "interrupted"):
        shutil.copytree(made / name, folder / name)
        (folder / name / "events.out.tfevents.1").touch()  # the copies have none
    last = "20991231-120000-flatnet-synthetic-1a2b"  # later than any run that a test starts
    shutil.copytree(made / "interrupted", folder / "outputs/runs" / last)
    shutil.copytree(made / "sweep", folder / "outputs/sweeps/sweep")  # its name is in its settings
    (folder / "outputs/claims/batching").mkdir(parents=True)
    measured = "claim,quantity,arm,seed,value,expected,outcomes\nbatching,batches,,1000,313,313,\n"
    (folder / "outputs/claims/batching/measurements.csv").write_text(measured)
    (folder / "my_conf/experiment").mkdir(parents=True)
    shutil.copy(ROOT / "conf/experiment/mnist_99.yaml", folder / "my_conf/experiment/mine.yaml")
    (network,) = re.findall(
        r"```python\n(from torch import nn\n.*?)```", (ROOT / "src/dlintro/models/README.md").read_text(), re.DOTALL
    )
    (folder / "my_net.py").write_text(network)
    draw_seven(folder / "my_digit.png")
    for i in range(60):  # enough for a test image of each class
        for grey, name in ((60, "cat"), (190, "dog")):
            (folder / "my_images" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (grey, grey, 4 * i)).save(folder / "my_images" / name / f"{i}.png")
    images = ("data=image_folder", f"data.path={folder / 'my_images'}", "data.image_size=32")
    assert pack.main([*images, "--jpeg", "-o", str(folder / "PACK")]) == 0
    labels = [f"{name}/{i},{name}" for name in ("cat", "dog") for i in range(60)]
    (folder / "labels.csv").write_text("\n".join(["file,label", *labels]))
    return folder


def draw_seven(file: Path) -> None:
    image = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(image).line([(90, 70), (210, 70), (130, 240)], fill="black", width=22, joint="curve")
    image.save(file)


def composed(folder: Path, typed: list[str]) -> dict[str, str]:
    """{command: what is wrong with it}; "" where nothing is."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.readme_commands"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", "DLINTRO_OUTPUTS": str(folder / "outputs")},
        input=json.dumps(typed),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


@pytest.fixture(scope="module")
def complaints(folder: Path) -> dict[str, str]:
    return composed(folder, list(dict.fromkeys(map(as_typed, EVERY))))


@pytest.mark.parametrize("command", EVERY)
def test_every_command_is_right(command: str, complaints: dict[str, str]) -> None:
    assert complaints[as_typed(command)] == ""


WRONG = {
    "scripts/train modle=flatnet": "modle",
    "scripts/train model=flatnt": "did you mean flatnet",
    "scripts/train experiment=mnist_999": "mnist_99",
    "scripts/train optim.lr=-1": "above 0",
    "scripts/train model.hidden=[3]": "model=flatnet",
    "scripts/train data.path=nowhere data=image_folder resume=nowhere": "nowhere",
    "scripts/train -m data.batch_size=32,0": "data.batch_size",
    "scripts/train sweep=batchsize": "batch_size",
    "scripts/evaluate nowhere": "nowhere",
    "scripts/predict finished": "IMAGE",
    "scripts/report finished target.valeu=1": "target.value",
    "scripts/claims nonlinearty": "did you mean nonlinearity",
    "scripts/benchmark --quik": "--quik",
    "scripts/devices --jsn": "--jsn",
    "scripts/test --slwo": "--slwo",
    "scripts/trian": "there is no",
}


def test_a_misspelt_command_is_noticed(folder: Path) -> None:
    found = composed(folder, list(WRONG))
    assert {command: said for command, said in found.items() if WRONG[command] not in said} == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_key_in_the_text_is_a_key_and_every_value_legal(name: str) -> None:
    for code in inline_code(ROOT / name):
        if not re.fullmatch(r"([a-z]+)(\.[a-z_]+)*(=[^\s…|]+)?", code):
            continue
        key, typed, value = code.partition("=")
        if key in GROUPS and typed and value != "NAME":
            assert value in (*options_of(key), "lenet5", "npz"), code
        elif key.partition(".")[0] in {k.partition(".")[0] for k in TABLE} and ("." in key or typed):
            assert key in TABLE or key in GROUPS, f"{code}: there is no key {key}"
            if value and not re.search("[A-Z,]", value) and TABLE[key].kind != "text":
                assert TABLE[key].accepts(read(key, value)), code


def options_of(group: str) -> list[str]:
    from dlintro.settings.conf import options

    return options(group)


def read(key: str, value: str) -> object:
    from dlintro.settings.limits import read_value

    return read_value(key, value)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_is_named_exists(name: str) -> None:
    page = ROOT / name
    paths = [
        code for code in inline_code(page) if re.fullmatch(r"(\.github|\.ci|conf|scripts|src|tests)/[\w./-]*", code)
    ]
    gone = [path for path in paths if not (ROOT / path).exists() and not re.search("[A-Z]{3}|lenet5|npz", path)]
    assert gone == []


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text)
    for link in (a or b for a, b in links):
        target, _, anchor = link.partition("#")
        if re.match(r"https?:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.is_file(), f"{name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(file.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings], link


def test_pictures_live_in_one_folder_and_each_is_shown() -> None:
    shown = [
        (page.parent / link).resolve()
        for page in PAGES
        for link in re.findall(r"(?:\]\(|src=\")([^)\"\s]+\.(?:png|gif|svg))", page.read_text(encoding="utf-8"))
    ]
    assert {path.parent for path in shown} == {PICTURES}
    assert {path.name for path in shown} == {path.name for path in PICTURES.iterdir()}


def test_the_front_page_is_short() -> None:
    lines = FRONT.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 160
    assert [line for line in lines if len(line) > 100] == []


def test_the_citation_names_this_version() -> None:
    assert f"version = {{{VERSION}}}" in FRONT.read_text(encoding="utf-8")


def test_each_room_is_linked_from_the_front_page() -> None:
    links = re.findall(r"\]\(([^)#\s]+)", FRONT.read_text(encoding="utf-8"))
    assert {name for name in NAMES if name != "README.md"} <= set(links)


# What the front page shows, typed and read as a newcomer does.


def environment(folder: Path) -> dict[str, str]:
    ours = {"PYTHONPATH": str(ROOT / "src"), "DLINTRO_OUTPUTS": str(folder / "outputs"), "COLUMNS": "80"}
    return os.environ | ours


def started(command: str) -> list[str]:
    script, *words = shlex.split(command)
    module, _, function = console_scripts()[f"dlintro-{Path(script).name}"].partition(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())", *words]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        started(command),
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def masked(line: str) -> str:
    """Without what differs from run to run: figures, hashes, the width of a column."""
    line = re.sub(r"\b(?=\w*\d)[0-9a-f]{8}\b", "HASH", line)
    line = re.sub(r"[<>+-]?\d[\d,.]*", "#", line)
    return re.sub(r"\s+", " ", line).strip()


def long(command: str) -> bool:
    return any(re.search(pattern, command) for pattern in LONG)


def ten_minutes() -> str:
    return FRONT.read_text(encoding="utf-8").partition("## Ten minutes\n")[2].partition("\n## ")[0]


def short_commands() -> list[str]:
    """Those that `test_the_ten_minutes_print_what_the_page_shows` doesn't run, and that end soon."""
    run_there = {
        shlex.join(shlex.split(line, comments=True))
        for language, content in code_blocks(ten_minutes())
        if language == "sh"
        for line in content.splitlines()
    }
    typed = {as_typed(command): command for command in EVERY if not long(command)}
    return [command for word, command in typed.items() if word not in run_there]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_ten_minutes_print_what_the_page_shows(tmp_path: Path) -> None:
    draw_seven(tmp_path / "my_digit.png")
    printed, num_shown = "", 0
    for language, content in code_blocks(ten_minutes()):
        if language == "text":
            lines = [masked(line) for line in printed.splitlines()]
            wanted = [line for line in content.splitlines() if line.strip() != "…"]
            assert [w for w in wanted if not any(masked(w) in line for line in lines)] == [], printed
            num_shown += len(wanted)
            continue
        printed = ""
        for line in content.splitlines():
            command = shlex.join(shlex.split(line, comments=True))
            if "tensorboard" not in command:  # it doesn't end
                shown = in_terminal(started(command), columns=100, cwd=tmp_path, env=environment(tmp_path), seconds=600)
                assert shown.status == 0, shown.text
                printed += f"{shown.text}\n"
    assert num_shown >= 8


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", short_commands())
def test_the_short_commands_run(command: str, folder: Path) -> None:
    done = run(as_typed(command), folder)
    assert done.returncode == 0, done.stdout


def test_the_list_of_long_commands_holds_no_more_than_there_is() -> None:
    assert [pattern for pattern in LONG if not any(re.search(pattern, command) for command in EVERY)] == []
