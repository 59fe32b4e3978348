"""A report's sentences about what was run and about the target. Each number comes with its spread and n."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from dlintro.run.record import versions_of
from dlintro.sweep.critical_batch import why_not
from dlintro.sweep.groups import BATCH, BUDGET, Line, Setting, Stat, Study, said, spoken
from dlintro.sweep.runs import FIGURES
from dlintro.target import NUM_READINGS, num_readings, number
from dlintro.text import duration
from dlintro.version import changes_between, ordered

CRITICAL = (
    "Well below the critical batch size, twice the batch reaches the target in half the steps. Well above it, a larger "
    "batch saves hardly any steps and wastes images. At it, a run needs twice the fewest steps and twice the fewest "
    "images."
)
NOISE = (
    "The gradient noise scale, tr Σ / |G|², estimates the same turning point from how much the gradients of single "
    "images differ. It is averaged over all readings of the settings that lost no seed."
)
MOST_NAMED = 8
MOST_LINES = 3  # of which each has a sentence of its own
SPEED = "train/images_per_second"
RANKED_BY = {
    "best/val/acc": "validation accuracy",
    "best/val/balanced_acc": "balanced validation accuracy",
    SPEED: "speed",
}  # the figures that rank settings
# Words for lost seeds whose status isn't the word.
ENDED = {
    "oom": "out of memory",
    "unavailable": "without an accelerator",
    "damaged": "with a damaged record",
    "queued": "not run yet",
    "running": "still running",
}


def figure_text(figure: str, value: float | None, sd: float | None = None) -> str:
    """0.9223 -> "92.23 %", with ± where there is a spread; "" for nothing."""
    if value is None:
        return ""
    unit = FIGURES[figure][1]
    scale, name, places = {
        "share": (100.0, " %", 2),
        "points": (100.0, " points", 2),
        "bytes": (2.0**-20, " MiB", 0),
        "s": (1.0, " s", digits(value)),
        "count": (1.0, "", 0 if value >= 100 or value == int(value) else min(1, digits(value))),
    }.get(unit, (1.0, "", digits(value)))
    spread = "" if sd is None else f" ± {sd * scale:,.{places}f}"
    return f"{value * scale:,.{places}f}{spread}{name}"


def digits(value: float) -> int:
    """Decimal places that show three digits."""
    return min(9, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 0


def stat_text(figure: str, stat: Stat) -> str:
    return figure_text(figure, stat.mean, stat.sd)


def setting_name(setting: Setting, key: str) -> str:
    """A setting among others: the value of the one key in which they differ, or all values where `key` is ""."""
    if key == BATCH:
        return f"{setting.batch_size:,}"
    value = number(setting.values.get(key))
    if value is not None:
        return f"{value:g}"
    return said(setting.values[key]) if key else setting.label()


def lost_text(setting: Setting) -> str:
    """ "2 of 5 seeds diverged, 1 failed"; "" where all ended well."""
    counts = Counter(run.status for run in setting.lost)
    ends = " and ".join(f"{count} {ENDED.get(status, status)}" for status, count in counts.items())
    return ends.replace(" ", f" of {plural(setting.num_seeds, 'seed')} ", 1)


def why_left_out(setting: Setting, figure: str) -> str:
    """Why its mean of this figure can't be compared; "" where it can."""
    if setting.lost:
        return lost_text(setting)
    missing = sum(figure not in run.figures for run in setting.ok)
    reason = "short of the target" if figure.endswith("_to_target") else "without this figure"
    return f"{missing} of {plural(setting.num_seeds, 'seed')} {reason}" if missing else ""


def capital(text: str) -> str:
    """The text with a capital first letter; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def joined(items: Sequence[str]) -> str:
    """ "8, 32 and 128"."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


def line_name(study: Study, line: Line, with_budget: bool = False) -> str:
    """ "" for the only one. The budget where lines differ in it, or where it is asked for."""
    parts = [line.label] if line.label != "all" else []
    says_budget = line.budget and (with_budget or BUDGET in study.keys)
    return ", ".join(parts + ([f"equal {line.budget}"] if says_budget else []))


def what_was_run(study: Study) -> list[str]:
    runs = study.runs
    statuses = dict.fromkeys(run.status for run in runs)
    counts = ", ".join(f"{study.number_of(status)} {status}" for status in statuses)
    seeds = sorted({said(run.seed) for run in runs if run.seed is not None}, key=lambda seed: (len(seed), seed))
    sentences = [
        f"{plural(len(runs), 'job')} in {plural(len(study.settings), 'setting')}, seeds {listed(seeds)}: {counts}."
    ]
    for key, name in (("model", "Model"), ("data", "Data"), ("device", "Device"), ("precision", "Precision")):
        if key in study.keys or f"trainer.{key}" in study.keys:
            continue  # it is among what differs
        found = sorted({str(run.record[key]) for run in runs if run.record.get(key) is not None})
        sentences += [f"{name}: {', '.join(found)}."] if found else []
    for key in study.keys:
        values = list(dict.fromkeys(said(setting.values[key]) for setting in study.settings))
        sentences.append(f"{spoken(key).capitalize()}: {listed(values, most=16)}.")
    seconds = sum(run.figures.get("fit_seconds", 0) for run in runs)
    sentences += [f"Fitting took {duration(seconds)}, summed over the jobs."] if seconds else []
    if study.settings and max(len(setting.ok) for setting in study.settings) == 1:
        sentences.append("No setting has more than one finished seed: no difference can be told from chance.")
    return sentences + warnings(study)


def warnings(study: Study) -> list[str]:
    sentences = []
    if at_once := most_at_once(study):
        sentences.append(f"Jobs ran {at_once} at a time: times are not those of a quiet machine.")
    sentences += larger_than_the_set(study)
    versions = sorted({version for run in study.runs for version in versions_of(run.record)}, key=ordered)
    if versions and (changes := changes_between(versions[0], versions[-1])):
        sentences.append(f"Some runs were made by other versions: {changes}.")
    if chance := [run.name for run in study.runs if run.at_chance]:
        sentences.append(f"Ended at chance accuracy: {listed(chance)}.")
    for name, text in (("images", "Some runs had other images than others"), ("code", "Some runs had other code")):
        if name in study.keys:
            unknown = any(setting.values[name] is None for setting in study.settings)
            text = f"Some runs don't say which {name} they had" if unknown else text
            sentences.append(f"{text}: they are different settings, and are not averaged.")
    if none := Counter(lost_text(s).split(" ", 4)[-1] for s in study.settings if s.lost and not s.ok):
        settings = " and ".join(f"{plural(count, 'setting')} ({why})" for why, count in none.items())
        sentences.append(f"No run ended well in {settings}.")
    if lost := [f"{s.label()} ({lost_text(s)})" for s in study.settings if s.lost and s.ok]:
        more = f"; and {len(lost) - MOST_NAMED} more" if len(lost) > MOST_NAMED else ""
        sentences.append(
            f"These settings lost seeds: {'; '.join(lost[:MOST_NAMED])}{more}. Their means are over the seeds that are "
            "left, and nothing is concluded from them."
        )
    repeated = sum(setting.count("ok") - len(setting.ok) for setting in study.settings)
    if repeated:
        verb = "repeats" if repeated == 1 else "repeat"
        sentences.append(
            f"{plural(repeated, 'run')} {verb} another's setting and seed, which is one observation: n counts seeds."
        )
    return sentences


def larger_than_the_set(study: Study) -> list[str]:
    """Say which batch sizes ran as the same one, because there are fewer training images."""
    asked: dict[int, set[int]] = {}
    for run in study.runs:
        wanted, size = number(run.overrides.get(BATCH)), number(run.leaves.get(BATCH))
        if wanted and size and wanted > size:
            asked.setdefault(int(size), set()).add(int(wanted))
    sizes = {size: joined([f"{w:,}" for w in sorted(wanted)]) for size, wanted in sorted(asked.items())}
    return [f"The set has {n:,} training images, so batch size {above} ran as {n:,}." for n, above in sizes.items()]


def most_at_once(study: Study) -> int:
    """Return how many jobs ran at a time, or 0 if it was one, so that the times are those of a quiet machine."""
    most = max((number(run.record.get("n_jobs")) or 1 for run in study.runs), default=1)
    return int(most) if most > 1 else 0


def target_sentences(study: Study) -> list[str]:
    """The target and where it came from, and what the critical batch size and the noise scale are."""
    fits = [line.critical for line in study.lines] if study.target.value is not None else []
    scales = [noise_scale(line.settings) for line in study.lines]
    sentences = [study.target.origin, *too_coarse(study)]
    sentences += [CRITICAL] if any(fits) else []
    sentences += [NOISE] if any(scales) else []
    tuned = "The fits hold for the learning rates of these runs, which were not tuned for each batch size."
    return sentences + ([tuned] if any(fits) else [])


def critical_sentences(study: Study) -> list[str]:
    """The critical batch size of each line and its noise scale, or of many lines the least and the greatest one."""
    fitted = [(line.critical.b_crit, line) for line in study.lines if study.target.value is not None and line.critical]
    if len(study.lines) > MOST_LINES and len(fitted) > 1:
        (low, first), (high, last) = (choose(fitted, key=lambda fit: fit[0]) for choose in (min, max))
        return [
            f"The critical batch size lies between {low:,.0f} (with {line_name(study, first)}) and {high:,.0f} (with "
            f"{line_name(study, last)}). The table of the fits has all {len(fitted)}."
        ]
    return [sentence for line in study.lines if (sentence := line_sentence(study, line))]


def too_coarse(study: Study) -> list[str]:
    ok = [run for setting in study.settings if not setting.lost for run in setting.ok if run.batch_size]
    if study.target.value is None or not ok:
        return []
    smallest = min(run.batch_size or 0 for run in ok)
    counts = [
        num_readings(run.curve, study.target.metric, study.target.value) for run in ok if run.batch_size == smallest
    ]
    first = min((count for count in counts if count is not None), default=NUM_READINGS)
    if first >= NUM_READINGS:
        return []
    return [
        f"A run of the smallest batch size, {smallest:,}, reached the target by its evaluation number {first}, before "
        f"number {NUM_READINGS}, so the steps to the target are read coarsely. A smaller trainer.eval_images reads "
        "them more finely."
    ]


def line_sentence(study: Study, line: Line) -> str:
    name, fitted = line_name(study, line), line.critical
    sentences = []
    if study.target.value is not None and fitted is None:
        sentences.append(f"there is no critical batch size: {why_not([s.batch_size for s in line.to_target])}.")
    elif study.target.value is not None and fitted is not None:
        low, high = fitted.interval
        sentences.append(f"the critical batch size is {fitted.b_crit:,.0f} (95 % interval {low:,.0f} to {high:,.0f}).")
    if scale := noise_scale(line.settings):
        times = f", {scale / fitted.b_crit:.2g} times the critical batch size" if fitted and sentences else ""
        sentences.append(f"the gradient noise scale is {scale:,.0f}{times}.")
    if not sentences:
        return ""
    if left_out := not_fitted(study, line):
        what = "fit" if study.target.value is not None else "noise scale"
        sentences.append(f"the {what} leaves out batch size {joined(left_out)}.")
    start = [f"With {name}, {sentences[0]}" if name else capital(sentences[0])]
    return " ".join(start + [capital(sentence) for sentence in sentences[1:]])


def not_fitted(study: Study, line: Line) -> list[str]:
    """The batch sizes that the line's fit leaves out, and why; without a target, its noise scale."""
    to_target = study.target.value is not None
    why = [why_left_out(s, "steps_to_target") if to_target else lost_text(s) for s in line.settings]
    return [f"{s.batch_size:,} ({reason})" for s, reason in zip(line.settings, why, strict=True) if reason]


def fit_rows(study: Study) -> list[list[str]]:
    """Line, critical batch size and interval, S_min, E_min, misfit, the noise scale of each batch size, what both leave
    out."""
    rows = []
    for line in study.lines:
        fitted = line.critical if study.target.value is not None else None
        each = [f"{scale:,.0f} at {s.batch_size:,}" for s in line.settings if (scale := noise_scale([s]))]
        cells = [""] * 5
        if fitted:
            numbers = [f"{n:,.0f}" for n in (fitted.b_crit, fitted.s_min, fitted.e_min)]
            interval = " to ".join(f"{end:,.0f}" for end in fitted.interval)
            cells = [numbers[0], interval, *numbers[1:], f"{100 * fitted.misfit:.0f} %"]
        if fitted or each:
            rows.append([line_name(study, line) or "all", *cells, ", ".join(each), ", ".join(not_fitted(study, line))])
    return rows


def noise_scale(settings: Iterable[Setting]) -> float | None:
    """Numerator and denominator averaged apart, over all runs of the settings that lost none: a mean of ratios would be
    led by the noisiest."""
    runs = [run.figures for setting in settings if not setting.lost for run in setting.ok]
    told = [f for f in runs if "noise_scale/trace" in f and "noise_scale/grad_squared" in f]
    trace, squared = (sum(f[f"noise_scale/{name}"] for f in told) for name in ("trace", "grad_squared"))
    return trace / squared if trace > 0 and squared > 0 else None


def title(study: Study) -> str:
    if len(study.sweeps) == 1:
        return f"Sweep {study.sweeps[0].name}"
    return f"{len(study.sweeps)} sweeps" if study.sweeps else plural(len(study.runs), "run")


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def listed(items: Iterable[object], most: int = MOST_NAMED) -> str:
    texts = [said(item) for item in items]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
