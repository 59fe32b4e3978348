"""The command `scripts/report`: of sweeps and runs summary.csv, settings.csv, plots/ and a self-contained report.html.

numpy, scipy and matplotlib are imported inside the functions: --help and a slip are answered in a fraction of a second.
"""

import argparse
import base64
import csv
import io
import os
import re
import secrets
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlintro.command import Parser, exit_status, split_words
from dlintro.commands.named import find_run
from dlintro.errors import RunError, UsageError, one_line
from dlintro.reader import MOST_SWEEP_BYTES, read_text
from dlintro.settings.limits import is_known, read_value, unknown
from dlintro.target import falls
from dlintro.text import shown_path

if TYPE_CHECKING:
    from dlintro.sweep.groups import Setting, Study
    from dlintro.sweep.runs import Run

BAD = ("failed", "oom", "diverged", "interrupted", "unavailable", "damaged")
# The columns of the page's tables where any run has them; the CSV files have all figures.
COLUMNS = (
    "best/val/acc", "best/test/acc", "test/acc", "gap", "steps_to_target", "images_to_target", "seconds_to_target",
    "seconds_per_epoch", "train/images_per_second", "ram_peak_bytes", "device_peak_bytes", "noise_scale",
)  # fmt: skip


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
    outputs = Path(os.environ.get("DLINTRO_OUTPUTS", "outputs"))
    return outputs / "reports" / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def write_report(folders: Sequence[Path], out: Path, target: tuple[str, float | None] | None = None) -> Path:
    """Of sweep folders and run folders, as they are now; returns the page. UsageError for a folder that is neither.
    `target`: (metric, value) instead of the runs' own, where the value is not None; of an empty metric, at theirs."""
    from dlintro.sweep.figures import pictures
    from dlintro.sweep.groups import study
    from dlintro.sweep.runs import read

    found = study(*read(folders), target)
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
            shown.append((picture.name, picture.caption, base64.b64encode(png.getvalue()).decode()))
        stale = old_pictures(out / "report.html") - {name for name, _, _ in shown}
        write(out / "report.html", render(found, folders, shown, target).encode())
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
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("xb") as file:  # no link that somebody has put there
        file.write(content)
    partial.replace(path)


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """None is an empty cell: a missing number is no zero."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


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
    from dlintro.sweep.runs import FIGURES

    rows = []
    for setting in study.settings:
        row = {"setting": setting.label(), **setting.values, "runs": len(setting.runs), "lost": len(setting.lost)}
        row |= {status: setting.count(status) for status in ("ok", *BAD)}
        for name in FIGURES:
            stat = setting.stat(name)
            row |= {f"{name} mean": stat.mean, f"{name} sd": stat.sd, f"{name} n": stat.n or None}
        rows.append(row)
    return rows


def render(
    study: "Study",
    folders: Sequence[Path],
    pictures: Sequence[tuple[str, str, str]],
    asked: tuple[str, float | None] | None,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from dlintro.sweep import compare, words
    from dlintro.sweep.groups import spoken
    from dlintro.sweep.runs import FIGURES

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    columns = [name for name in COLUMNS if study.some(name)]
    found = compare.compared(study)
    return environment.get_template("report.html.jinja").render(
        title=words.title(study),
        created=", ".join(sweep.created for sweep in study.sweeps if sweep.created),
        commands=[sweep.command for sweep in study.sweeps if sweep.command],
        counts={status: study.number_of(status) for status in dict.fromkeys(run.status for run in study.runs)},
        run=words.what_was_run(study),
        claims=compare.claims(found, study),
        rates=compare.preferences(found),
        fastest=compare.fastest(found, study),
        method=compare.METHOD,
        target=words.target_sentences(study),
        fits=words.fit_rows(study),
        timing=words.most_at_once(study),
        columns=[FIGURES[name][0] for name in columns],
        keys=[spoken(key) for key in study.keys],
        settings=[setting_row(setting, columns) for setting in study.settings],
        pictures=pictures,
        failures=[(run.name, run.status, run.error) for run in study.runs if run.status in BAD],
        jobs=[job_row(run, study.keys, columns) for run in study.runs],
        provenance=provenance(study),
        repeat=repeat(study, folders, asked is not None and asked[1] is not None),
    )


def setting_row(setting: "Setting", columns: Sequence[str]) -> tuple[list[str], str, int, list[tuple[str, int]]]:
    """(values of the keys, how its runs ended, how many there are if some were lost, (mean ± sd, n) of each column)"""
    from dlintro.sweep.groups import said
    from dlintro.sweep.words import stat_text

    ended = ", ".join(f"{setting.count(status)} {status}" for status in dict.fromkeys(r.status for r in setting.runs))
    stats = [(name, setting.stat(name)) for name in columns]
    of = setting.num_seeds if setting.lost else 0
    return [said(v) for v in setting.values.values()], ended, of, [(stat_text(name, s), s.n) for name, s in stats]


def job_row(run: "Run", keys: Sequence[str], columns: Sequence[str]) -> list[str]:
    from dlintro.sweep.groups import said
    from dlintro.sweep.words import figure_text

    status = run.status + (", at chance" if run.at_chance else "")
    values = [said(run.leaves.get(key)) for key in (*keys, "seed")]
    return [run.name, status, *values, *(figure_text(name, run.figures.get(name)) for name in columns)]


def provenance(study: "Study") -> list[tuple[str, str]]:
    """Device, versions and commits the runs were made with."""
    told = {name: [run.record.get(name) for run in study.runs] for name in ("device", "threads", "git")}
    for run in study.runs:
        versions = run.record.get("versions")
        for package, version in versions.items() if isinstance(versions, dict) else ():
            told.setdefault(str(package), []).append(version)
    distinct = {name: dict.fromkeys(str(v) for v in values if v is not None) for name, values in told.items()}
    return [(name, ", ".join(values)) for name, values in distinct.items() if values]


def repeat(study: "Study", folders: Sequence[Path], with_target: bool) -> list[tuple[str, str]]:
    """Commands, and what they do."""
    commands = [(sweep.command, "the same command goes on where it stopped") for sweep in study.sweeps if sweep.command]
    ok = next((run for run in study.runs if run.status == "ok"), None)
    if ok is not None:
        code = ok.leaves.get("model.path")  # never taken from a record
        again = f"scripts/train rerun={shown_path(ok.folder)}" + (
            f" model.path={shlex.quote(str(code))}" if code else ""
        )
        commands.append((again, "one of the jobs again"))
    shown = " ".join(shown_path(folder) for folder in folders[:4]) + (" ..." if len(folders) > 4 else "")
    shown += f" target.metric={study.target.metric} target.value={study.target.value:g}" if with_target else ""
    return [*commands, (f"scripts/report {shown}", "this page again")]
