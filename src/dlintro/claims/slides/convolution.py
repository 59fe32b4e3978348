"""The slide's convolution: its printed numbers computed again, the size of what comes out, and the way back.

Shapes: C channels of the input, O filters (channels of the output), H height, W width.
"""

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

    from dlintro.claims.bench import Bench

    Turn = Callable[[torch.Tensor], torch.Tensor]

CLAIM = Claim(
    title="Convolution",
    slide="Convolution Operation; Convolution Visualized",
    says="Filters with learnable weights and biases move over the image; an example shows what comes out of two.",
    kind="identity, transcription slip",
    seconds=6,
    statements=(
        Exact("two filters of 3 × 3 × 3 have 2 · (27 + 1) numbers to learn, weights and biases", "learnable numbers"),
        Exact("nn.Conv2d gives what moving the filters by hand gives, at each of the 18 places", "output by hand"),
        Exact("11 of the slide's 18 printed outputs follow from the numbers it prints", "printed outputs right"),
        Exact("no row of its second filter's output does: a slip in the transcription", "printed rows right, filter 1"),
        Exact("with the filters turned by 180°, as mathematics convolves, other numbers come out", "turning matters"),
        Exact("of all strides one alone makes 3 × 3 places of 7 × 7 pixels", "strides that fit"),
        Exact("it is 2, which the slide doesn't print", "the stride that fits"),
        Exact("the size is floor((n + 2p - d(k - 1) - 1) / s) + 1 wherever the kernel fits", "convolution's sizes"),
        Exact("a kernel that fits nowhere is an error", "convolution's errors"),
        Exact(
            "transposed it is (n - 1)s - 2p + d(k - 1) + 1 + output_padding wherever that is legal", "transposed sizes"
        ),
        Exact("an output_padding of stride and dilation or more, or an empty output, is an error", "transposed errors"),
        Exact("⟨conv x, y⟩ = ⟨x, convᵀ y⟩ in float64: the one is the other's transposed matrix", "adjoint", 1e-12),
    ),
    student=Student(
        predict="7 × 7 pixels, a 3 × 3 kernel, no padding: how large is the output with stride 1, with 2, with 3?",
        change="the first 0 in FILTER_0 of src/dlintro/claims/slides/convolution.py, to 5",
        expected="Filter 0's output grows by 5, 10, 5 in its middle row and by 10 in its last, where that weight meets "
        "pixels that aren't 0; filter 1's stays as it is. Only 10 of the printed numbers agree then.",
    ),
    notes=(
        "Transcription slip: 7 of the 18 outputs that the slide prints don't follow from the input and the filters it "
        "prints, three of filter 0's and four of filter 1's. They are shown beside the computed ones. Whether the "
        "input, the filters or the output is wrong the slide can't tell, and nothing is mended here.",
        "The headings of some of the slide's tables are lost; the order of the tables is taken as it stands.",
        "nn.Conv2d is what mathematics calls a cross-correlation: the filter isn't turned. To a network that learns "
        "its filters it makes no difference.",
        "In the formulas: n pixels a side, k kernel size, p padding, s stride, d dilation. All of n 5 to 16, k 1 to 5, "
        "p 0 to 3, s 1 to 4, d 1 to 3, and output_padding 0 to 4, are tried: 2,880 convolutions and 14,400 transposed.",
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
"""  # its three channels side by side, with the padding of 1 that the slide has put around them
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
"""  # what follows from the numbers above: for `falsify` alone
STRIDE = 2

SIDES, KERNELS, PADDINGS, STRIDES, DILATIONS = range(5, 17), range(1, 6), range(4), range(1, 5), range(1, 4)
OUTPUT_PADDINGS = range(5)


def measure(bench: "Bench") -> None:
    example(bench, by_hand=unchanged, turn=turned)
    find_stride(bench, size=3)
    sizes(bench, span_of=lambda kernel, dilation: dilation * (kernel - 1) + 1, added_below=max)
    adjoint(bench, way_back=unchanged)


def falsify(bench: "Bench") -> None:
    """Other filters by hand, a turn that changes nothing, a slide without a slip and without biases to learn; a size
    that two strides give; wrong formulas; and a way back with other filters."""
    example(bench, by_hand=turned, turn=unchanged, printed=WITHOUT_SLIP, with_biases=False)
    find_stride(bench, size=2)
    sizes(bench, span_of=lambda kernel, dilation: dilation * kernel + 1, added_below=min)
    adjoint(bench, way_back=turned)


def unchanged(filters_OCHW: "torch.Tensor") -> "torch.Tensor":
    return filters_OCHW


def turned(filters_OCHW: "torch.Tensor") -> "torch.Tensor":
    """By 180°."""
    return filters_OCHW.flip(2, 3)


def read_table(text: str, width: int) -> "torch.Tensor":
    """Tables of `width` columns, side by side: float (C, H, width)."""
    import torch

    numbers = torch.tensor([[float(number) for number in row.split()] for row in text.strip().splitlines()])
    return torch.stack(numbers.split(width, dim=1))


def example(bench: "Bench", by_hand: "Turn", turn: "Turn", printed: str = PRINTED, with_biases: bool = True) -> None:
    """The slide's numbers by nn.Conv2d, by hand, and as they are printed."""
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
        bench.record("printed on the slide", float(printed_OHW[place]), arm=arm)
    right_OHW = output_OHW == printed_OHW
    bench.record("printed outputs right", int(right_OHW.sum()), expected=11)
    bench.record("printed rows right, filter 1", int(right_OHW[1].all(1).sum()), expected=0)
    bench.record("turning matters", bool((turned_OHW != output_OHW).any()), expected=1)
    draw_slip(bench, printed_OHW, output_OHW)
    draw_first_place(bench, input_CHW, filters_OCHW[0])


def move_by_hand(
    image_CHW: list[list[list[float]]], filters_OCHW: list[list[list[list[float]]]], number: int, row: int, column: int
) -> float:
    """One output, in plain Python: where the filter lies its weights are multiplied with the pixels under them."""
    total = float(BIASES[number])
    for channel, kernel_HW in enumerate(filters_OCHW[number]):
        for down, weights_W in enumerate(kernel_HW):
            for right, weight in enumerate(weights_W):
                total += weight * image_CHW[channel][row * STRIDE + down][column * STRIDE + right]
    return total


def find_stride(bench: "Bench", size: int) -> None:
    """Tries every stride on an input of 7 × 7."""
    import torch

    image_CHW = torch.zeros(1, 7, 7)
    shapes = {stride: torch.nn.Conv2d(1, 1, 3, stride)(image_CHW).shape[1] for stride in range(1, 8)}
    fitting = [stride for stride, found in shapes.items() if found == size]
    bench.record("strides that fit", len(fitting), expected=1)
    bench.record("the stride that fits", fitting[0], expected=STRIDE)


def sizes(bench: "Bench", span_of: Callable[[int, int], int], added_below: Callable[[int, int], int]) -> None:
    """The formulas against PyTorch, over the whole grid; 0 stands for an error. `span_of`: pixels from the first to the
    last of a dilated kernel; `added_below`: what output_padding must be smaller than, of stride and dilation."""
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
    """A side of the output; 0 if PyTorch refuses."""
    try:
        return convolve(*arguments).shape[2]
    except RuntimeError:
        return 0


def adjoint(bench: "Bench", way_back: "Turn") -> None:
    """A convolution is a matrix, and nn.ConvTranspose2d multiplies with the transposed one. Without biases."""
    import torch
    from torch.nn.functional import conv2d, conv_transpose2d

    torch.manual_seed(0)
    for k, p, s, d in product(KERNELS[1:], PADDINGS, STRIDES, DILATIONS):
        filters_OCHW = torch.randn(4, 3, k, k, dtype=torch.float64)
        x_BCHW = torch.randn(2, 3, 16, 16, dtype=torch.float64)
        forward_BOHW = conv2d(x_BCHW, filters_OCHW, None, s, p, d)
        y_BOHW = torch.randn_like(forward_BOHW)
        added = (16 + 2 * p - d * (k - 1) - 1) % s  # pixels at the end that the stride passed over
        back_BCHW = conv_transpose2d(y_BOHW, way_back(filters_OCHW), None, s, p, added, 1, d)
        left, right = float((forward_BOHW * y_BOHW).sum()), float((x_BCHW * back_BCHW).sum())
        scale = float(forward_BOHW.norm() * y_BOHW.norm())
        bench.record("adjoint", (left - right) / scale, arm=f"k {k}, p {p}, s {s}, d {d}", expected=0)


def draw_slip(bench: "Bench", printed_OHW: "torch.Tensor", output_OHW: "torch.Tensor") -> None:
    from dlintro.claims.figures import panels

    title = "The slide's output: what it prints and what follows from its numbers"
    figure, grid = panels(2, 3, title, size=(7.5, 5.2))
    for number, row in enumerate(grid):
        printed, computed = printed_OHW[number], output_OHW[number]
        tables = {"printed": printed, "computed": computed, "printed minus computed": printed - computed}
        for axes, (name, table_HW) in zip(row, tables.items(), strict=True):
            write_table(axes, table_HW, f"filter {number}: {name}", marked_HW=printed != computed)
    bench.show("slip", "Orange: where the printed number doesn't follow from the printed input and filters.", figure)


def draw_first_place(bench: "Bench", input_CHW: "torch.Tensor", filter_CHW: "torch.Tensor") -> None:
    import torch

    from dlintro.claims.figures import panels

    figure, grid = panels(2, 3, "Filter 0 at its first place: 27 products, and the bias", size=(7.5, 5.6))
    under_HW = torch.zeros(7, 7, dtype=torch.bool)
    under_HW[:3, :3] = True
    sums = (input_CHW[:, :3, :3] * filter_CHW).sum((1, 2)).int().tolist()
    for channel in range(3):
        write_table(grid[0][channel], input_CHW[channel], f"input, channel {channel}", marked_HW=under_HW)
        title = f"filter, channel {channel}; sum {sums[channel]}".replace("-", "−")
        write_table(grid[1][channel], filter_CHW[channel], title, marked_HW=under_HW[:3, :3])
    added = " + ".join(f"({part})" if part < 0 else str(part) for part in [*sums, BIASES[0]])
    words = f"{added} = {sum(sums) + BIASES[0]}, the first output. Then the filter moves on by {STRIDE} pixels."
    bench.show("first_place", words, figure)


def write_table(axes: "Axes", table_HW: "torch.Tensor", title: str, marked_HW: "torch.Tensor") -> None:
    """Numbers in squares; the marked ones in orange."""
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
