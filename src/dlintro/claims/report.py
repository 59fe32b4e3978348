"""Writes outputs/claims/report.html: the claims in the slides' order, each with its verdict. The page needs no network.

A claim's folder may be missing, unfinished or damaged. The page says so and shows the other claims.
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
from dlintro.claims.sentences import in_words
from dlintro.claims.statements import (
    CHECK_FAILED,
    FAILS,
    HOLDS,
    IN_PART,
    NOT_MEASURED,
    SLIP,
    UNDECIDED,
    VERDICTS,
)
from dlintro.claims.verdict import CHECK
from dlintro.errors import RunError, one_line
from dlintro.sweep.report import write
from dlintro.text import duration

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
EXPLORER_AFTER = "convolution"  # the convolution explorer follows this claim, or else the last one
NOT_YET, UNFINISHED, FAILED, DAMAGED = "not measured yet", "unfinished", "failed", "damaged"
BADGES = {  # style and sign; the sign makes a verdict readable without its colour
    HOLDS: ("holds", "✓"), IN_PART: ("part", "½"), FAILS: ("fails", "✗"), UNDECIDED: ("undecided", "?"),
    NOT_MEASURED: ("none", "–"), SLIP: ("part", "≠"), CHECK_FAILED: ("broken", "!"),
    NOT_YET: ("none", "–"), UNFINISHED: ("none", "…"), FAILED: ("broken", "!"), DAMAGED: ("broken", "!"),
}  # fmt: skip
LOG_TAIL = 20_000  # bytes
MOST_COMMANDS = 4

Result = dict[str, Any]  # verdict.json


@dataclass(frozen=True)
class Picture:
    name: str
    caption: str
    png: str  # in base 64, or "" if the file is damaged


@dataclass(frozen=True)
class Section:
    """A claim and its results."""

    name: str
    claim: Claim
    verdict: str
    statements: Sequence[tuple[str, str, str]]  # (verdict, what it says, what was measured); the core comes first
    checks: Sequence[tuple[str, str, str]]
    warnings: Sequence[str]
    pictures: Sequence[Picture]
    result: Result  # {} if there is none

    @property
    def has_slip(self) -> bool:
        return any(verdict == SLIP for verdict, _, _ in self.statements)

    @property
    def check_counts(self) -> dict[str, int]:
        return counted(verdict for verdict, _, _ in self.checks)


def write_report(folder: Path) -> Path:
    """Write the page for a folder such as outputs/claims, and return its path. Raises RunError if it can't."""
    sections = [section(folder / name, name, experiment) for name, experiment in claims.experiments().items()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / "report.html", render(sections).encode())
    except OSError as error:
        raise RunError(f"{folder}: can't write the report ({one_line(error)})") from error
    return folder / "report.html"


def section(folder: Path, name: str, experiment: Experiment) -> Section:
    claim = experiment.CLAIM
    verdict, result, warnings = outcome(folder, name, claim.seconds)
    findings = {found["says"]: found for found in result.get("statements", ())}
    missing = {"verdict": DAMAGED if verdict == DAMAGED else NOT_YET, "measured": ""}
    findings |= {s.says: missing | {"says": s.says} for s in claim.statements if s.says not in findings}
    is_check = {found["says"] for found in findings.values() if found.get("role") == CHECK}
    is_check |= {statement.says for statement in claim.checks}
    told: dict[bool, list[tuple[str, str, str]]] = {True: [], False: []}
    for says, found in findings.items():
        told[says in is_check].append((found["verdict"], says, found["measured"]))
    return Section(name, claim, verdict, told[False], told[True], warnings, pictures(folder), result)


def outcome(folder: Path, name: str, seconds: int) -> tuple[str, Result, list[str]]:
    """Return the verdict (or why there is none), verdict.json, and warnings for the reader."""
    again = f"scripts/claims {name}"
    try:
        result = read_result(folder / "verdict.json")
    except ValueError as error:
        return (
            DAMAGED,
            {},
            [f"verdict.json is damaged: {error}. `scripts/claims --again {name}` measures again."],
        )
    if result:
        return result["verdict"], result, caveats(result, name)
    if (folder / "claim.log").is_file():
        return FAILED, {}, [f"The experiment failed: {last_line(folder / 'claim.log')}", f"`{again}` tries again."]
    if (folder / "setting.json").is_file():
        return UNFINISHED, {}, [f"The experiment was started but not finished. `{again}` resumes it."]
    return NOT_YET, {}, [f"This claim is not measured yet. `{again}` measures it in about {duration(seconds)}."]


def read_result(path: Path) -> Result:
    """Read verdict.json, or return {} if there is none. Raises ValueError that says what is damaged."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(type(error).__name__) from error
    if not isinstance(result, dict) or result.get("verdict") not in VERDICTS:
        raise ValueError("it has no verdict")
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
        found.append(f"Measured with `--quick`, on fewer seeds and images. `scripts/claims {name}` measures in full.")
    if result["setting"].get("code") != claims.code_hash(name):
        found.append(f"Measured by an earlier version of this experiment. `scripts/claims {name}` measures again.")
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
    """Return the pictures in a folder; the summary of all effects comes last."""
    return [picture(path) for path in sorted(folder.glob("*.png"), key=lambda path: (path.stem == "effects", path))]


def picture(path: Path) -> Picture:
    from PIL import Image

    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            image.load()  # reads the file to its end
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
        statement_counts=counted(
            verdict for section in sections for verdict, _, _ in (*section.statements, *section.checks)
        ),
        in_words=in_words,
        made_with=made_with(sections),
        is_quick=any(section.result and section.result["setting"].get("quick") for section in sections),
        explorer_after=EXPLORER_AFTER if EXPLORER_AFTER in names else "".join(names[-1:]),
        controls=controls(),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        deck=deck(HERE / "deck.csv", names),
    )


def code(text: str) -> "Markup":
    """Mark up words in `backticks` as code, and escape everything."""
    from markupsafe import Markup

    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(p) if i % 2 else Markup.escape(p) for i, p in enumerate(parts)
    )


def counted(verdicts: Iterable[str]) -> dict[str, int]:
    """Count the verdicts, in the order of BADGES, without those that don't occur."""
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
    num = "1 claim" if len(measured) == 1 else f"{len(measured)} claims"
    more = f" and {len(commands) - MOST_COMMANDS} more" if len(commands) > MOST_COMMANDS else ""
    return [
        (
            "measured on",
            f"{', '.join(sorted(times))}, {num} in {duration(seconds)}",
        ),
        ("device", "; ".join(dict.fromkeys(str(setting.get("device", "unknown")) for setting in settings))),
        ("versions", ", ".join(f"{name} {' and '.join(dict.fromkeys(told))}" for name, told in versions.items())),
        ("command", "; ".join(filter(None, commands[:MOST_COMMANDS])) + more),
    ]


@dataclass(frozen=True)
class Control:
    """A slider of the convolution explorer, with PyTorch's name of the argument."""

    name: str
    label: str
    low: int
    high: int
    value: int


def controls() -> tuple[Control, ...]:
    """Return the sliders, set as on the slide: 5 × 5 pixels, a border of 1, three input channels, two filters."""
    return (
        Control("size", "input size", 1, 8, 5),
        Control("kernel_size", "kernel size", 1, 5, 3),
        Control("padding", "padding", 0, 3, 1),
        Control("stride", "stride", 1, 4, 2),
        Control("dilation", "dilation", 1, 3, 1),
        Control("in_channels", "input channels", 1, 4, 3),
        Control("out_channels", "output filters", 1, 4, 2),
        Control("output_padding", "output padding", 0, 3, 0),
    )


def deck(path: Path, names: Sequence[str]) -> list[tuple[str, str, str, list[tuple[str, str]]]]:
    """Return (slide, claim, kind, experiment) for each statement of the course, or [] if there is no table. The
    experiment is a list of texts, each with the claim's name if the text is one."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except FileNotFoundError:
        return []
    cells = [[row.get(key) or "" for key in ("slide", "claim", "kind", "experiment")] for row in rows]
    return [(slide, claim, kind, linked(experiment, names)) for slide, claim, kind, experiment in cells]


def linked(experiment: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Split a text at the claims' names. A name counts only at the start of a list's item; elsewhere it is a word."""
    parts = re.split(r"((?:^|(?<=; )|(?<=, ))[a-z][a-z_0-9]*(?![\w./=]))", experiment)
    return [(part, part if part in names else "") for part in parts if part]
