"""scripts/benchmark measures how fast dlintro trains, beside a bare PyTorch loop and beside the usual way.

What is compared is measured in turn, several times, and the median counts. The functions import torch when they run, so
that --help and a mistyped word take a fraction of a second.
"""

import gc
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import psutil

from dlintro.command import Parser, exit_status, heavy_imports, split_words
from dlintro.errors import UsageError
from dlintro.run.named import outputs_folder
from dlintro.text import shown_path

if TYPE_CHECKING:
    from dlintro.accelerators import Device
    from dlintro.benchmark.ways import Case

ROUNDS, QUICK_ROUNDS = 5, 1
BUSY_PERCENT = 15.0  # of one core; if other processes take more, the machine is too busy to measure


def main() -> NoReturn:
    sys.exit(exit_status(lambda: benchmark(sys.argv[1:])))


def benchmark(argv: Sequence[str]) -> int:
    given, words = split_words(argv, lambda key: key == "accelerator")
    parser = Parser(
        "scripts/benchmark",
        "Measures dlintro's speed on this machine. It takes more than 20 minutes; use no other program meanwhile.",
    )
    parser.add_argument("--quick", action="store_true", help="take less than two minutes: fewer steps, one round")
    parser.add_argument("accelerator", nargs="?", metavar="accelerator=NAME", help="auto, cpu, cuda or mps")
    arguments = parser.parse_args(words)
    if arguments.accelerator:
        raise UsageError(f"{arguments.accelerator}: type accelerator=NAME or --quick (see scripts/benchmark --help)")
    busy = psutil.cpu_percent(interval=1.0) * (psutil.cpu_count() or 1)
    if busy > BUSY_PERCENT:
        print(f"other programs use {busy:.0f} % of a core, so the figures will be too low", flush=True)

    with heavy_imports():
        from dlintro.accelerators import resolve
        from dlintro.benchmark import ways  # noqa: F401  # imports everything before it is measured
        from dlintro.benchmark.figures import speed_figure
        from dlintro.benchmark.tables import markdown, show
        from dlintro.run.record import versions, write_json

    device = resolve(given.get("accelerator", "auto"), 0)
    folder = outputs_folder() / "benchmark" / f"{datetime.now():%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    result: dict[str, Any] = {
        "command": shlex.join(["scripts/benchmark", *argv]),
        "device": device.description,
        "versions": versions(),
        "busy_percent": round(busy, 1),
        "rounds": QUICK_ROUNDS if arguments.quick else ROUNDS,
    }
    for name, part in measurements(device, arguments.quick).items():
        start = time.monotonic()
        print(f"{name} ...", end="", flush=True)
        result[name] = part()
        print(f" {time.monotonic() - start:.0f} s", flush=True)
        write_json(folder / "benchmark.json", result)
    show(result)
    (folder / "speed.md").write_text(markdown(result), encoding="utf-8")
    speed_figure(result).savefig(folder / "benchmark.png")
    print(f"benchmark: {shown_path(folder)}", flush=True)
    return 0


def cases(device: "Device", quick: bool) -> "list[Case]":
    """Return the cases: FlatNet at two batch sizes, the MNIST CNN and VGG16, and the last two also in native bf16."""
    from dlintro.accelerators import has_native_bf16
    from dlintro.benchmark.ways import Case

    found = [
        Case("flatnet", "mnist", 64, "32-true", steps=800, warmup=50, test_images=10_000),
        Case("flatnet", "mnist", 256, "32-true", steps=210, warmup=50, test_images=10_000),
        Case("mnist_cnn", "mnist", 256, "32-true", steps=150, warmup=50, test_images=10_000),
        Case("vgg16", "cifar10", 128, "32-true", steps=10, warmup=2, test_images=2048),
    ]
    if has_native_bf16(device.kind, device.index):
        found += [replace(case, precision="bf16-mixed") for case in found[2:]]
    if device.kind != "cpu":
        found = [replace(case, steps=max(case.steps, 100), warmup=50, test_images=10_000) for case in found]
    if quick:
        found = [replace(case, steps=case.warmup + (case.steps - case.warmup) // 4) for case in found]
        found = [replace(case, test_images=128) if case.model == "vgg16" else case for case in found]
    return found


def measurements(device: "Device", quick: bool) -> dict[str, Callable[[], Any]]:
    """Return the measurements in order. New processes come first, while this process is small."""
    from dlintro.benchmark.processes import memory_bytes, startup_seconds
    from dlintro.data import ImageDataModule
    from dlintro.memory import keep_freed_memory

    keep_freed_memory()
    for name in ("mnist", "cifar10"):  # downloads them if necessary
        ImageDataModule(name).prepare_data()
    rounds, ours = (QUICK_ROUNDS if quick else ROUNDS), cases(device, quick)
    return {
        "startup_seconds": lambda: in_turn(rounds, {"": partial(startup_seconds, device.kind)}),
        "memory_bytes": lambda: [
            {"model": case.model}
            | in_turn(min(3, rounds), {way: partial(memory_bytes, way, case, device) for way in ("stack", "bare")})
            for case in ours
            if case.precision == "32-true" and case.batch_size != 64 and (case.model == "flatnet" or not quick)
        ],
        "loader_images_per_second": lambda: loader_speeds(rounds, quick),
    } | {f"{case.model} {case.batch_size} {case.precision}": partial(measured, case, device, rounds) for case in ours}


def in_turn(rounds: int, measures: Mapping[str, Callable[[], dict[str, float]]]) -> dict[str, list[float]]:
    """Return the figures of all rounds by the name of the measure and of the figure."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, measure in measures.items():
            for figure, value in measure().items():
                found.setdefault(f"{name} {figure}".strip(), []).append(value)
            gc.collect()
    return found


def measured(case: "Case", device: "Device", rounds: int) -> dict[str, Any]:
    """Return the images per second of each way in each round, and the speed of the arithmetic alone."""
    ways = ["stack", "bare"] if case.model == "flatnet" else ["stack", "bare", "plain"]  # FlatNet's bare loop is plain
    ways += ["usual"] if case.precision == "32-true" else []
    measures = {way: partial(speed, way, case, device) for way in ways}
    speeds = in_turn(rounds, measures | {"matrix": partial(product_speed, case, device)})
    products = speeds.pop("matrix gflops")
    found = {"images_per_second": speeds, "matrix_gflops": products, "flops_per_image": flops_per_image(case, device)}
    return asdict(case) | found


def product_speed(case: "Case", device: "Device") -> dict[str, float]:
    """Return the speed of a matrix product in the case's precision, the most that its arithmetic can reach."""
    import torch

    from dlintro.commands.devices import matrix_gflops

    at = torch.device(device.kind, device.index) if device.kind != "cpu" else torch.device("cpu")
    return {"gflops": matrix_gflops(at, torch.float32 if case.precision == "32-true" else torch.bfloat16)}


def speed(way: str, case: "Case", device: "Device") -> dict[str, float]:
    from dlintro.benchmark.ways import WAYS

    return asdict(WAYS[way](case, device))


def flops_per_image(case: "Case", device: "Device") -> float:
    """Return the operations of a training step per image: forward, and backward to weights and inputs."""
    from torch.utils.flop_counter import FlopCounterMode

    from dlintro.benchmark.ways import prepared

    run = prepared(case, device)
    images_BCHW, labels_B = next(iter(run.data.train_dataloader()))
    with FlopCounterMode(display=False) as counter:
        run.model.loss(run.model(images_BCHW), labels_B).backward()
    return float(counter.get_total_flops() / len(labels_B))


def loader_speeds(rounds: int, quick: bool) -> dict[str, list[float]]:
    """Time an epoch of MNIST in batches of 64: by the DataLoader, by indexing in two ways, and image by image."""
    import torch

    from dlintro.benchmark.usual import per_image_loader
    from dlintro.data import ImageDataModule
    from dlintro.data.loader import Images

    data = ImageDataModule("mnist", batch_size=64)
    data.prepare_data()
    data.setup()
    images_NCHW, labels_N = data.train.images_NCHW, data.train.labels_N
    order_N = torch.randperm(data.num_train)
    part = Images(images_NCHW, labels_N, torch.arange(2_000 if quick else 10_000))
    per_image = per_image_loader(data, part, shuffle=True)

    def through_loader() -> int:
        return sum(len(labels_B) for _, labels_B in data.train_dataloader())

    def by_indexing() -> int:
        return sum(len((images_NCHW[rows_B], labels_N[rows_B])[1]) for rows_B in order_N.split(64))

    def by_selecting() -> int:
        selected = ((images_NCHW.index_select(0, rows_B), labels_N[rows_B]) for rows_B in order_N.split(64))
        return sum(len(labels_B) for _, labels_B in selected)

    def by_image() -> int:
        return sum(len(labels_B) for _, labels_B in per_image)

    def timed(work: Callable[[], int]) -> dict[str, float]:
        start = time.perf_counter()
        num = work()
        return {"": num / (time.perf_counter() - start)}

    works = {
        "loader": through_loader,
        "indexing": by_indexing,
        "index_select": by_selecting,
        "per image": by_image,
    }
    return in_turn(rounds, {name: partial(timed, work) for name, work in works.items()})
