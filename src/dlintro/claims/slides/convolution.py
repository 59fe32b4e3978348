"""Recomputes the slide's convolution, and checks the output sizes and the transposed convolution.

Shapes: C channels of the input, O filters (channels of the output), H height, W width.
"""

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact, Printed

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from dlintro.claims.bench import Bench

    Turn = Callable[[torch.Tensor], torch.Tensor]

CLAIM = Claim(
    title="Convolution",
    slide="Convolution Operation; Convolution Visualized",
    says="Filters with learnable weights and biases move over the image; an example shows what two filters return.",
    kind="identity, transcription slip",
    seconds=4,
    core=Exact("nn.Conv2d returns the same as moving the filters by hand, at all 18 places", "output by hand"),
    stated=(
        Printed("The slide's printed outputs follow from the numbers it prints", "outputs beside the printed ones"),
        Exact("Two filters of 3 × 3 × 3 have 2 · (27 + 1) learnable weights and biases", "learnable numbers"),
    ),
    more=(
        Exact("11 of the slide's 18 printed outputs are right", "printed outputs right"),
        Exact("No row of filter 1's printed output is right", "printed rows right, filter 1"),
    ),
    checks=(
        Exact("Filters turned by 180°, as in mathematics, give other numbers", "turning matters"),
        Exact("Only one stride turns 7 × 7 pixels into 3 × 3 outputs", "strides that fit"),
        Exact("That stride is 2, which the slide doesn't print", "the stride that fits"),
        Exact("The output size is floor((n + 2p - d(k - 1) - 1) / s) + 1 if the kernel fits", "convolution's sizes"),
        Exact("A kernel that is larger than the padded image is an error", "convolution's errors"),
        Exact(
            "The transposed size is (n - 1)s - 2p + d(k - 1) + 1 + output_padding if that is legal", "transposed sizes"
        ),
        Exact(
            "An output_padding of at least both stride and dilation, or an empty output, is an error",
            "transposed errors",
        ),
        Exact("⟨conv x, y⟩ = ⟨x, convᵀ y⟩ in float64: each is the other's transposed matrix", "adjoint", 1e-12),
    ),
    student=Student(
        predict="7 × 7 pixels, a 3 × 3 kernel, no padding: how large is the output with stride 1, with 2, with 3?",
        change="Change the first 0 in FILTER_0 of src/dlintro/claims/slides/convolution.py to 5.",
        expected="Filter 0's output grows by 5, 10, 5 in its middle row and by 10 in its last row, where that weight "
        "meets pixels that aren't 0. Filter 1's output stays as it is. Only 10 of the printed numbers agree now.",
    ),
    notes=(
        "The slide has a transcription slip: 7 of the 18 outputs it prints don't follow from the input and the filters "
        "it prints, three for filter 0 and four for filter 1. The page shows them beside the computed ones. The slide "
        "can't tell whether the input, the filters or the output is wrong, so nothing is corrected here.",
        "Some of the slide's tables have lost their headings. The tables are taken in the order they stand in.",
        "Mathematics calls what nn.Conv2d does a cross-correlation, because the filter isn't turned. This makes no "
        "difference to a network that learns its filters.",
        "In the formulas, n is the number of pixels per side, k the kernel size, p the padding, s the stride and d the "
        "dilation. The check tries every n from 5 to 16, k from 1 to 5, p from 0 to 3, s from 1 to 4, d from 1 to 3 and "
        "output_padding from 0 to 4: 2,880 convolutions and 14,400 transposed ones.",
    ),
)

INPUT = """
0 0 0 0 0 0 0   0 0 0 0 0 0 0   0 0 0 0 0 0 0
0 0 0 1 0 2 0   0 2 1 2 1 1 0   0 2 1 1 2 0 0
0 1 0 2 0 1 0   0 2 2 2 0 1 0   0 1 0 0 1 0 0
0 1 0 0 2 0 0   0 0 2 1 0 1 0   0 0 1 0 0 0 0
0 2 0 0 2 0 0   0 1 2 2 2 2 0   0 1 0 2 1 0 0
0 2 1 0 2 0 0   0 0 1 2 0 1 0   0 2 2 1 1 1 0
0 0 0 0 0 0 0   0 0 0 0 0 0 0   0 0 0 0 0 0 0
"""  # three channels side by side, with the slide's padding of 1
FILTER_0 = """
-1 0 1   -1  0 1   -1  1 1
 0 0 1    1 -1 1    1  1 0
 0 -1 0   0  1 0    0 -1 0
"""
FILTER_1 = """
0  1 -1   -1  0 0   -1  1 -1
0 -1  0    1 -1 0    0 -1 -1
0 -1  0    1 -1 0    1  0  0
"""
BIASES = (1, 0)
PRINTED = """
2  3  3   -8 -8  3
3  7  3   -3  1  0
8 10 -3   -3 -8 -5
"""  # the outputs of both filters
WITHOUT_SLIP = """
2  3  3   -8 -7 -3
4  4  1   -3  0  0
8 10 -3   -3 -6 -5
"""  # what follows from the numbers above; used by `falsify` only
STRIDE = 2

SIDES, KERNELS, PADDINGS, STRIDES, DILATIONS = range(5, 17), range(1, 6), range(4), range(1, 5), range(1, 4)
OUTPUT_PADDINGS = range(5)


def measure(bench: "Bench") -> None:
    example(bench, by_hand=unchanged, turn=turned)
    find_stride(bench, size=3)
    sizes(bench, span_of=lambda kernel, dilation: dilation * (kernel - 1) + 1, added_below=max)
    adjoint(bench, way_back=unchanged)


def falsify(bench: "Bench") -> None:
    """The filters moved by hand are others, the turn changes nothing, and the slide has no slip and no biases. Two
    strides give the size, the formulas are wrong, and the transposed convolution uses other filters."""
    example(bench, by_hand=turned, turn=unchanged, printed=WITHOUT_SLIP, with_biases=False)
    find_stride(bench, size=2)
    sizes(bench, span_of=lambda kernel, dilation: dilation * kernel + 1, added_below=min)
    adjoint(bench, way_back=turned)


def unchanged(filters_OCHW: "torch.Tensor") -> "torch.Tensor":
    return filters_OCHW


def turned(filters_OCHW: "torch.Tensor") -> "torch.Tensor":
    """Turn the filters by 180°."""
    return filters_OCHW.flip(2, 3)


def read_table(text: str, width: int) -> "torch.Tensor":
    """Read tables of `width` columns that stand side by side: float (C, H, width)."""
    import torch

    numbers = torch.tensor([[float(number) for number in row.split()] for row in text.strip().splitlines()])
    return torch.stack(numbers.split(width, dim=1))


def example(bench: "Bench", by_hand: "Turn", turn: "Turn", printed: str = PRINTED, with_biases: bool = True) -> None:
    """Compare the slide's printed outputs with nn.Conv2d's and with those made by hand."""
    import torch

    input_CHW = read_table(INPUT, 7)
    filters_OCHW = torch.stack([read_table(FILTER_0, 3), read_table(FILTER_1, 3)])
    printed_OHW = read_table(printed, 3)
    layer = torch.nn.Conv2d(3, 2, kernel_size=3, stride=STRIDE)
    learnable = layer.parameters() if with_biases else [layer.weight]
    bench.record("learnable numbers", sum(numbers.numel() for numbers in learnable), expected=2 * (3 * 3 * 3 + 1))
    biases = torch.tensor(BIASES, dtype=torch.float32)
    output_OHW, turned_OHW = (
        torch.func.functional_call(layer, {"weight": weights, "bias": biases}, input_CHW)
        for weights in (filters_OCHW, turn(filters_OCHW))
    )
    for place in product(range(2), range(3), range(3)):
        expected = move_by_hand(input_CHW.tolist(), by_hand(filters_OCHW).tolist(), *place)
        arm = "filter {}, row {}, column {}".format(*place)
        bench.record("output by hand", float(output_OHW[place]), arm=arm, expected=expected)
        printed_number = float(printed_OHW[place])
        bench.record("outputs beside the printed ones", float(output_OHW[place]), arm=arm, expected=printed_number)
    right_OHW = output_OHW == printed_OHW
    bench.record("printed outputs right", int(right_OHW.sum()), expected=11)
    bench.record("printed rows right, filter 1", int(right_OHW[1].all(1).sum()), expected=0)
    bench.record("turning matters", bool((turned_OHW != output_OHW).any()), expected=1)
    draw_slip(bench, printed_OHW, output_OHW)
    draw_first_place(bench, input_CHW, filters_OCHW[0])


def move_by_hand(
    image_CHW: list[list[list[float]]], filters_OCHW: list[list[list[list[float]]]], number: int, row: int, column: int
) -> float:
    """Return one output, in plain Python: the sum of the filter's weights times the pixels under them."""
    total = float(BIASES[number])
    for channel, kernel_HW in enumerate(filters_OCHW[number]):
        for down, weights_W in enumerate(kernel_HW):
            for right, weight in enumerate(weights_W):
                total += weight * image_CHW[channel][row * STRIDE + down][column * STRIDE + right]
    return total


def find_stride(bench: "Bench", size: int) -> None:
    """Try every stride on an input of 7 × 7."""
    import torch

    image_CHW = torch.zeros(1, 7, 7)
    shapes = {stride: torch.nn.Conv2d(1, 1, 3, stride)(image_CHW).shape[1] for stride in range(1, 8)}
    fitting = [stride for stride, found in shapes.items() if found == size]
    bench.record("strides that fit", len(fitting), expected=1)
    bench.record("the stride that fits", fitting[0], expected=STRIDE)


def sizes(bench: "Bench", span_of: Callable[[int, int], int], added_below: Callable[[int, int], int]) -> None:
    """Compare the formulas with PyTorch over the whole grid, where 0 stands for an error. `span_of` returns the pixels
    that a dilated kernel spans; `added_below` returns the limit of output_padding from stride and dilation."""
    import torch
    from torch.nn.functional import conv2d, conv_transpose2d

    for n in SIDES:
        image = torch.zeros(1, 1, n, n)
        found: dict[str, list[tuple[int, int]]] = {"convolution's": [], "transposed": []}
        for k, p, s, d in product(KERNELS, PADDINGS, STRIDES, DILATIONS):
            kernel, span = torch.zeros(1, 1, k, k), span_of(k, d)
            formula = (n + 2 * p - span) // s + 1 if span <= n + 2 * p else 0
            found["convolution's"].append((size_or_error(conv2d, image, kernel, None, s, p, d), formula))
            for added in OUTPUT_PADDINGS:
                size = (n - 1) * s - 2 * p + span + added
                formula = size if size >= 1 and added < added_below(s, d) else 0
                real = size_or_error(conv_transpose2d, image, kernel, None, s, p, added, 1, d)
                found["transposed"].append((real, formula))
        for kind, pairs in found.items():
            legal = [real == formula for real, formula in pairs if formula]
            illegal = [real == 0 for real, formula in pairs if not formula]
            bench.record(f"{kind} sizes", sum(legal), arm=f"n = {n}", expected=len(legal))
            bench.record(f"{kind} errors", sum(illegal), arm=f"n = {n}", expected=len(illegal))


def size_or_error(convolve: "Callable[..., torch.Tensor]", *arguments: Any) -> int:
    """Return the output's side in pixels, or 0 if PyTorch raises an error."""
    try:
        return convolve(*arguments).shape[2]
    except RuntimeError:
        return 0


def adjoint(bench: "Bench", way_back: "Turn") -> None:
    """Check that nn.ConvTranspose2d multiplies with the transposed matrix of the convolution (without biases)."""
    import torch
    from torch.nn.functional import conv2d, conv_transpose2d

    torch.manual_seed(0)
    for k, p, s, d in product(KERNELS[1:], PADDINGS, STRIDES, DILATIONS):
        filters_OCHW = torch.randn(4, 3, k, k, dtype=torch.float64)
        x_BCHW = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        forward_BOHW = conv2d(x_BCHW, filters_OCHW, None, s, p, d)
        y_BOHW = torch.randn_like(forward_BOHW)
        added = (16 + 2 * p - d * (k - 1) - 1) % s  # pixels at the end that the stride skipped
        back_BCHW = conv_transpose2d(y_BOHW, way_back(filters_OCHW), None, s, p, added, 1, d)
        left, right = float((forward_BOHW * y_BOHW).sum()), float((x_BCHW * back_BCHW).sum())
        scale = float(forward_BOHW.norm() * y_BOHW.norm())
        bench.record("adjoint", (left - right) / scale, arm=f"k {k}, p {p}, s {s}, d {d}", expected=0)


def draw_slip(bench: "Bench", printed_OHW: "torch.Tensor", output_OHW: "torch.Tensor") -> None:
    from dlintro.claims.figures import panels

    title = "The slide's output: the printed numbers and the computed ones"
    figure, grid = panels(2, 3, title, size=(7.5, 5.2))
    for number, row in enumerate(grid):
        printed, computed = printed_OHW[number], output_OHW[number]
        tables = {"printed": printed, "computed": computed, "printed minus computed": printed - computed}
        for axes, (name, table_HW) in zip(row, tables.items(), strict=True):
            write_table(axes, table_HW, f"filter {number}: {name}", marked_HW=printed != computed)
    bench.show("slip", "Orange numbers don't follow from the printed input and filters.", figure)


def draw_first_place(bench: "Bench", input_CHW: "torch.Tensor", filter_CHW: "torch.Tensor") -> None:
    import torch

    from dlintro.claims.figures import panels

    figure, grid = panels(2, 3, "Filter 0 at its first place: 27 products plus the bias", size=(7.5, 5.6))
    under_HW = torch.zeros(7, 7, dtype=torch.bool)
    under_HW[:3, :3] = True
    sums = (input_CHW[:, :3, :3] * filter_CHW).sum((1, 2)).int().tolist()
    for channel in range(3):
        write_table(grid[0][channel], input_CHW[channel], f"input, channel {channel}", marked_HW=under_HW)
        title = f"filter, channel {channel}; sum {sums[channel]}".replace("-", "−")
        write_table(grid[1][channel], filter_CHW[channel], title, marked_HW=under_HW[:3, :3])
    added = " + ".join(f"({part})" if part < 0 else str(part) for part in [*sums, BIASES[0]])
    words = f"{added} = {sum(sums) + BIASES[0]} is the first output. Then the filter moves by {STRIDE} pixels."
    bench.show("first_place", words, figure)


def write_table(axes: "Axes", table_HW: "torch.Tensor", title: str, marked_HW: "torch.Tensor") -> None:
    """Draw numbers in squares; the marked ones are orange."""
    from matplotlib.colors import ListedColormap

    axes.imshow(marked_HW.float(), cmap=ListedColormap(["#eef2f6", "#f6c28b"]), vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    height, width = table_HW.shape
    for row, column in product(range(height), range(width)):
        number = f"{int(table_HW[row, column])}".replace("-", "−")
        axes.text(column, row, number, ha="center", va="center", fontsize=14 if width < 5 else 9)
    axes.set_xticks([edge - 0.5 for edge in range(1, width)], minor=True)
    axes.set_yticks([edge - 0.5 for edge in range(1, height)], minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=10)
