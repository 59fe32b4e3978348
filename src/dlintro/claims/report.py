"""The page outputs/claims/report.html: the course in slide order, each claim with its verdict. It needs no network.

What the folders hold may be missing, unfinished or damaged: the page says so and goes on.
"""

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.claims import catalogue as claims
from dlintro.claims.catalogue import Experiment
from dlintro.claims.claim import Claim
from dlintro.claims.statements import FAILS, HOLDS, IN_PART, NOT_MEASURED, UNDECIDED, VERDICTS
from dlintro.errors import RunError, one_line
from dlintro.sweep.report import write
from dlintro.text import duration

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
EXPLORER_AFTER = "convolution"  # the claim that the convolution explorer follows; without it, the last one
NOT_YET, UNFINISHED, FAILED, DAMAGED = "not measured yet", "unfinished", "failed", "damaged"
BADGES = {  # the style's name and a sign: a verdict is never told by its colour alone
    HOLDS: ("holds", "✓"), IN_PART: ("part", "½"), FAILS: ("fails", "✗"), UNDECIDED: ("undecided", "?"),
    NOT_MEASURED: ("none", "–"), NOT_YET: ("none", "–"), UNFINISHED: ("none", "…"),
    FAILED: ("broken", "!"), DAMAGED: ("broken", "!"),
}  # fmt: skip
LOG_TAIL = 20_000  # bytes
MOST_COMMANDS = 4

Result = dict[str, Any]  # verdict.json


@dataclass(frozen=True)
class Picture:
    name: str
    caption: str
    png: str  # in base 64; "" where the file is damaged


@dataclass(frozen=True)
class Section:
    """A claim, and what became of it."""

    name: str
    claim: Claim
    verdict: str
    statements: Sequence[tuple[str, str, str]]  # (verdict, what it says, what was measured)
    warnings: Sequence[str]
    pictures: Sequence[Picture]
    result: Result  # {} where there is none


def write_report(folder: Path) -> Path:
    """Of outputs/claims, as it is now; returns the page."""
    sections = [section(folder / name, name, experiment) for name, experiment in claims.experiments().items()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "report.html", render(sections).encode())
    except OSError as error:
        raise RunError(f"{folder}: the report can't be written ({one_line(error)})") from error
    return folder / "report.html"


def section(folder: Path, name: str, experiment: Experiment) -> Section:
    claim = experiment.CLAIM
    verdict, result, warnings = outcome(folder, name, claim.seconds)
    told = [(found["verdict"], found["says"], found["measured"]) for found in result.get("statements", ())]
    known = {says for _, says, _ in told}
    missing = DAMAGED if verdict == DAMAGED else NOT_YET
    told += [(missing, statement.says, "") for statement in claim.statements if statement.says not in known]
    return Section(name, claim, verdict, told, warnings, pictures(folder), result)


def outcome(folder: Path, name: str, seconds: int) -> tuple[str, Result, list[str]]:
    """(the verdict or why there is none, verdict.json, what a reader must know of it)"""
    again = f"scripts/claims {name}"
    try:
        result = read_result(folder / "verdict.json")
    except ValueError as error:
        return DAMAGED, {}, [f"verdict.json is damaged ({error}); `scripts/claims --again {name}` measures anew."]
    if result:
        return result["verdict"], result, caveats(result, name)
    if (folder / "claim.log").is_file():
        return FAILED, {}, [f"The experiment failed: {last_line(folder / 'claim.log')}", f"`{again}` tries again."]
    if (folder / "setting.json").is_file():
        return UNFINISHED, {}, [f"The experiment was begun but not finished; `{again}` goes on where it stopped."]
    return NOT_YET, {}, [f"Not measured yet: `{again}` does it, in about {duration(seconds)}."]


def read_result(path: Path) -> Result:
    """{} where there is none; ValueError, with what is wrong, where it is damaged."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(type(error).__name__) from error
    if not isinstance(result, dict) or result.get("verdict") not in VERDICTS:
        raise ValueError("it holds no verdict")
    statements, setting, seconds = (result.get(key) for key in ("statements", "setting", "seconds"))
    if not isinstance(statements, list) or not all(map(is_finding, statements)):
        raise ValueError("its statements can't be read")
    if not isinstance(setting, dict) or not isinstance(seconds, int | float) or not 0 <= seconds < 1e9:
        raise ValueError("its setting can't be read")
    return result


def is_finding(found: Any) -> bool:
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in ("says", "measured")):
        return False
    return found.get("verdict") in VERDICTS


def caveats(result: Result, name: str) -> list[str]:
    found = []
    if result["setting"].get("quick"):
        found.append(f"Measured with --quick, on fewer seeds and images; `scripts/claims {name}` measures in full.")
    if result["setting"].get("code") != claims.code_hash(name):
        found.append(f"Measured by an earlier version of this experiment; `scripts/claims {name}` measures anew.")
    return found


def last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_TAIL))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError as error:
        lines = [f"claim.log can't be read ({type(error).__name__})"]
    return next((line.strip() for line in reversed(lines) if line.strip()), "claim.log is empty")[:500]


def pictures(folder: Path) -> list[Picture]:
    """The one that sums up comes last."""
    return [picture(path) for path in sorted(folder.glob("*.png"), key=lambda path: (path.stem == "effects", path))]


def picture(path: Path) -> Picture:
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()  # to its end
            caption = str(image.info.get("Title", ""))
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
        return Picture(path.stem, f"{path.name} is damaged", "")
    return Picture(path.stem, caption, base64.b64encode(content).decode())


def render(sections: Sequence[Section]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["code"] = code
    script = (HERE / "convolution.js").read_text(encoding="utf-8")
    names = [section.name for section in sections]
    return environment.get_template("report.html.jinja").render(
        sections=sections,
        badges=BADGES,
        counts=counted(section.verdict for section in sections),
        statement_counts=counted(verdict for section in sections for verdict, _, _ in section.statements),
        made_with=made_with(sections),
        is_quick=any(section.result and section.result["setting"].get("quick") for section in sections),
        explorer_after=EXPLORER_AFTER if EXPLORER_AFTER in names else "".join(names[-1:]),
        controls=controls(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        deck=deck(HERE / "deck.csv", names),
    )


def code(text: str) -> "Markup":
    """What stands in `backticks` as code; everything escaped."""
    from markupsafe import Markup

    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(p) if i % 2 else Markup.escape(p) for i, p in enumerate(parts)
    )


def counted(verdicts: Iterable[str]) -> dict[str, int]:
    """In the order of BADGES, without those that are nowhere."""
    found = list(verdicts)
    return {verdict: found.count(verdict) for verdict in BADGES if verdict in found}


def made_with(sections: Sequence[Section]) -> list[tuple[str, str]]:
    measured = [section for section in sections if section.result]
    if not measured:
        return []
    settings = [section.result["setting"] for section in measured]
    versions: dict[str, list[str]] = {}
    for setting in settings:
        told = setting.get("versions")
        for package, version in told.items() if isinstance(told, Mapping) else ():
            versions.setdefault(str(package), []).append(str(version))
    seconds = sum(section.result["seconds"] for section in measured)
    times = dict.fromkeys(str(s.result.get("date", ""))[:10] for s in measured)
    commands = list(dict.fromkeys(str(section.result.get("command", "")) for section in measured))
    more = f"; and {len(commands) - MOST_COMMANDS} more" if len(commands) > MOST_COMMANDS else ""
    return [
        ("measured", f"{', '.join(sorted(times))}; {len(measured)} claims in {seconds:,.0f} s"),
        ("device", "; ".join(dict.fromkeys(str(setting.get("device", "not told")) for setting in settings))),
        ("versions", ", ".join(f"{name} {' and '.join(dict.fromkeys(told))}" for name, told in versions.items())),
        ("command", "; ".join(filter(None, commands[:MOST_COMMANDS])) + more),
    ]


@dataclass(frozen=True)
class Control:
    """A slider of the convolution explorer, named as PyTorch names the argument."""

    name: str
    label: str
    low: int
    high: int
    value: int


def controls() -> tuple[Control, ...]:
    """As on the slide: 5 × 5 pixels and a border of 1, three input filters, two output filters, 7 → 3."""
    return (
        Control("size", "input size", 1, 8, 5),
        Control("kernel_size", "kernel size", 1, 5, 3),
        Control("padding", "padding", 0, 3, 1),
        Control("stride", "stride", 1, 4, 2),
        Control("dilation", "dilation", 1, 3, 1),
        Control("in_channels", "input filters", 1, 4, 3),
        Control("out_channels", "output filters", 1, 4, 2),
        Control("output_padding", "output padding", 0, 3, 0),
    )


def deck(path: Path, names: Sequence[str]) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    """(slide, claim, kind, experiment) of each of the course's statements; of the experiment (text, the claim's name
    where the text is one). [] where there is no table."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return []
    cells = [[row.get(key) or "" for key in ("slide", "claim", "kind", "experiment")] for row in rows]
    return [(slide, claim, kind, linked(experiment, names)) for slide, claim, kind, experiment in cells]


def linked(experiment: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """A claim's name counts where a list's item begins with it; elsewhere it may be a word like another."""
    parts = re.split(r"((?:^|(?<=; )|(?<=, ))[a-z][a-z_0-9]*(?![\w./=]))", experiment)
    return [(part, part if part in names else "") for part in parts if part]
