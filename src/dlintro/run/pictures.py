"""The pictures of a run in TensorBoard: what the model sees, what it learned, where it errs. Drawn once, at the end.

Shapes: N images, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from torchvision.utils import make_grid

from dlintro.run.results import ClassRow, Results, viewable
from dlintro.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID_IMAGES, GRID_COLUMNS = 32, 8
WORST = 16
SMALLEST_SIDE = 96  # pictures with smaller cells are enlarged, in whole multiples, so that a person can see them
CURVE_CLASSES = 20  # precision-recall curves for at most so many classes, confusion figures in cells likewise
BIG_GRAPH = 64 * 2**20  # bytes of weights above which tracing the graph is not worth its memory


def enlarged(images_NCHW: torch.Tensor) -> torch.Tensor:
    """Each pixel as a square, up to a side of about SMALLEST_SIDE."""
    factor = max(1, round(SMALLEST_SIDE / images_NCHW.shape[-1]))
    return images_NCHW.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def signed(maps_NHW: torch.Tensor) -> torch.Tensor:
    """Weights (N, H, W) as colours (N, 3, H, W): red above zero, blue below, white at zero, one scale for all."""
    scaled = maps_NHW / maps_NHW.abs().max().clamp_min(1e-12)
    red, blue = scaled.clamp_min(0), (-scaled).clamp_min(0)
    return torch.stack([1 - blue, 1 - red - blue, 1 - red], dim=1)


def draw_training_images(writer: SummaryWriter, pixels_NCHW: torch.Tensor, step: int) -> None:
    """A grid of training images as the model sees them: augmented and normalised (the range shown as 0..1)."""
    grid = make_grid(enlarged(viewable(pixels_NCHW[:GRID_IMAGES]).float().cpu()), nrow=GRID_COLUMNS, normalize=True)
    writer.add_image("train/images", grid, step)


def draw_weights(writer: SummaryWriter, network: nn.Module, image_shape: Sequence[int], step: int) -> None:
    """A first linear layer's weights as one picture per output (FlatNet without hidden layers: per class), or a first
    convolution's filters, and one picture of each."""
    first = next((m for m in network.modules() if isinstance(m, (nn.Linear, nn.Conv2d))), None)
    if first is None:
        return
    weight = first.weight.detach().float().cpu()
    if isinstance(first, nn.Linear):
        if weight.shape[1] != torch.Size(image_shape).numel():
            return
        maps_NHW = weight[:GRID_IMAGES].view(-1, *image_shape).mean(1)
        name = "weights/per_class" if len(weight) <= CURVE_CLASSES else "weights/first_layer"
        writer.add_image(name, make_grid(enlarged(signed(maps_NHW)), nrow=5, pad_value=0.5), step)
    elif weight.shape[1] == 3:
        writer.add_image("weights/filters", make_grid(enlarged(weight), nrow=GRID_COLUMNS, normalize=True), step)
    else:
        filters = enlarged(signed(weight.mean(1)))
        writer.add_image("weights/filters", make_grid(filters, nrow=GRID_COLUMNS, pad_value=0.5), step)


def draw_feature_maps(writer: SummaryWriter, network: nn.Module, pixels_1CHW: torch.Tensor, step: int) -> None:
    """What the first convolution makes of one image: a map per filter."""
    first = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        return
    kept: list[torch.Tensor] = []
    hook = first.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.no_grad():
        network(pixels_1CHW)
    hook.remove()
    maps_NHW = kept[0][0].float().cpu()[:GRID_IMAGES]
    writer.add_image("features/first_convolution", make_grid(enlarged(signed(maps_NHW)), nrow=GRID_COLUMNS), step)


def draw_test(writer: SummaryWriter, results: Results, images_NCHW: torch.Tensor, step: int) -> None:
    """Confusion matrix, table of the classes, worst mistakes and precision-recall curves of one test."""
    writer.add_figure("test/confusion", confusion_figure(results), step)
    writer.add_text("test/classes", class_table(results.class_rows()), step)
    if worst := results.worst(WORST):
        writer.add_figure("test/worst_mistakes", mistakes_figure(results, images_NCHW, worst), step)
    for k, name in list(enumerate(results.class_names))[:CURVE_CLASSES]:
        writer.add_pr_curve(
            f"test/{name}", results.labels_N == k, results.probabilities_NK[:, k], step, num_thresholds=50
        )


def confusion_figure(results: Results) -> "Figure":
    from matplotlib.figure import Figure  # not pyplot: nothing global, no window system

    confusion_KK = results.confusion_KK().numpy()
    num_classes = len(results.class_names)
    side = min(10.0, 3 + 0.45 * num_classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    shares = confusion_KK / confusion_KK.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"{results.num_correct:,} of {len(results.labels_N):,} right")
    if num_classes <= CURVE_CLASSES:
        ticks = range(num_classes)
        axes.set_xticks(
            ticks, results.class_names, parse_math=False, rotation=90 if max(map(len, results.class_names)) > 2 else 0
        )
        axes.set_yticks(ticks, results.class_names, parse_math=False)
        for (row, column), count in [((r, c), confusion_KK[r, c]) for r in ticks for c in ticks]:
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                said = axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
                said.set_in_layout(False)  # measuring each of them would take longer than all the rest
    return figure


def class_table(rows: Sequence[ClassRow]) -> str:
    """The figures of each class as a table in Markdown, those with the lowest recall first."""
    lines = ["| class | images | recall | precision | most confused with |", "| --- | ---: | ---: | ---: | --- |"]
    for row in sorted(rows, key=lambda row: 2.0 if row.recall is None else row.recall):
        shares = ("–" if share is None else f"{share:.2%}" for share in (row.recall, row.precision))
        other = "–" if row.most_confused_with is None else f"{row.most_confused_with} ({row.confused:,})"
        cells = (row.name, f"{row.images:,}", *shares, other)
        lines.append("| " + " | ".join(printable(cell).replace("|", "&#124;") for cell in cells) + " |")
    return "\n".join(lines)


def mistakes_figure(results: Results, images_NCHW: torch.Tensor, worst: Sequence[int]) -> "Figure":
    """One picture of them all, with a caption above each: axes of its own for each would take five times as long."""
    from matplotlib.figure import Figure

    columns = min(len(worst), 4)
    rows = -(-len(worst) // columns)
    figure = Figure(figsize=(2 * columns, 2.3 * rows))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for position, index in enumerate(worst):
        left, top = position % columns, 1.15 * (position // columns)
        image_HWC = viewable(images_NCHW[index]).permute(1, 2, 0)
        height, width = image_HWC.shape[:2]
        half_x, half_y = 0.46 * min(1, width / height), 0.46 * min(1, height / width)
        extent = (left + 0.5 - half_x, left + 0.5 + half_x, top + 0.67 + half_y, top + 0.67 - half_y)
        axes.imshow(image_HWC.squeeze(2), cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
        probabilities_K = results.probabilities_NK[index]
        predicted, label = int(probabilities_K.argmax()), int(results.labels_N[index])
        names = results.class_names
        caption = f"{names[label]}, not {names[predicted]}\np({names[label]}) = {probabilities_K[label]:.1g}"
        axes.text(left + 0.5, top + 0.19, caption, ha="center", va="bottom", fontsize=8, parse_math=False)
    axes.set(xlim=(0, columns), ylim=(1.15 * rows, 0))  # each image set its own
    return figure


def draw_graph(writer: SummaryWriter, model: nn.Module, images_NCHW: torch.Tensor) -> None:
    """The model graph, traced with one image."""
    if sum(p.numel() * p.element_size() for p in model.parameters()) <= BIG_GRAPH:
        writer.add_graph(model, images_NCHW[:1], use_strict_trace=False)
