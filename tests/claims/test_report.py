"""Tests outputs/claims/report.html as a reader sees it, whatever is in the claims' folders."""

import base64
import hashlib
import html
import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from dlintro.claims import catalogue as claims
from dlintro.claims import report
from dlintro.claims.claim import Claim, Student
from dlintro.claims.report import DAMAGED, FAILED, NOT_YET, UNFINISHED, write_report
from dlintro.claims.statements import FAILS, HOLDS, IN_PART, NOT_MEASURED, SLIP, UNDECIDED, Exact
from tests.claims.browser import collected, dumped, needs_browser, with_driver

HOSTILE = "<script>alert(1)</script><img src=https://example.org/x onerror=alert(2)> & \"quoted\" 'so'"


def made_up(number: int, title: str) -> Claim:
    return Claim(
        title=title,
        slide=f"slide {number} {HOSTILE}",
        says=f"says {number} {HOSTILE} and `model.to('cuda')`",
        kind="identity",
        seconds=100,
        core=Exact(f"statement {number} {HOSTILE}", "quantity"),
        checks=(Exact(f"check {number} {HOSTILE}", "quantity"),),
        student=Student(f"predict {number} {HOSTILE}", f"change {number} {HOSTILE}", f"expected {number} {HOSTILE}"),
        notes=(f"note {number} {HOSTILE}",),
    )


@dataclass(frozen=True)
class Fake:
    CLAIM: Claim


CLAIMS = {
    "measured": made_up(1, "A claim that was measured"),
    "quick": made_up(2, "One measured with --quick"),
    "stale": made_up(3, "One measured before its file was changed"),
    "absent": made_up(4, "One that was not measured"),
    "failing": made_up(5, f"One that failed {HOSTILE}"),
    "begun": made_up(6, "One that was stopped"),
    "convolution": made_up(7, "The convolution"),
    "broken": made_up(8, "One whose results are damaged"),
    "wide": made_up(9, "Averylongwordwithoutanyplacetobreakitatall" * 3),
}


def result(name: str, verdict: str, quick: bool = False, code: str = "0123") -> dict[str, Any]:
    findings = [
        {"says": statement.says, "verdict": verdict, "measured": f"5 points ± 1 (n = 5) {name} {HOSTILE}"}
        for statement in CLAIMS[name].statements
    ]
    setting = {"quick": quick, "device": f"abacus {HOSTILE}", "versions": {"torch": "2.14.1"}, "code": code}
    command = f"scripts/claims {name}"
    told = {"verdict": verdict, "statements": findings, "setting": setting, "seconds": 12.5, "command": command}
    return {"claim": name, **told}


def put(folder: Path, name: str, file: str, content: object) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / file).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def put_picture(folder: Path, name: str, caption: str) -> None:
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Title", caption)
    Image.new("RGB", (640, 400), "white").save(folder / name, pnginfo=facts)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One folder of each kind."""
    monkeypatch.setattr(claims, "experiments", lambda: {name: Fake(claim) for name, claim in CLAIMS.items()})
    monkeypatch.setattr(claims, "code_hash", lambda name: "0123")
    put(tmp_path, "measured", "verdict.json", result("measured", HOLDS))
    put_picture(tmp_path / "measured", "picture.png", f"a caption {HOSTILE}")
    put(tmp_path, "measured", "damaged.png", "no picture")
    put(tmp_path, "measured", "cut.png", "")
    (tmp_path / "measured" / "cut.png").write_bytes((tmp_path / "measured" / "picture.png").read_bytes()[:200])
    put(tmp_path, "quick", "verdict.json", result("quick", UNDECIDED, quick=True))
    put(tmp_path, "stale", "verdict.json", result("stale", FAILS, code="other"))
    put(tmp_path, "failing", "claim.log", f"Traceback ...\nRuntimeError: no memory {HOSTILE}\n\n")
    put(tmp_path, "begun", "setting.json", {})
    put(tmp_path, "convolution", "verdict.json", result("convolution", IN_PART))
    put(tmp_path, "broken", "verdict.json", '{"verdict": "holds", "stat')
    put(tmp_path, "wide", "verdict.json", result("wide", NOT_MEASURED))
    return tmp_path


def words(page: str) -> str:
    """Return the page's text without markup."""
    bare = re.sub(r"<style.*?</style>|<script.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(bare).split())


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?</section>', page, re.DOTALL)
    assert found, name
    return words(found[0])


def written(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def test_every_claim_is_a_section_in_the_slides_order_with_its_verdict(folder: Path) -> None:
    page = written(folder)
    assert re.findall(r'<section id="(\w+)" class="claim">', page) == list(CLAIMS)
    verdicts = (HOLDS, UNDECIDED, FAILS, NOT_YET, FAILED, UNFINISHED, IN_PART, DAMAGED, NOT_MEASURED)
    top = words(page.split("<section", 1)[0])
    for (name, claim), verdict in zip(CLAIMS.items(), verdicts, strict=True):
        assert verdict in section(page, name).split("Slide:")[0]
        assert " ".join(claim.title.split()) in top
    assert "Of the course's 9 claims, 1 holds, 1 holds in part, 1 does not hold here, 1 is undecided, " in top
    assert "1 is unfinished, 1 failed and 1 is damaged." in top


def test_checks_are_folded_and_a_slip_is_shown_beside_the_verdict(folder: Path) -> None:
    found = result("measured", HOLDS)
    slip = {"role": "stated", "says": "the slide's numbers", "verdict": SLIP, "measured": "Only 1 of 2."}
    same = {"role": "check", "says": "identical settings", "verdict": HOLDS, "measured": "No difference."}
    put(folder, "measured", "verdict.json", found | {"statements": [*found["statements"], slip, same]})
    page = written(folder)
    shown, folded = page.split('<section id="measured"')[1].split("</section>")[0].split("<details>")
    assert "statement 1 " in words(shown) and "the slide's numbers" in words(shown) and "check 1 " not in words(shown)
    assert words(folded).startswith("Checks: 2 hold") and "identical settings" in words(folded)
    heading = words(re.search(r"<h2>.*?</h2>", shown, re.DOTALL)[0])
    assert heading.endswith("✓ holds ≠ slip")
    assert "slip" not in section(page, "quick").split("Slide:")[0]


def test_every_line_of_a_claim_is_there_and_none_of_it_is_markup(folder: Path) -> None:
    page = written(folder)
    for name, claim in CLAIMS.items():
        text = section(page, name)
        student = claim.student
        lines = [statement.says for statement in claim.statements] + [*claim.notes, claim.slide]
        for line in [*lines, student.predict, student.change, student.expected, claim.says.replace("`", "")]:
            assert " ".join(line.split()) in re.sub(r" (?=model\.to)", " ", text), (name, line)
        assert f"scripts/claims {name}" in text
    assert "<code>model.to(&#39;cuda&#39;)</code>" in page
    assert f"(n = 5) measured {HOSTILE}" in section(page, "measured")
    assert "abacus" in words(page) and "torch 2.14.1" in words(page)


def test_what_was_not_measured_in_full_says_so(folder: Path) -> None:
    page = written(folder)
    assert "Measured with --quick" in section(page, "quick")
    assert "Measured with --quick" not in section(page, "measured")
    assert "earlier version" in section(page, "stale")
    assert "not measured yet" in section(page, "absent") and "2 min" in section(page, "absent")
    assert f"RuntimeError: no memory {HOSTILE}" in section(page, "failing")
    assert "scripts/claims begun resumes it" in section(page, "begun")
    assert "verdict.json is damaged" in section(page, "broken")


def test_pictures_are_in_the_page_with_their_captions_and_damaged_ones_are_named(folder: Path) -> None:
    page = written(folder)
    png = base64.b64encode((folder / "measured" / "picture.png").read_bytes()).decode()
    assert page.count("data:image/png;base64,") == 1 and png in page
    text = section(page, "measured")
    assert f"a caption {HOSTILE}" in text
    assert "damaged.png is damaged" in text and "cut.png is damaged" in text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        "\x00",
        "[" * 100_000,
        '{"verdict": "proved"}',
        '{"verdict": ["holds"]}',
        '{"verdict": "holds", "statements": [{}], "setting": {}, "seconds": 1}',
        '{"verdict": "holds", "statements": [], "setting": [], "seconds": 1}',
        '{"verdict": "holds", "statements": [], "setting": {}, "seconds": NaN}',
        '{"verdict": "holds", "statements": {"a": 1}, "setting": {}, "seconds": 1}',
    ],
)
def test_a_damaged_verdict_is_named_and_the_page_goes_on(folder: Path, content: str) -> None:
    put(folder, "measured", "verdict.json", content)
    page = written(folder)
    assert DAMAGED in section(page, "measured") and "holds" not in section(page, "measured").split("Slide:")[0]
    assert all(statement.says in section(page, "measured") for statement in CLAIMS["measured"].statements)


def test_strange_folders_are_no_obstacle(folder: Path) -> None:
    strange = result("measured", HOLDS)
    strange["setting"] = {"versions": "none", "device": ["x"], "quick": "yes"}
    strange["command"] = None
    put(folder, "measured", "verdict.json", strange)
    (folder / "absent").write_text("a file where a folder should be")
    (folder / "begun" / "verdict.json").mkdir()
    (folder / "failing" / "claim.log").write_bytes(b"\xff\xfe\n")
    page = written(folder)
    assert NOT_YET in section(page, "absent") and DAMAGED in section(page, "begun")


class References(HTMLParser):
    """Collects what a page would fetch, run or link to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("iframe", "object", "embed", "base", "form", "link", "video", "audio", "svg"), tag
        self.scripts += tag == "script"
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "srcset", "action", "poster", "data", "background"):
                self.found.append(value or "")


def test_the_page_refers_to_nothing_outside_it_and_runs_one_script(folder: Path) -> None:
    page = written(folder)
    references = References(page)
    assert references.found and references.scripts == 1
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references.found)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(set(ids)) == len(ids)
    targets = {reference[1:] for reference in references.found if re.fullmatch(r"#[\w-]+", reference)}
    assert targets <= set(ids)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style and "url(" not in style[1] and "@import" not in style[1]


def test_the_policy_allows_that_script_alone(folder: Path) -> None:
    page = written(folder)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert script and policy
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert "default-src 'none'" in policy[1] and f"script-src 'sha256-{digest}'" in policy[1]
    assert page.index("Content-Security-Policy") < page.index("<script>")


def test_the_deck_table_leads_to_the_experiments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deck = folder / "deck.csv"
    monkeypatch.setattr(report, "deck", lambda path, names, real=report.deck: real(deck, names))
    assert 'id="deck"' not in written(folder)
    rows = [
        "Slide A,<b>bold</b> `code`,identity,measured",
        'Slide A,b,measured,"quick; data.shape=x makes absent ones"',
    ]
    deck.write_text("\n".join(["slide,claim,kind,experiment", *rows, "Slide B,c,opinion,none: measured.py", "short"]))
    page = written(folder)
    table = page[page.index('<section id="deck"') :].split("</section>")[0]
    assert re.findall(r'<a href="#(\w+)">\w+</a>', table.split("</table>")[0]) == ["measured", "quick"]
    assert "<b>" not in table and "<code>code</code>" in table and table.count("Slide A") == 1
    assert "none: measured.py" in words(table)


def test_the_real_claims_have_their_place_before_anything_is_measured(tmp_path: Path) -> None:
    page = written(tmp_path / "new" / "claims")
    for name, experiment in claims.experiments().items():
        text = section(page, name)
        for statement in experiment.CLAIM.statements:
            assert " ".join(statement.says.replace("`", "").split()) in text
    assert page.count('id="convolution-explorer"') == 1
    assert "H. Fuat Alsan" in words(page) and words(page).count("H. Fuat Alsan") == 1


# ---- in a browser

WIDTHS = """
    addEventListener("load", () => {
      const isWide = (element) => element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".stack");
      const wide = [...document.querySelectorAll("body *")].filter(isWide).map((e) => `${e.tagName}.${e.className}`);
      const page = document.documentElement;
      parent.postMessage([page.scrollWidth, innerWidth, wide.slice(0, 5), getComputedStyle(page).fontSize], "*");
    });
"""
FRAME = """<!doctype html><body><script>
    addEventListener("message", (event) => {
      const told = document.createElement("pre");
      told.id = "collected";
      told.textContent = JSON.stringify(event.data);
      document.body.append(told);
    });
    </script><iframe style="border:0;width:WIDTHpx;height:900px" src="driven.htmlHASH"></iframe>"""


@pytest.mark.browser
@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(folder: Path, width: int) -> None:
    widest = "#convolution?size=8&kernel_size=5&stride=4&dilation=3&in_channels=4&out_channels=4&transposed=1"
    with_driver(write_report(folder), WIDTHS)
    for hash_ in ("", widest):
        frame = FRAME.replace("WIDTH", str(width)).replace("HASH", html.escape(hash_))
        (folder / "frame.html").write_text(frame, encoding="utf-8")
        document, _ = dumped(folder / "frame.html", size="1400,900")
        scroll_width, inner_width, too_wide, font_size = collected(document)
        assert (scroll_width, inner_width, too_wide) == (width, width, [])
        assert float(font_size.removesuffix("px")) >= (19 if width == 1280 else 15)


@pytest.mark.browser
@needs_browser
def test_the_console_stays_empty_and_the_script_runs_under_its_policy(folder: Path) -> None:
    document, console = dumped(write_report(folder))
    assert console == []
    assert "nn.Conv2d(3, 2, kernel_size=3, stride=2, padding=1)" in document
