"""Checks that flattening puts the rows of an image one after the other and loses nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Exact, Printed

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench

    Flatten = Callable[[torch.Tensor], torch.Tensor]

IMAGE = ((12, 255, 56), (8, 0, 15), (255, 255, 255))  # as the flatten slide has it
ROW = (12, 255, 56, 8, 0, 15, 255, 255, 255)  # as the same slide prints it

CLAIM = Claim(
    title="Flatten",
    slide="Flatten Operation",
    says="Flattening turns an N-dimensional tensor into a one-dimensional one.",
    kind="identity, transcription slip",
    seconds=2,
    core=Exact("The printed row is the printed image, row after row", "printed numbers"),
    stated=(
        Printed("The same image on the slide before gives the printed row, too", "row of the slide before"),
    ),
    checks=(
        Exact("The pixel in row i and column j goes to place 3 i + j", "value at 3 i + j"),
        Exact("A reshape gives back every one of 200 tensors of random shapes", "tensors given back"),
        Exact("nn.Flatten keeps the batch dimension", "dimensions after nn.Flatten"),
    ),
    student=Student(
        predict="At which place of the row is the image's centre?",
        change="Change the centre of IMAGE in src/dlintro/claims/slides/flatten.py to 255, as an earlier slide has it.",
        expected="The printed row no longer follows from the image: its fifth number is 0.",
    ),
    notes=(
        'The slide "Example Data: Grayscale Image" prints the same image with 255 in its centre, and the flatten slide '
        "prints 0. This is a transcription slip: the printed row belongs to the image with 0.",
    ),
)  # fmt: skip


def measure(bench: "Bench") -> None:
    import torch

    check(bench, torch.flatten)
    flatten_the_slide_before(bench, centre=255)


def falsify(bench: "Bench") -> None:
    """Flatten column after column, and print the same image on both slides."""
    check(bench, by_columns)
    flatten_the_slide_before(bench, centre=0)


def by_columns(tensor: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.flatten(tensor.movedim(-1, 0))


def check(bench: "Bench", flatten: "Flatten") -> None:
    import torch

    image = torch.tensor(IMAGE)
    row = flatten(image).tolist()
    for place, printed in enumerate(ROW):
        bench.record("printed numbers", row[place], arm=f"place {place}", expected=printed)
    for i in range(3):
        for j in range(3):
            bench.record("value at 3 i + j", row[3 * i + j], arm=f"({i}, {j})", expected=IMAGE[i][j])
    random = torch.Generator().manual_seed(0)
    for number in range(200):
        shape = torch.randint(2, 6, (2 + number % 4,), generator=random).tolist()
        tensor = torch.rand(shape, generator=random)
        back = flatten(tensor).reshape(shape)
        bench.record("tensors given back", bool((back == tensor).all()), arm=str(shape), expected=1)
    batch_BCHW = torch.zeros(5, 3, 4, 2)
    layer = torch.nn.Flatten(1 if flatten is torch.flatten else 0)
    bench.record("dimensions after nn.Flatten", layer(batch_BCHW).dim(), expected=2)
    draw(bench, image)


def flatten_the_slide_before(bench: "Bench", centre: int) -> None:
    import torch

    image = torch.tensor(IMAGE)
    image[1, 1] = centre
    for place, (value, printed) in enumerate(zip(image.flatten().tolist(), ROW, strict=True)):
        bench.record("row of the slide before", value, arm=f"place {place}", expected=printed)


def draw(bench: "Bench", image: "torch.Tensor") -> None:
    from matplotlib.patches import Rectangle

    from dlintro.claims.figures import image as show_image
    from dlintro.claims.figures import panels

    title = "Row after row: the image's nine numbers become one row"
    figure, ((left, right),) = panels(1, 2, title, size=(8, 2.4))
    for axes, pixels in ((left, image), (right, image.reshape(1, 9))):
        show_image(axes, pixels, " × ".join(map(str, pixels.shape)))
        for i, line in enumerate(pixels.tolist()):
            for j, value in enumerate(line):
                axes.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="grey", clip_on=False))
                colour = "white" if value < 128 else "black"
                axes.text(j, i, str(value), ha="center", va="center", color=colour, fontsize=11)
    bench.show("flatten", "The slide's image, before and after flattening.", figure)
