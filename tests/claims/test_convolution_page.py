"""Tests the report's convolution explorer in a real browser against PyTorch."""

import itertools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dlintro.claims.report import controls, write_report
from tests.claims.browser import collected, dumped, needs_browser, with_driver

pytestmark = [pytest.mark.browser, needs_browser]

RANGES = {control.name: range(control.low, control.high + 1) for control in controls()}
FIRST = {control.name: control.value for control in controls()} | {"transposed": 0}
NUM_RANDOM = 600
Settings = dict[str, int]


# ---- the page's numbers, from the formulas it shows


def inputs_1CHW(settings: Settings) -> torch.Tensor:
    C, N = settings["in_channels"], settings["size"]
    c, i, j = torch.meshgrid(torch.arange(C), torch.arange(N), torch.arange(N), indexing="ij")
    return ((i * i + 2 * i * j + 3 * j + c * (i + 2)) % 5).double()[None]


def weights_FCKK(settings: Settings) -> torch.Tensor:
    sizes = (settings["out_channels"], settings["in_channels"], settings["kernel_size"], settings["kernel_size"])
    f, c, i, j = torch.meshgrid(*map(torch.arange, sizes), indexing="ij")
    return ((i * i + i * j + 2 * j + c * (j + 1) + f * (2 * i + j + 1)) % 5 % 3 - 1).double()


def module(settings: Settings) -> nn.Conv2d | nn.ConvTranspose2d:
    given = {name: settings[name] for name in ("kernel_size", "padding", "stride", "dilation")}
    given |= {"output_padding": settings["output_padding"]} if settings["transposed"] else {}
    made = (nn.ConvTranspose2d if settings["transposed"] else nn.Conv2d)(
        settings["in_channels"], settings["out_channels"], **given, dtype=torch.float64
    )
    weights = weights_FCKK(settings)
    with torch.no_grad():
        made.weight.copy_(weights.transpose(0, 1) if settings["transposed"] else weights)
        made.bias.copy_((torch.arange(settings["out_channels"]) + 1) % 2)  # type: ignore[union-attr]
    return made


def outputs(settings: Settings) -> list[Any] | None:
    """Return PyTorch's outputs by filter, row and column, or None if PyTorch raises an error."""
    try:
        with torch.no_grad():
            return module(settings)(inputs_1CHW(settings))[0].long().tolist()  # type: ignore[no-any-return]
    except (RuntimeError, ValueError):
        return None


# ---- the page, driven


DRIVER = """
  const page = document.getElementById("convolution-explorer");
  const control = (name) => page.querySelector(`input[name=${name}]`);
  const text = (selector) => page.querySelector(selector).textContent;
  const number = (cell) => Number(cell.textContent.replace("−", "-"));
  const inside = (row) => [...row.cells].filter((c) => !c.matches(".cut, .pad")).map(number);
  const numbers = (table) => [...table.rows].map(inside).filter((row) => row.length);
  const grids = (kind) => [...page.querySelectorAll(`table[data-grid=${kind}]`)].map(numbers);
  const cell = (kind, channel, row, column) => page.querySelector(
    `td[data-kind=${kind}][data-channel="${channel}"][data-row="${row}"][data-column="${column}"]`);
  const place = (c) => [c.dataset.kind, c.dataset.channel, c.dataset.row, c.dataset.column].join(" ");
  const used = () => [...page.querySelectorAll("td[data-kind].used")].map(place);
  function set(settings) {
    for (const [name, value] of Object.entries(settings)) {
      if (name === "transposed") control(name).checked = Boolean(value);
      else control(name).value = value;
    }
    control("size").dispatchEvent(new Event("input", { bubbles: true }));
  }
  function seen() {
    return { outputs: grids("output"), problem: text(".problem"), hidden: page.querySelector(".problem").hidden,
      call: text(".call"), formula: text(".formula"), parameters: text(".parameters"), sum: text(".headline"),
      shape: text(".shape") };
  }
  function tell(found) {
    const told = document.createElement("pre");
    told.id = "collected";
    told.textContent = JSON.stringify(found);
    document.body.append(told);
  }
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("claims"))


def driven(page: Path, script: str) -> Any:
    return collected(dumped(with_driver(page, DRIVER + script))[0])


def combinations() -> Iterator[Settings]:
    """Return every bound with every other (one pair of numbers of filters), then random settings."""
    few = {"in_channels": (2,), "out_channels": (3,)}
    bounds = {name: few.get(name, (numbers[0], numbers[-1])) for name, numbers in RANGES.items()}
    for transposed in (0, 1):
        for values in itertools.product(*bounds.values()):
            yield dict(zip(bounds, values, strict=True)) | {"transposed": transposed}
    chance = random.Random(7)
    for number in range(NUM_RANDOM):
        yield {name: chance.choice(numbers) for name, numbers in RANGES.items()} | {"transposed": number % 2}


def test_every_number_is_pytorchs_and_what_pytorch_refuses_is_explained(page: Path) -> None:
    settings = list(combinations())
    script = f"tell({json.dumps(settings)}.map((s) => {{ set(s); return seen(); }}));"
    legal = 0
    for given, seen in zip(settings, driven(page, script), strict=True):
        expected = outputs(given)
        assert seen["outputs"] == (expected or []), given
        assert (seen["problem"] == "") == seen["hidden"] == (expected is not None), (given, seen["problem"])
        if expected is None:
            assert seen["sum"] == seen["shape"] == ""
            continue
        legal += 1
        size, made = len(expected[0]), module(given)
        assert seen["formula"].endswith(f" = {size}"), given
        assert f" = {sum(parameter.numel() for parameter in made.parameters())}," in seen["parameters"]
        assert seen["shape"] == f"{(1, *inputs_1CHW(given).shape[1:])} → {(1, given['out_channels'], size, size)}"
        assert seen["sum"].replace("−", "-").endswith(f" = {expected[0][0][0]}"), seen["sum"]
        same = eval(seen["call"], {"nn": nn})  # the line that the page tells the student to write
        told = ("kernel_size", "padding", "stride", "dilation", "output_padding", "in_channels", "out_channels")
        assert type(same) is type(made) and all(getattr(same, name) == getattr(made, name) for name in told)
    assert 200 < legal < len(settings) - 100


SMALL = (
    FIRST,
    FIRST | {"dilation": 2, "stride": 1},
    FIRST | {"transposed": 1, "size": 3, "output_padding": 1},
    FIRST | {"transposed": 1, "size": 3, "stride": 3, "dilation": 2, "padding": 2},
)


def sources(settings: Settings, row: int, column: int) -> set[str]:
    """Return the input cells, padding included, on which an output cell depends: those with a derivative."""
    border = 0 if settings["transposed"] else settings["padding"]
    size = settings["size"] + 2 * border
    layer = module(settings | {"padding": settings["padding"] if settings["transposed"] else 0})
    nn.init.ones_(layer.weight)
    inputs = torch.zeros(1, settings["in_channels"], size, size, dtype=torch.float64, requires_grad=True)
    layer(inputs)[0, 0, row, column].backward()
    assert inputs.grad is not None
    return {f"input {c} {i - border} {j - border}" for _, c, i, j in inputs.grad.nonzero().tolist()}


def test_a_cell_shows_where_it_comes_from_and_where_it_goes_to(page: Path) -> None:
    script = f"""tell({json.dumps(SMALL)}.map((settings) => {{
      set(settings);
      const shown = (c) => {{
        c.dispatchEvent(new PointerEvent("pointerover", {{ bubbles: true }}));
        return [place(c), used(), text(".headline"), place(page.querySelector(".chosen"))];
      }};
      const all = (kind) => [...page.querySelectorAll(`td[data-kind=${{kind}}][data-channel="0"]`)].map(shown);
      return {{ outputs: all("output"), inputs: all("input") }};
    }}));"""
    for settings, seen in zip(SMALL, driven(page, script), strict=True):
        expected, reached = outputs(settings), {}
        assert expected
        for place, used, sum_, chosen in seen["outputs"]:
            _, channel, row, column = place.split()
            assert chosen == place
            assert set(used) == sources(settings, int(row), int(column)), (settings, place)
            assert sum_.replace("−", "-").endswith(f" = {expected[int(channel)][int(row)][int(column)]}")
            reached[place] = set(used)
        for place, used, sum_, _ in seen["inputs"]:
            targets = {output for output, inputs in reached.items() if place in inputs}
            assert {output for output in used if output.startswith("output 0")} == targets, (settings, place)
            assert f"used for {len(targets)} output" in sum_ if targets else "no output cell" in sum_


def test_the_terms_of_the_sum_are_products_of_input_and_kernel(page: Path) -> None:
    script = """cell("output", 1, 1, 2).click();
      tell([[...page.querySelectorAll(".terms p")].map((p) => p.textContent), text(".headline")]);"""
    terms, headline = driven(page, script)
    padded = nn.functional.pad(inputs_1CHW(FIRST), [1] * 4)[0, :, 2:5, 4:7].long()  # of row 1, column 2 at stride 2
    weights = weights_FCKK(FIRST)[1].long()
    assert len(terms) == 3
    for channel, words in enumerate(terms):
        told = words.replace("−", "-").split(": ")[1]
        products = re.findall(r"(-?\d+)·\(?(-?\d+)\)?", told)
        pairs = [(int(value), int(weight)) for value, weight in products]
        assert pairs == list(zip(padded[channel].flatten().tolist(), weights[channel].flatten().tolist(), strict=True))
        assert told.endswith(f"= {sum(value * weight for value, weight in pairs)}")
    assert headline.startswith("Output, filter 1, row 1, column 2: ")


def test_the_keyboard_reaches_every_cell(page: Path) -> None:
    script = """
      const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
      const count = (table) => table.querySelectorAll('[tabindex="0"]').length;
      const stops = [...page.querySelectorAll("table[role=grid]")].map(count);
      cell("output", 0, 0, 0).focus();
      const path = ["ArrowRight", "ArrowDown", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowUp"].map((key) => {
        press(key);
        return [place(document.activeElement), place(page.querySelector(".chosen")), document.activeElement.tabIndex];
      });
      tell([stops, path]);"""
    stops, path = driven(page, script)
    assert stops == [1] * 5  # three inputs, two outputs
    steps = ["0 1", "1 1", "2 1", "2 1", "2 0", "1 0"]
    assert path == [[f"output 0 {step}", f"output 0 {step}", 0] for step in steps]


def test_the_address_sets_the_sliders(page: Path) -> None:
    """The page runs with its own policy. It ignores a word or an unknown name, and limits a number to its range."""
    hash_ = "#convolution?size=4&kernel_size=2&padding=x&stride=9&transposed=1&in_channels=1&out_channels=1&unknown=<b>"
    document, console = dumped(page, hash_)
    assert console == []
    assert "nn.ConvTranspose2d(1, 1, kernel_size=2, stride=4, padding=1)" in document
    link = re.search(r'class="here" href="([^"]*)"', document)
    assert link
    again, _ = dumped(page, link[1].replace("&amp;", "&"))
    assert re.search(r'class="here" href="([^"]*)"', again)[1] == link[1]  # type: ignore[index]
    unchanged, _ = dumped(page, "#convolution-explorer")
    assert "nn.Conv2d(3, 2, kernel_size=3, stride=2, padding=1)" in unchanged


def test_a_changed_address_sets_them_anew_and_a_bare_one_sets_them_back(page: Path) -> None:
    script = """
      tell(["#convolution?dilation=2&in_channels=1&transposed=1", "#convolution?"].map((hash) => {
        location.hash = hash;
        dispatchEvent(new Event("hashchange")); // the browser's own comes when this script has ended
        return text(".call");
      }));"""
    assert driven(page, script) == [
        "nn.ConvTranspose2d(1, 2, kernel_size=3, stride=2, padding=1, dilation=2)",
        "nn.Conv2d(3, 2, kernel_size=3, stride=2, padding=1)",
    ]
