"""The command `scripts/claims` measures the slides' claims and computes each claim's verdict from its measurements.

The functions import torch when they run, so that --help, the list and a mistyped word take a fraction of a second.
"""

import json
import logging
import math
import os
import shlex
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dlintro.claims import catalogue as claims
from dlintro.claims.catalogue import Experiment
from dlintro.claims.sentences import in_words
from dlintro.claims.watch import Watch
from dlintro.command import Parser, existing, exit_status, heavy_imports, split_words
from dlintro.errors import RunError, UsageError, first_line
from dlintro.run.named import outputs_folder
from dlintro.text import duration, shown_path, tell

if TYPE_CHECKING:
    from dlintro.accelerators import Device

log = logging.getLogger(__name__)

FAILED = "failed"


def main(argv: Sequence[str] | None = None) -> int:
    return exit_status(lambda: run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    given, words = split_words(argv, lambda key: key == "accelerator")
    arguments = parser().parse_args(words)
    match arguments.words:
        case ["list"]:
            show_list()
            return 0
        case ["verdict", *folders]:
            return recompute(folders)
        case wanted:
            for name in wanted:
                claims.load(name)
    command = shlex.join(["scripts/claims", *argv])
    return measure_all(wanted, given.get("accelerator", "auto"), arguments, command)


def parser() -> Parser:
    parser = Parser(
        "scripts/claims",
        "Measures what the slides claim and reports what holds. All of them take half an hour. A stopped one resumes.",
    )
    parser.add_argument(
        "words", metavar="NAME", nargs="*", help="the claims to measure (default: all), or `list`, or `verdict DIR`"
    )
    parser.add_argument(
        "--quick", action="store_true", help="take five minutes: fewer seeds and images, so more verdicts are undecided"
    )
    parser.add_argument(
        "--again", action="store_true", help="measure again what was measured before, and keep the old results"
    )
    parser.add_argument(
        "--falsified", action="store_true", help="measure the claims made false instead: nothing may hold there"
    )
    parser.usage = "scripts/claims [list | NAME ... | verdict DIR] [--quick] [--again] [--falsified] [accelerator=NAME]"
    parser.epilog = (
        "Results: outputs/claims/report.html, and outputs/claims/NAME/ with measurements.csv, verdict.json, pictures."
    )
    return parser


def home() -> Path:
    return outputs_folder() / "claims"


def show_list() -> None:
    table = Table(box=None)
    for header in ("name", "slide", "kind"):
        table.add_column(header, overflow="fold")
    table.add_column("seconds", justify="right")
    found = claims.experiments()
    for name, experiment in found.items():
        claim = experiment.CLAIM
        table.add_row(name, claim.slide, claim.kind, str(claim.seconds))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)  # one line a claim, for grep
    console.print(table)
    total = sum(experiment.CLAIM.seconds for experiment in found.values())
    console.print(f"{len(found)} claims, about {duration(total)} on 2 cores", markup=False)


def measure_all(names: Sequence[str], accelerator: str, arguments: Namespace, command: str) -> int:
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise UsageError(f"{shown_path(folder)}: another scripts/claims is running here. Wait until it ends") from error
    except OSError as error:
        raise RunError(f"{folder}: can't write to this folder ({first_line(error)})") from error
    with lock:
        found = {name: e for name, e in claims.experiments().items() if not names or name in names}
        device = prepare(accelerator)
        if arguments.falsified:
            return measure_falsified(folder, found, device, arguments.quick)
        return measure_claims(folder, found, device, arguments.quick, arguments.again, command)


def prepare(accelerator: str) -> "Device":
    """Import what measuring needs, and return the device."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences PyTorch's profiler; read at import
    with heavy_imports():
        from dlintro.accelerators import resolve
        from dlintro.claims import bench  # noqa: F401  # imports Lightning, whose handlers are cleared below
        from dlintro.memory import keep_freed_memory

    logging.getLogger("lightning").handlers.clear()  # it would report each of many trainings
    keep_freed_memory()
    return resolve(accelerator)


def measure_falsified(folder: Path, found: Mapping[str, Experiment], device: "Device", quick: bool) -> int:
    """Measure the claims made false, in the folder `falsified`. Returns 1 if something holds there."""
    from dlintro.claims.bench import Bench
    from dlintro.claims.guards import wrong

    all_false = True
    with Watch({name: experiment.CLAIM.seconds for name, experiment in found.items()}) as watch:
        for name, experiment in found.items():
            watch.begin(name)
            bench = Bench(folder / "falsified" / name, name, experiment.CLAIM, device, quick, watch.say)
            held = wrong(bench, experiment, folder / name / "measurements.csv")
            tell(f"{name}: {'; '.join(held) or 'nothing holds'}")
            all_false = all_false and not held
    return 0 if all_false else 1


def measure_claims(
    folder: Path, found: Mapping[str, Experiment], device: "Device", quick: bool, again: bool, command: str
) -> int:
    """Measure the claims that were not measured yet, write the report, and show the verdicts."""
    from dlintro.claims.report import write_report
    from dlintro.run.record import versions

    setting = {"quick": quick, "device": device.description, "accelerator": device.kind, "versions": versions()}
    todo = []
    for name in found:
        if again or not finished(folder / name, setting | {"code": claims.code_hash(name)}):
            todo.append(name)
    if again:
        for name in todo:
            put_aside(folder, name)
    failed = []
    with Watch({name: found[name].CLAIM.seconds for name in todo}) as watch:
        for name in todo:
            watch.begin(name)
            try:
                measure_one(folder, name, found[name], device, setting, command, watch)
            except Exception as error:
                failed.append(name)
                explain(folder / name, name, error)
    page = write_report(folder)
    show_verdicts(folder, list(found))
    if not todo:
        print("all measured before; --again measures anew")
    print(f"report: {shown_path(page)}", flush=True)
    return 1 if failed else 0


def finished(folder: Path, setting: dict[str, Any]) -> bool:
    """Return whether the experiment was measured to its end with this setting; a full one counts as a quick one."""
    old = read_json(folder / "verdict.json").get("setting", {})
    return (
        bool(old)
        and ({**old, "quick": False} == {**setting, "quick": False})
        and (setting["quick"] or not old["quick"])
    )


def measure_one(
    folder: Path,
    name: str,
    experiment: Experiment,
    device: "Device",
    setting: dict[str, Any],
    command: str,
    watch: "Watch",
) -> None:
    """Measure one claim, from its start or from where it was stopped, and write its verdict."""
    from dlintro.claims.bench import Bench, log_results
    from dlintro.claims.figures import effects
    from dlintro.run.record import write_json

    claim, own = experiment.CLAIM, folder / name
    setting = setting | {"code": claims.code_hash(name)}
    start = time.monotonic()
    if (own / "setting.json").is_file() and (
        read_json(own / "setting.json") != setting or (own / "verdict.json").is_file()
    ):
        put_aside(folder, name)
    own.mkdir(exist_ok=True)
    write_json(own / "setting.json", setting)
    bench = Bench(own, name, claim, device, setting["quick"], watch.say)
    bench.resume()
    experiment.measure(bench)
    bench.finish()
    result = judged(name, experiment, own)
    if any(finding["margin"] for finding in result["statements"]):
        bench.show(
            "effects",
            "Each difference with its 99 % interval. Beyond the dashed lines it exceeds its margin.",
            effects(result["statements"]),
        )
    result |= {
        "date": f"{datetime.now():%Y-%m-%d %H:%M}",
        "setting": setting,
        "seconds": round(time.monotonic() - start, 1),
        "command": command,
    }
    log_results(own, bench.measurements, result)
    write_json(own / "verdict.json", result)
    bench.cells_file.unlink(missing_ok=True)
    log.info("%-16s %s (%.0f s)", name, result["verdict"], result["seconds"])


def judged(name: str, experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Compute the verdicts from measurements.csv alone."""
    from dlintro.claims.measurements import read
    from dlintro.claims.verdict import judge

    found = judge(experiment.CLAIM, read(folder / "measurements.csv"))
    statements = []
    for role, finding in found.findings:
        statements.append({"role": role} | {key: finite(value) for key, value in asdict(finding).items()})
    return {"claim": name, "verdict": found.verdict, "statements": statements}


def finite(value: Any) -> Any:
    """Return None for infinities and NaN, which JSON doesn't have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def recompute(folders: Sequence[str]) -> int:
    """Compute the verdicts of one claim's folder, or of a folder of them. Returns 1 if a verdict.json differs."""
    if len(folders) != 1:
        raise UsageError("scripts/claims verdict DIR: give one folder, outputs/claims or outputs/claims/NAME")
    top = Path(existing(folders[0]))
    files = (
        [top / "measurements.csv"] if (top / "measurements.csv").is_file() else sorted(top.glob("*/measurements.csv"))
    )
    if not files:
        raise UsageError(f"{folders[0]}: there is no measurements.csv in it or in its folders. Try outputs/claims")
    from dlintro.claims.measurements import read

    wrong = 0
    for file in files:
        rows = read(file).rows
        if not rows:
            raise RunError(f"{shown_path(file)}: this file has no measurements")
        name = rows[0].claim
        result = judged(name, claims.load(name), file.parent)
        said = read_json(file.parent / "verdict.json").get("verdict")
        differs = said is not None and said != result["verdict"]
        wrong += differs
        print(f"{name}: {result['verdict']}" + (f"; verdict.json says {said}" if differs else ""))
        for statement in result["statements"]:
            print(f"  {statement['role']}: {statement['verdict']}: {statement['says']}. {statement['measured']}")
    return 1 if wrong else 0


def show_verdicts(folder: Path, names: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False)
    for header in ("claim", "verdict", "its statements"):
        table.add_column(header, overflow="fold")
    table.add_column("seconds", justify="right")
    for name in names:
        result = read_json(folder / name / "verdict.json")
        counts = in_words(Counter(statement["verdict"] for statement in result.get("statements", ())))
        table.add_row(name, Text(result.get("verdict", FAILED)), counts, f"{result.get('seconds', 0):.0f}")
    Console(highlight=False).print(table)


def explain(folder: Path, name: str, error: Exception) -> None:
    """Print one line and write the traceback into the claim's log; the other claims go on."""
    with (folder / "claim.log").open("a", encoding="utf-8") as file:
        handler = logging.StreamHandler(file)
        log.addHandler(handler)
        log.error("%s failed", name, exc_info=error)
        log.removeHandler(handler)
    where = f" (why: {shown_path(folder / 'claim.log')})"
    print(f"{name}: failed: {first_line(error)}{where}", file=sys.stderr, flush=True)


def put_aside(folder: Path, name: str) -> None:
    """Move a claim's earlier results into the folder `earlier`."""
    if (folder / name).is_dir():
        earlier = folder / "earlier"
        earlier.mkdir(exist_ok=True)
        (folder / name).rename(earlier / f"{name}-{datetime.now():%Y%m%d-%H%M%S-%f}")


def read_json(path: Path) -> dict[str, Any]:
    """Return {} if the file is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    sys.exit(main())
