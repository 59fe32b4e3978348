"""The figures of a benchmark as tables: for the terminal and for a README."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

NAMES = {"flatnet": "FlatNet", "mnist_cnn": "MNIST CNN", "vgg16": "VGG16"}
SPEED_HEADERS = ("", "batch", "precision", "dlintro", "bare loop", "usual way", "of bare", "× usual")
USUAL = (
    "the usual way is in float32: torchvision's transforms image by image, a metric object and self.log in each step."
)
TITLES = {
    "training": "training steps, images per second",
    "inference": "a whole test, images per second, the Trainer's making included",
}


def measured_cases(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for value in result.values():
        if isinstance(value, dict) and "images_per_second" in value:
            yield value


def title(case: Mapping[str, Any]) -> str:
    return f"{NAMES[case['model']]}, batch {case['batch_size']}, {case['precision']}"


def ratio(speeds: Mapping[str, list[float]], over: str, under: str) -> float:
    """The median of the rounds' ratios: what disturbs a round disturbs both."""
    return median(a / b for a, b in zip(speeds[over], speeds[under], strict=True))


def speed_rows(result: Mapping[str, Any], figure: str) -> Iterator[list[str]]:
    """`figure`: training or inference."""
    float32_usual: dict[str, list[float]] = {}
    for case in measured_cases(result):
        speeds = {way.split()[0]: values for way, values in case["images_per_second"].items() if way.endswith(figure)}
        float32_usual |= {case["model"]: speeds["usual"]} if "usual" in speeds else {}
        usual = speeds.get("usual", float32_usual[case["model"]])
        row = [NAMES[case["model"]], str(case["batch_size"]), case["precision"].split("-")[0].replace("32", "float32")]
        row += [f"{median(values):,.0f}" for values in (speeds["stack"], speeds["bare"], usual)]
        times = f"{ratio(speeds | {'usual': usual}, 'stack', 'usual'):.1f}"
        yield [*row, f"{ratio(speeds, 'stack', 'bare'):.2f}", times]


def other_rows(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is measured besides, and its figures in words."""
    for case in measured_cases(result):
        speeds = case["images_per_second"]
        if case["model"] == "flatnet":
            stack, bare = (case["batch_size"] / median(speeds[f"{way} training"]) * 1e3 for way in ("stack", "bare"))
            yield f"a step of {title(case)}", f"{stack:.2f} ms, bare {bare:.2f} ms"
        if case["model"] == "vgg16":
            times = ratio(speeds, "stack training", "plain training")
            yield f"{title(case)}, to a plain float32 loop", f"{times:.2f} times"
            peak = median(case["matrix_gflops"])
            reached = case["flops_per_image"] * median(speeds["stack training"]) / 1e9
            share = f"{reached:,.0f} of {peak:,.0f} GFLOP/s, {reached / peak:.0%}"
            yield f"{title(case)}, of the matrix product's speed", share
    loader = result["loader_images_per_second"]
    yield "DataLoader, images/s", f"{median(loader['loader']):,.0f}"
    bare = f"{ratio(loader, 'loader', 'indexing'):.2f} of images[rows]"
    bare += f", {ratio(loader, 'loader', 'index_select'):.2f} of images.index_select(0, rows)"
    yield "  beside bare indexing", bare
    yield "  times the per-image way", f"{ratio(loader, 'loader', 'per image'):.0f}"
    seconds = {name: median(values) for name, values in result["startup_seconds"].items()}
    times = ratio(result["startup_seconds"], "first_step", "import")
    yield "start to the first step", f"{seconds['first_step']:.1f} s, {times:.2f} of `import torch, lightning`"
    yield "--help; a slip", f"{seconds['help']:.2f} s; {seconds['slip']:.2f} s"
    for row in result["memory_bytes"]:
        stack, bare, imports = (median(row[key]) / 1e6 for key in ("stack growth", "bare growth", "stack imports"))
        words = f"{stack:,.0f} MB, bare {bare:,.0f} MB (imports {imports:,.0f} MB)"
        yield f"memory that {NAMES[row['model']]} takes", words


def show(result: Mapping[str, Any]) -> None:
    console = Console(highlight=False)
    for figure in ("training", "inference"):
        table = Table(title=f"{TITLES[figure]} (median of {result['rounds']})", title_justify="left", box=SIMPLE_HEAD)
        for position, header in enumerate(SPEED_HEADERS):
            table.add_column(header, justify="left" if position in (0, 2) else "right")
        for row in speed_rows(result, figure):
            table.add_row(*row)
        console.print(table)
    table = Table(show_header=False, box=None)
    for name, words in other_rows(result):
        table.add_row(Text(name), Text(words))
    console.print(table)
    console.print(f"VGG16 on CIFAR-10, the others on MNIST; {USUAL}")


def markdown(result: Mapping[str, Any]) -> str:
    """The two speed tables and the other figures, with what they were measured on."""
    on = f"{result['device']}, PyTorch {result['versions']['torch']}"
    lines = [
        f"`{result['command']}`, {on}, medians of {result['rounds']}; VGG16 on CIFAR-10, the others on MNIST;",
        USUAL,
    ]
    for figure in ("training", "inference"):
        lines += ["", "| " + " | ".join([TITLES[figure], *SPEED_HEADERS[1:]]) + " |"]
        lines += ["|" + " --- |" * len(SPEED_HEADERS)]
        lines += ["| " + " | ".join(row) + " |" for row in speed_rows(result, figure)]
    lines += ["", "| | |", "| --- | --- |", *(f"| {name.strip()} | {words} |" for name, words in other_rows(result))]
    return "\n".join(lines) + "\n"
