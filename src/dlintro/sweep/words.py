"""What a report says in words. Numbers with their spread and n; nothing that they don't carry.

Smallest against largest batch size: Welch's t test, two-sided; over all comparisons of a report the false discovery
rate is held at 5 % (Benjamini and Hochberg 1995), or of a hundred comparisons five would differ by chance.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from dlintro.sweep.critical_batch import why_not
from dlintro.sweep.runs import FIGURES
from dlintro.sweep.settings import BATCH, BUDGET, Line, Setting, Stat, Study, said, spoken
from dlintro.target import number

FALSE_DISCOVERIES = 0.05
TIMED = ("seconds_per_epoch", "seconds_to_target")
# What the slides claim of larger batches: figure, what more and less of it are called, which is better (0: neither).
CLAIMS = (
    ("seconds_per_epoch", "more time per epoch", "less time per epoch", -1),
    ("ram_peak_bytes", "more RAM", "less RAM", 0),
    ("device_peak_bytes", "more device memory", "less device memory", 0),
    ("steps_to_target", "more steps to the target", "fewer steps to the target", -1),
    ("images_to_target", "more images to the target", "fewer images to the target", -1),
    ("seconds_to_target", "more training time to the target", "less training time to the target", -1),
    ("best/test/acc", "higher test accuracy (val-best weights)", "lower test accuracy (val-best weights)", 1),
    ("gap", "a larger gap of training to test accuracy", "a smaller gap of training to test accuracy", -1),
)
MOST_INLINE = 3  # lines whose numbers stand in a claim's sentence; of more, in the table alone


@dataclass(frozen=True)
class Comparison:
    line: str
    figure: str
    more: str
    less: str
    smallest: Setting
    largest: Setting
    best: Setting | None
    p: float | None  # None: fewer than two seeds

    @property
    def verdict(self) -> str:
        name = FIGURES[self.figure][0]
        if self.p is None:
            return f"one seed can't tell {name} apart"
        if self.p >= FALSE_DISCOVERIES:
            return f"no difference within the spread in {name}"
        small, large = (setting.stat(self.figure).mean or 0 for setting in (self.smallest, self.largest))
        return self.more if large > small else self.less

    @property
    def numbers(self) -> str:
        ends = [(setting, setting.stat(self.figure)) for setting in (self.smallest, self.largest)]
        said = [f"{shown_stat(self.figure, stat)} at {setting.batch_size:,}" for setting, stat in ends]
        return f"{said[0]}, {said[1]}; n = {ends[0][1].n}, {ends[1][1].n}"


def shown(figure: str, value: float | None, sd: float | None = None) -> str:
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


def shown_stat(figure: str, stat: Stat) -> str:
    return shown(figure, stat.mean, stat.sd)


def at_size(figure: str, setting: Setting) -> str:
    stat = setting.stat(figure)
    return f"{shown_stat(figure, stat)} at {setting.batch_size:,} (n = {stat.n})"


def line_name(study: Study, line: Line) -> str:
    parts = [line.label] if line.label != "all" else []
    return ", ".join(parts + ([f"equal {line.budget}"] if BUDGET in study.keys else []))


def comparisons(study: Study) -> list[Comparison]:
    from scipy.stats import false_discovery_control

    found = []
    for line in study.lines:
        for figure, more, less, better in CLAIMS:
            told = [setting for setting in line.settings if setting.tells(figure)]
            if len(told) > 1:
                order = sorted(told, key=lambda s: s.stat(figure).mean or 0)
                best = {-1: order[0], 0: None, 1: order[-1]}[better]
                p = welch(told[0].stat(figure).values, told[-1].stat(figure).values)
                found.append(Comparison(line_name(study, line), figure, more, less, told[0], told[-1], best, p))
    tested = [comparison.p for comparison in found if comparison.p is not None]
    adjusted = iter(false_discovery_control(tested) if tested else ())
    return [c if c.p is None else replace(c, p=float(next(adjusted))) for c in found]


def welch(a: Sequence[float], b: Sequence[float]) -> float | None:
    from scipy.stats import ttest_ind

    if min(len(a), len(b)) < 2:
        return None
    if len(set(a)) == len(set(b)) == 1:  # no spread, no t
        return 1.0 if a[0] == b[0] else 0.0
    return float(ttest_ind(a, b, equal_var=False).pvalue)


def claims(study: Study) -> list[tuple[str, list[tuple[str, str]], list[list[str]]]]:
    """(title, (verdict, lines it holds for), rows of line, smallest, largest, best, verdict) of each claim measured at
    two sizes or more. None where no line has two seeds: nothing could be said."""
    found = comparisons(study)
    if all(comparison.p is None for comparison in found):
        return []
    groups = [[comparison for comparison in found if comparison.figure == claim[0]] for claim in CLAIMS]
    return [(FIGURES[g[0].figure][0], verdicts(g, study), [row(c) for c in g]) for g in groups if g]


def verdicts(group: Sequence[Comparison], study: Study) -> list[tuple[str, str]]:
    """One claim over all lines, those of one verdict together."""
    same: dict[str, list[Comparison]] = {}
    for comparison in group:
        same.setdefault(comparison.verdict, []).append(comparison)
    if len(group) <= MOST_INLINE:
        return [
            (v, "; ".join(f"{c.line} ({c.numbers})" if c.line else c.numbers for c in members))
            for v, members in same.items()
        ]
    if len(same) == 1:
        others = " and ".join(spoken(key) for key in study.keys if key != BATCH)
        return [(verdict, f"for every {others}") for verdict in same]
    return [(verdict, "; ".join(c.line for c in members)) for verdict, members in same.items()]


def row(c: Comparison) -> list[str]:
    ends = [at_size(c.figure, setting) for setting in (c.smallest, c.largest)]
    p = "" if c.p is None else f" (p = {c.p:.2g})"
    return [c.line or "all", *ends, at_size(c.figure, c.best) if c.best else "", c.verdict + p]


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
    sentences += [f"Fitting took {seconds / 60:,.1f} minutes, summed over the jobs."] if seconds else []
    if study.settings and max(len(setting.ok) for setting in study.settings) == 1:
        sentences.append("No setting has more than one finished seed: no difference can be told from chance.")
    return sentences + warnings(study)


def warnings(study: Study) -> list[str]:
    sentences = []
    if at_once := most_at_once(study):
        sentences.append(f"Jobs ran {at_once} at a time: times are not those of a quiet machine.")
    if chance := [run.name for run in study.runs if run.at_chance]:
        sentences.append(f"Ended at chance accuracy: {listed(chance)}.")
    if diverged := study.number_of("diverged"):
        sentences.append(f"Means are over the ok jobs; the diverged ones, {diverged}, are only counted.")
    repeated = len(study.runs) - len({str(run.record.get("config_hash") or run.folder) for run in study.runs})
    if repeated:
        sentences.append(f"{plural(repeated, 'run')} repeat another's configuration and seed: n counts them too.")
    return sentences


def most_at_once(study: Study) -> int:
    """How many jobs ran at a time; 0 where it was one, and times are a quiet machine's."""
    most = max((number(run.record.get("n_jobs")) or 1 for run in study.runs), default=1)
    return int(most) if most > 1 else 0


def target_sentences(study: Study) -> list[str]:
    """The target, who missed it, the critical batch of each line, the noise scale beside it."""
    sentences = [study.target.origin]
    if study.target.value is None:
        return sentences + noise_sentences(study)
    for line in study.lines:
        name = f" under {line_name(study, line)}" if line_name(study, line) else ""
        missed = [f"{s.batch_size:,}" for s in line.settings if s.ok and not s.all_reached]
        if missed:
            sentences.append(f"Not reached by all seeds{name} at {listed(missed)}.")
        fitted = line.critical
        if fitted is None:
            sentences.append(f"No critical batch size{name}: {why_not([s.batch_size for s in line.to_target])}.")
            continue
        low, high = fitted.interval or (fitted.b_crit, fitted.b_crit)
        sentences.append(
            f"Critical batch size{name}: {fitted.b_crit:,.0f} (95 % interval {low:,.0f} to {high:,.0f}; S_min "
            f"{fitted.s_min:,.0f} steps, E_min {fitted.e_min:,.0f} images; misfit {100 * fitted.misfit:.1f} %)."
        )
    if any(line.critical for line in study.lines):
        sentences.append("The fits are of these learning rates, which were not tuned for each batch size.")
    return sentences + noise_sentences(study)


def noise_sentences(study: Study) -> list[str]:
    """Of each line, with its critical batch size where both are known."""
    sentences = []
    for line in study.lines:
        pooled = noise_scale(line.settings)
        if pooled is None:
            continue
        each = [(s.batch_size, scale) for s in line.settings if (scale := noise_scale([s]))]
        sizes = ", ".join(f"{scale:,.0f} at {size:,}" for size, scale in each)
        name = f" under {line_name(study, line)}" if line_name(study, line) else ""
        critical = f"; {pooled / line.critical.b_crit:.2g} times its critical batch size" if line.critical else ""
        sentences.append(
            f"Gradient noise scale{name}, tr Σ / |G|² over all readings: {pooled:,.0f} ({sizes}){critical}."
        )
    return sentences


def noise_scale(settings: Iterable[Setting]) -> float | None:
    """Numerator and denominator averaged apart, over all runs: a mean of ratios would be led by the noisiest."""
    runs = [run.figures for setting in settings for run in setting.ok]
    told = [f for f in runs if "noise_scale/trace" in f and "noise_scale/grad_squared" in f]
    trace, squared = (sum(f[f"noise_scale/{name}"] for f in told) for name in ("trace", "grad_squared"))
    return trace / squared if trace > 0 and squared > 0 else None


def fastest(study: Study) -> list[str]:
    """Where devices are compared over batch sizes: the fastest size of each."""
    sentences = []
    for line in study.lines if "device" in study.keys or "accelerator.name" in study.keys else ():
        timed = [s for s in line.settings if s.stat("train/images_per_second").n]
        if timed:
            best = max(timed, key=lambda s: s.stat("train/images_per_second").mean or 0)
            numbers = f"{shown_stat('train/images_per_second', best.stat('train/images_per_second'))} images/s"
            sentences.append(f"Fastest batch size of {line_name(study, line)}: {best.batch_size:,}, {numbers}.")
    return sentences


def title(study: Study) -> str:
    if len(study.sweeps) == 1:
        return f"Sweep {study.sweeps[0].name}"
    return f"{len(study.sweeps)} sweeps" if study.sweeps else plural(len(study.runs), "run")


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def listed(items: Iterable[object], most: int = 8) -> str:
    texts = [said(item) for item in items]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
