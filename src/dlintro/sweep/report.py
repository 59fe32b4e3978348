"""The command `scripts/report`: writes summary.csv, settings.csv, plots/ and report.html (page.py) of sweeps and runs.

numpy, scipy and matplotlib are imported inside the functions, so that --help and a slip are answered in a fraction of a
second.
"""

import argparse
import csv
import io
import re
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.command import Parser, exit_status, split_words
from dlintro.errors import RunError, UsageError, one_line
from dlintro.reader import MOST_SWEEP_BYTES, read_text
from dlintro.run.named import find_run, outputs_folder
from dlintro.settings.limits import is_known, read_value, unknown
from dlintro.target import falls
from dlintro.text import shown_path

if TYPE_CHECKING:
    from dlintro.sweep.groups import Study


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: report(sys.argv[1:] if argv is None else argv))


def report(argv: Sequence[str]) -> int:
    given, words = split_words(argv, lambda key: re.fullmatch(r"\+*[a-z_]+(\.[a-z_]+)*", key) is not None)
    arguments = parser().parse_args(words)
    target = parsed(given)
    folders = [find_run(folder) for folder in arguments.folders]
    page = write_report(folders, Path(arguments.out) if arguments.out else home(folders), target)
    print(f"report: {shown_path(page)}")
    return 0


def parser() -> argparse.ArgumentParser:
    parser = Parser("scripts/report", "Writes summary.csv, settings.csv, plots/ and report.html of sweeps and runs.")
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", help="a sweep or a run: its folder, its name or a part of it, or last"
    )
    parser.add_argument("--out", metavar="DIR", help="where to; default: the sweep, or a new folder in outputs/reports")
    parser.usage = "scripts/report DIR ... [--out DIR] [target.value=VALUE] [target.metric=NAME]"
    parser.epilog = "target.value and target.metric, as in scripts/train: the target instead of the runs' own."
    return parser


def parsed(given: Mapping[str, str]) -> tuple[str, float | None]:
    """(metric, value) of the target on the command line, "" and None where not given; UsageError for a wrong word."""
    for key in given:
        if key not in ("target.metric", "target.value"):
            here = f"{key}: a report takes only target.value and target.metric"
            raise UsageError(here if is_known(key) else unknown(key))
    values = {key: read_value(key, text) for key, text in given.items()}
    metric, value = values.get("target.metric", ""), values.get("target.value")
    if metric and value is None:
        raise UsageError(f"target.metric={metric}: give target.value too")
    if value is not None and value > 1 and not falls(metric or "val/acc"):
        raise UsageError(f"target.value={value:g}: an accuracy is a share, 0 to 1; for {value:g} % {value / 100:g}")
    return metric, value


def home(folders: Sequence[Path]) -> Path:
    """One sweep's report lies in its folder, any other in one of its own."""
    if len(folders) == 1 and (folders[0] / "sweep.json").is_file():
        return folders[0]
    return outputs_folder() / "reports" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def write_report(folders: Sequence[Path], out: Path, target: tuple[str, float | None] | None = None) -> Path:
    """Reports on sweep folders and run folders as they are now, and returns the page. UsageError for a folder that is
    neither. `target`: (metric, value) instead of the runs' own; a value of None keeps theirs, and so does an empty
    metric."""
    from dlintro.sweep.groups import study
    from dlintro.sweep.runs import read

    return write_study(study(*read(folders), target), folders, out, target)


def write_study(
    found: "Study", folders: Sequence[Path], out: Path, target: tuple[str, float | None] | None = None
) -> Path:
    """`write_report` for a study that has been read from the folders already."""
    from dlintro.sweep.figures import pictures
    from dlintro.sweep.page import render
    from dlintro.sweep.svg import inline

    if (out / "plots").is_symlink():
        raise UsageError(
            f"{out / 'plots'}: a link, by which a received sweep could overwrite pictures "
            f"elsewhere; remove it, or type --out DIR"
        )
    try:
        (out / "plots").mkdir(parents=True, exist_ok=True)
        write(out / "summary.csv", as_csv(summary_rows(found)))
        write(out / "settings.csv", as_csv(settings_rows(found)))
        shown = []
        for picture in pictures(found):
            png = io.BytesIO()
            picture.figure.savefig(png, format="png")
            write(out / "plots" / f"{picture.name}.png", png.getvalue())
            shown.append((picture.name, picture.caption, inline(picture.figure, picture.name)))
        stale = old_pictures(out / "report.html") - {name for name, _, _ in shown}
        again = repeat(found, folders, target is not None and target[1] is not None)
        write(out / "report.html", render(found, shown, again).encode(errors="backslashreplace"))
        for name in stale:
            (out / "plots" / f"{name}.png").unlink(missing_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out {out}: a file is in the way; name another folder") from error
    except OSError as error:
        raise RunError(f"{out}: the report can't be written ({one_line(error)})") from error
    return out / "report.html"


def old_pictures(page: Path) -> set[str]:
    """Names of the plots that an earlier report in the same place shows: nobody else's pictures are removed."""
    try:
        text = read_text(page, MOST_SWEEP_BYTES)
    except RunError:  # there is none, or it is no page of ours
        return set()
    return set(re.findall(r'<figure id="([A-Za-z0-9][A-Za-z0-9.-]*)">', text))


def write(path: Path, content: bytes) -> None:
    """Whole or not at all: whoever reads the old one meanwhile is not disturbed."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with partial.open("xb") as file:  # no link that somebody has put there
        file.write(content)
    partial.replace(path)


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """None is an empty cell: a missing number is no zero."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")  # a folder's name may hold bytes that are no text


def summary_rows(study: "Study") -> list[dict[str, Any]]:
    """One per run, whatever became of it."""
    from dlintro.sweep.runs import FIGURES

    return [
        {"name": run.name, "status": run.status, "error": run.error, "at_chance": run.at_chance or None}
        | {key: run.leaves.get(key) for key in study.keys}
        | {"seed": run.seed}
        | {name: run.figures.get(name) for name in FIGURES}
        | {"target/metric": study.target.metric, "target/value": study.target.value}
        | {"device": run.record.get("device"), "config_hash": run.record.get("config_hash")}
        for run in study.runs
    ]


def settings_rows(study: "Study") -> list[dict[str, Any]]:
    """One per setting: mean, sd and n of each figure over its ok runs, how many runs there are of each status, and how
    many are not ok."""
    from dlintro.sweep.runs import BAD, FIGURES

    rows = []
    for setting in study.settings:
        row = {"setting": setting.label(), **setting.values, "runs": len(setting.runs), "lost": len(setting.lost)}
        row |= {status: setting.count(status) for status in ("ok", *BAD)}
        for name in FIGURES:
            stat = setting.stat(name)
            row |= {f"{name} mean": stat.mean, f"{name} sd": stat.sd, f"{name} n": stat.n or None}
        rows.append(row)
    return rows


def repeat(study: "Study", folders: Sequence[Path], with_target: bool) -> list[tuple[str, str]]:
    """Commands, and what they do."""
    from dlintro.sweep.answer import answers

    whole = all(run.status == "ok" for run in study.runs)
    resumes = "adds jobs if you add values; the finished jobs stay" if whole else "resumes the sweep where it stopped"
    commands = [(sweep.command, resumes) for sweep in study.sweeps if sweep.command]
    best = next((answer.best for answer in answers(study) if answer.best), None)
    ok = best.ok[0] if best else next((run for run in study.runs if run.status == "ok"), None)
    if ok is not None:
        code = ok.leaves.get("model.path")  # never taken from a record
        again = f"scripts/train rerun={shown_path(ok.folder)}" + (
            f" model.path={shlex.quote(str(code))}" if code else ""
        )
        commands.append((again, "repeats a run of the best setting" if best else "repeats one of the runs"))
    shown = " ".join(shown_path(folder) for folder in folders[:4]) + (" ..." if len(folders) > 4 else "")
    shown += f" target.metric={study.target.metric} target.value={study.target.value:g}" if with_target else ""
    return [*commands, (f"scripts/report {shown}", "makes this page again")]
