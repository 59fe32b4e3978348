"""Renders report.html: the answer in one sentence and its picture, the settings, the findings, and the rest folded."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dlintro.sweep import compare, words
from dlintro.sweep.answer import TESTED, UNIT, answers, headers, headline, is_of_speed, ranks_by, rows
from dlintro.sweep.compare import Compared
from dlintro.sweep.groups import BATCH, Setting, Study, said, spoken
from dlintro.sweep.runs import BAD, FIGURES, Run
from dlintro.sweep.words import figure_text, stat_text

if TYPE_CHECKING:
    from dlintro.sweep.svg import Inline

# The columns of the folded tables where any run has them; the CSV files have all figures.
COLUMNS = (
    "best/val/acc", "best/test/acc", "test/acc", "gap", "steps_to_target", "images_to_target", "seconds_to_target",
    "seconds_per_epoch", "train/images_per_second", "ram_peak_bytes", "device_peak_bytes", "noise_scale",
)  # fmt: skip
MOST_SHOWN = 10  # settings in the table on the first screen, as in the terminal


def render(study: Study, pictures: Sequence[tuple[str, str, "Inline"]], repeat: Sequence[tuple[str, str]]) -> str:
    """`pictures`: (name, caption, SVG), the main one first. `repeat`: commands, and what they do."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    columns = [name for name in COLUMNS if study.some(name)]
    if (by := compare.chooses(study)) == compare.BALANCED:
        columns[:0] = [by, TESTED[by]]
    found, compared = answers(study), compare.compared(study)
    table = rows(study, found)
    return environment.get_template("report.html.jinja").render(
        title=words.title(study),
        created=", ".join(sweep.created[:16].replace("T", " ") for sweep in study.sweeps if sweep.created),
        counts={status: study.number_of(status) for status in dict.fromkeys(run.status for run in study.runs)},
        headline=unbroken(headline(found)),
        details=[unbroken(sentence) for answer in found for sentence in answer.details],
        table=table[:MOST_SHOWN],
        more=max(0, len(table) - MOST_SHOWN),
        headers=headers(study),
        verdicts=any(row.verdict for row in table),
        tied=any(row.verdict == "tied" for row in table),
        lost=any(row.verdict == "left out" for row in table),
        by_speed=is_of_speed(study),
        chooses=UNIT[by],
        ranks_by=[name.replace("%", "(%)").capitalize() for name in ranks_by(study)],
        run=words.what_was_run(study),
        findings=findings(study, compared),
        claims=compare.claims(compared, study),
        rates=compare.preferences(compared),
        method=compare.METHOD,
        target=words.target_sentences(study),
        fits=words.fit_rows(study),
        timing=words.most_at_once(study),
        columns=[FIGURES[name][0] for name in columns],
        keys=[spoken(key) for key in study.keys],
        settings=[setting_row(setting, columns) for setting in study.settings],
        pictures=pictures,
        most_lines=max((len(inline.lines) for _, _, inline in pictures), default=0),
        failures=[(run.name, run.status, run.error) for run in study.runs if run.status in BAD],
        jobs=[job_row(run, study.keys, columns) for run in study.runs],
        provenance=provenance(study),
        repeat=repeat,
    )


def findings(study: Study, compared: Sequence[Compared]) -> list[tuple[str, list[str]]]:
    """(title, sentences): what was measured of the batch sizes and, within each of them, of the learning rates."""
    told = [("Critical batch size", words.critical_sentences(study))]
    told += [(words.capital(title), sentences) for title, sentences, _ in compare.claims(compared, study)]
    told += [("Fastest batch size", compare.fastest(compared, study))]
    if BATCH in study.keys or len(study.rate_lines) > 1:  # the page's first sentence is about a line of rates alone
        told += [("Learning rate", compare.preferences(compared))]
    return [(title, [*map(unbroken, sentences)]) for title, sentences in told if sentences]


def unbroken(sentence: str) -> str:
    """With spaces that keep a number, its spread and its unit on one line."""
    return re.sub(r" (?=[±%=])|(?<=[±=]) ", "\N{NO-BREAK SPACE}", sentence)


def setting_row(setting: Setting, columns: Sequence[str]) -> tuple[list[str], str, int, list[tuple[str, int]]]:
    """(values of the keys, how its runs ended, how many there are if some were lost, (mean ± sd, n) of each column)"""
    ended = ", ".join(f"{setting.count(status)} {status}" for status in dict.fromkeys(r.status for r in setting.runs))
    stats = [(name, setting.stat(name)) for name in columns]
    of = setting.num_seeds if setting.lost else 0
    return [said(v) for v in setting.values.values()], ended, of, [(stat_text(name, s), s.n) for name, s in stats]


def job_row(run: Run, keys: Sequence[str], columns: Sequence[str]) -> list[str]:
    status = run.status + (", at chance" if run.at_chance else "")
    values = [said(run.leaves.get(key)) for key in (*keys, "seed")]
    return [run.name, status, *values, *(figure_text(name, run.figures.get(name)) for name in columns)]


def provenance(study: Study) -> list[tuple[str, str]]:
    """The device, versions and commits with which the runs were made."""
    told = {name: [run.record.get(name) for run in study.runs] for name in ("device", "threads", "git")}
    for run in study.runs:
        versions = run.record.get("versions")
        for package, version in versions.items() if isinstance(versions, dict) else ():
            told.setdefault(str(package), []).append(version)
    distinct = {name: dict.fromkeys(str(v) for v in values if v is not None) for name, values in told.items()}
    return [(name, ", ".join(values)) for name, values in distinct.items() if values]
