"""report.html in a browser: what is seen at two widths, what the pointer and the switches do, and who can read it."""

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dlintro.sweep.report import write_report
from tests.claims.browser import collected, dumped, needs_browser
from tests.sweep.fake import write_sweep

pytestmark = needs_browser
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a sweep with everything on it, of a small one, and of one with many keys and long names."""
    home = tmp_path_factory.mktemp("pages")
    lost = {2: {"status": "failed", "error": "ValueError: " + "a long reason " * 20}, 25: {"status": "diverged"}}
    sizes = {"data.batch_size": [8, 32, 128, 512, 2048], "optim.lr_rule": ["none", "linear"], "seed": [0, 1, 2]}
    small = {"data.batch_size": [32, 64], "seed": [0, 1]}
    keys = {
        "model": ["flatnet", "mnist_cnn"],
        "optim.lr": [0.01, 0.1],
        "data.train_size": [5000, 10000],
        "seed": [0, 1],
    }
    sweeps = {
        "large": write_sweep(home / "large", sizes, b_crit=900, changed=lost),
        "small": write_sweep(home / "small", small),
        "keys": write_sweep(home / ("a-long-name-" * 6), keys),
    }
    return {name: write_report([folder], folder) for name, folder in sweeps.items()}


def driven(page: Path, script: str, *changes: tuple[str, str]) -> Any:
    """What the script collects in a copy of the page that lets it run."""
    text = page.read_text(encoding="utf-8")
    for old, new in ((POLICY, "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"), *changes):
        assert old in text
        text = text.replace(old, new)
    collect = "const done = found => { const pre = document.createElement('pre'); pre.id = 'collected';"
    collect += "pre.textContent = JSON.stringify(found); document.body.append(pre); };"
    copy = page.with_name("driven.html")
    copy.write_text(text.replace("</body>", f"<script>{collect}{script}</script></body>"), encoding="utf-8")
    return collected(dumped(copy)[0])


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["large", "small", "keys"])
def test_nothing_is_wider_than_the_page(pages: dict[str, Path], name: str, width: int) -> None:
    """In a frame, because a browser's window has a least width. The folded tables scroll in boxes of their own."""
    frame = pages[name].with_name("frame.html")
    inner = pages[name].read_text(encoding="utf-8").replace("<details", "<details open")
    pages[name].with_name("inner.html").write_text(
        inner.replace(POLICY, "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:").replace(
            "</body>",
            "<script>const root = document.documentElement; const wide = [...document.querySelectorAll('table.short')];"
            "parent.postMessage([root.clientWidth, root.scrollWidth, ...wide.map(table => table.scrollWidth)], '*')"
            "</script></body>",
        ),
        encoding="utf-8",
    )
    frame.write_text(
        "<body><script>addEventListener('message', event => { const pre = document.createElement('pre');"
        "pre.id = 'collected'; pre.textContent = JSON.stringify(event.data); document.body.append(pre); });</script>"
        f'<iframe src="inner.html" style="width: {width}px; height: 900px; border: 0"></iframe></body>'
    )
    client, scrolled, *tables = collected(dumped(frame, size="1600,1000")[0])
    assert width - 20 <= client <= width and scrolled <= client
    assert tables and max(tables) <= client


def test_the_picture_says_its_values_and_switches_its_lines(pages: dict[str, Path]) -> None:
    """Both without a script of the page's: the test's own clicks a box and asks what is drawn."""
    found = driven(
        pages["large"],
        """
        const main = document.querySelector('#main'), shown = () => ['.l0', '.l1'].map(
            name => [...main.querySelectorAll(name)].filter(e => getComputedStyle(e).display !== 'none').length);
        const before = shown();
        main.querySelector('.t0').click();
        const lines = [...main.querySelectorAll('.switches label')].map(label => label.textContent.trim());
        const values = [...main.querySelectorAll('.value text')].map(text => text.textContent);
        done({before, after: shown(), lines, values, svg: document.querySelectorAll('svg').length});
        """,
    )
    assert found["lines"] == ["lr rule none", "lr rule linear"]
    assert min(found["before"]) > 5 and found["after"] == [0, found["before"][1]]
    assert len(found["values"]) == 10
    assert all(re.search(r"lr rule \w+, batch size \d+.*\d\d\.\d\d.*n = \d", value) for value in found["values"])


def test_the_page_is_small_and_its_pictures_are_drawn_once(pages: dict[str, Path]) -> None:
    for page in pages.values():
        assert page.stat().st_size < 1e6
        ids = re.findall(r' id="([^"]+)"', page.read_text(encoding="utf-8"))
        assert len(ids) == len(set(ids))


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core, the usual checker of what people with a screen reader or weak eyes can use."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here, which brings axe-core")
    home = tmp_path_factory.mktemp("axe")
    got = subprocess.run(["npm", "pack", "axe-core@4.14.1"], cwd=home, capture_output=True, text=True, timeout=120)
    archives = list(home.glob("axe-core-*.tgz"))
    if got.returncode or not archives:
        pytest.skip(f"npm can't bring axe-core: {got.stderr.strip().splitlines()[-1:]}")
    with tarfile.open(archives[0]) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["large", "small", "keys"])
def test_axe_finds_nothing_to_mend(pages: dict[str, Path], axe: str, name: str, scheme: str) -> None:
    """With everything unfolded: headings in order, names, contrast of WCAG's level AA, tables, the keyboard."""
    run = (
        "axe.run(document, {resultTypes: ['violations']}).then(found => done({passes: found.passes.length, violations:"
    )
    run += "found.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 150) + ' ' + n.failureSummary)])}));"
    dark = [("@media (prefers-color-scheme: dark)", "@media all")] if scheme == "dark" else []
    found = driven(pages[name], axe + ";" + run, ("<details", "<details open"), *dark)
    assert found["violations"] == [], json.dumps(found["violations"], indent=1)
    assert found["passes"] > 15
