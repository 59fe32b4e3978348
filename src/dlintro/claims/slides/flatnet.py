"""FlatNet adds up each pixel times its own weight, plus b, and the weights it learns form a picture."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dlintro.claims.claim import Claim, Student
from dlintro.claims.statements import Count, Exact

if TYPE_CHECKING:
    import torch

    from dlintro.claims.bench import Bench
    from dlintro.data import ImageDataModule
    from dlintro.models import Classifier

    Mix = Callable[[torch.Tensor], torch.Tensor]

# Shapes: N images, D = 784 pixels, K = 10 classes.
ROW = (12, 255, 56, 8, 0, 15, 255, 255, 255)  # as the slide prints it
WEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 9)
PRODUCT = 6932  # 12 · 1 + 255 · 2 + 56 · 3 + ... + 255 · 9
BIASES = (0.0, 1.0, -7.5)
EPOCHS = 5
IMAGES_BY_HAND = 100
PERMUTATIONS = 10_000

CLAIM = Claim(
    title="FlatNet: a weight for each pixel",
    slide="FlatNet",
    says="Each pixel has a weight of its own: the result is the dot product W · x, plus b.",
    kind="identity, measured",
    seconds=18,
    seeds=5,
    core=Count(
        "FlatNet's ten results for 100 images equal sums made by two loops (distance in units of the rounding bound)",
        "distance from the loops", below=1.0,
    ),
    more=(
        Count(
            "Seen as pictures, the weights of at least 8 digits resemble their own digit most",
            "digits whose picture resembles them most", beyond=8,
        ),
        Count("Pictures assigned to digits at random rarely do as well (p below 0.01)", "permutation p", below=0.01),
    ),
    checks=(
        Exact("With weights 1 to 9, the slide's row gives 6932 + b", "the slide's row"),
        Count(
            "The same weights, rescaled for raw pixels from 0 to 255, give the same class for all 10,000 test images",
            "test images with the same class", beyond=10_000,
        ),
    ),
    student=Student(
        predict="What do the weights of the digit 0 look like as a picture: where is it red, and where blue?",
        change="Set EPOCHS in src/dlintro/claims/slides/flatnet.py to 1.",
        expected="Still 10 of 10 pictures resemble their digit, and more closely. Longer training turns to what tells "
        "similar digits apart.",
    ),
    notes=(
        "The slide's result is one number, the dot product with one row of weights. A classifier has a row for each "
        "class, and one matrix product gives all ten results.",
        "What digit k has more of is the mean training image of k minus that of all other digits. Resemblance is Pearson's "
        "correlation over the pixels that are not black in every training image; the weights of the others never moved.",
        "The bound on rounding is 784 · eps · Σ |w x| with eps = 2⁻²³, for any order of the sum (Higham, Accuracy and "
        "Stability of Numerical Algorithms, 2002, section 3.1).",
        'The pictures of the slides "Classification Model" and "Image Classifier for MNIST Dataset" are missing from the '
        "text of the course. The pictures here are our own.",
    ),
)  # fmt: skip


def measure(bench: "Bench") -> None:
    the_slides_row(bench, WEIGHTS)
    learn(bench, loop_over=range(784), keep_mean=True, mix=lambda labels_N: labels_N)


def falsify(bench: "Bench") -> None:
    """The weights are 9 to 1, the loops miss half the pixels, raw pixels lack their mean, and the labels are shuffled."""
    import torch

    the_slides_row(bench, WEIGHTS[::-1])
    learn(
        bench,
        loop_over=range(14 * 28, 784),
        keep_mean=False,
        mix=lambda labels_N: labels_N[torch.randperm(len(labels_N))],
    )


def the_slides_row(bench: "Bench", weights: Sequence[int]) -> None:
    import torch

    from dlintro.models import FlatNet

    network = FlatNet(image_shape=(1, 3, 3), num_classes=1).network  # flatten, then Linear(9, 1)
    row_of_weights, bias = network.parameters()
    image_11HW = torch.tensor(ROW, dtype=torch.float32).view(1, 1, 3, 3)
    with torch.no_grad():
        row_of_weights.copy_(torch.tensor([weights]))
        for b in BIASES:
            bias.fill_(b)
            bench.record("the slide's row", network(image_11HW).item(), arm=f"b = {b:g}", expected=PRODUCT + b)


def learn(bench: "Bench", loop_over: Sequence[int], keep_mean: bool, mix: "Mix") -> None:
    """Train with the labels that `mix` makes from the true ones, and compare the weights with the digits."""
    from dlintro.models import FlatNet

    for cell in bench.cells(["FlatNet"]):
        train_size = bench.pick(55_000, 20_000)
        data = bench.data("mnist", batch_size=128, train_size=train_size, seed=cell.seed)
        differences_KD, inked_D = mean_differences(data)
        data.train.labels_N = mix(data.train.labels_N)
        model = FlatNet(optim={"lr": 1e-3, "schedule": "none"})
        bench.train(model, data, epochs=bench.pick(EPOCHS, 1))
        cell.record("distance from the loops", distance_from_loops(model, data, loop_over))
        cell.record("test images with the same class", same_on_raw_pixels(bench, model, data, keep_mean))
        weights_KD = next(model.network.parameters()).detach().cpu().double().numpy()
        correlations_KK = correlations(weights_KD[:, inked_D], differences_KD[:, inked_D])
        hits, p = own_digit(correlations_KK.argmax(1))
        cell.record("digits whose picture resembles them most", hits)
        cell.record("permutation p", p)
        cell.record("test accuracy", bench.correct(model, data.test).mean().item())
        if cell.first:
            draw_weights(bench, weights_KD, differences_KD)
            draw_correlations(bench, correlations_KK)


def mean_differences(data: "ImageDataModule") -> tuple[np.ndarray, np.ndarray]:
    """Return each class's mean image minus the mean of all others (K, D), and which pixels have ink in any image (D,)."""
    images_ND = data.train.images_NCHW[data.train.indices].flatten(1).numpy()
    labels_N = data.train.labels.numpy()
    differences = [images_ND[labels_N == k].mean(0) - images_ND[labels_N != k].mean(0) for k in range(10)]
    return np.stack(differences), images_ND.max(0) > 0


def distance_from_loops(model: "Classifier", data: "ImageDataModule", loop_over: Sequence[int]) -> float:
    """Return the largest |logit - sum by float64 loops| of 100 test images, in units of the rounding bound."""
    import torch

    images_NCHW, _ = data.test.__getitems__(list(range(IMAGES_BY_HAND)))
    with torch.inference_mode():
        pixels_ND = model.cpu().pixels(images_NCHW).flatten(1)
        logits_NK = model(images_NCHW)
    weights, biases = (parameter.tolist() for parameter in model.network.parameters())
    eps = torch.finfo(torch.float32).eps
    worst = 0.0
    for pixels, logits in zip(pixels_ND.tolist(), logits_NK.tolist(), strict=True):
        for k in range(10):
            total, absolute = biases[k], 0.0
            for d in loop_over:
                total += weights[k][d] * pixels[d]
                absolute += abs(weights[k][d] * pixels[d])
            worst = max(worst, abs(logits[k] - total) / (784 * eps * absolute))
    return worst


def same_on_raw_pixels(bench: "Bench", model: "Classifier", data: "ImageDataModule", keep_mean: bool) -> int:
    """Move the first layer's (x / 255 - μ) / σ into the weights, W / (255 σ) and b - Σ W μ / σ; count equal classes."""
    import torch

    classes_N = bench.logits(model, data.test).argmax(1)
    weights_KD, bias_K = (parameter.detach().cpu().double() for parameter in model.network.parameters())
    mean, std = model.pixels.mean_C11.item(), model.pixels.std_C11.item()
    raw_weights_KD = weights_KD / (255 * std)
    raw_bias_K = bias_K - weights_KD.sum(1) * (mean / std if keep_mean else 0)
    raw_pixels_ND = data.test.images_NCHW.flatten(1).double()
    raw_classes_N = torch.nn.functional.linear(raw_pixels_ND, raw_weights_KD, raw_bias_K).argmax(1)
    return int((raw_classes_N == classes_N).sum())


def correlations(pictures_KD: np.ndarray, differences_KD: np.ndarray) -> np.ndarray:
    """Return the correlation of picture k (row) with the mean difference of digit j (column): (K, K)."""
    both: np.ndarray = np.corrcoef(pictures_KD, differences_KD)
    return both[:10, 10:]


def own_digit(most_like_K: np.ndarray) -> tuple[int, float]:
    """Return how many pictures resemble their own digit most, and the share of random pairings with as many."""
    hits = int((most_like_K == np.arange(10)).sum())
    random = np.random.default_rng(0)
    by_lot = [(most_like_K == random.permutation(10)).sum() for _ in range(PERMUTATIONS)]
    return hits, float((1 + sum(num >= hits for num in by_lot)) / (1 + PERMUTATIONS))


def draw_weights(bench: "Bench", weights_KD: np.ndarray, differences_KD: np.ndarray) -> None:
    from dlintro.claims.figures import image, panels

    title = "Top: FlatNet's weights (red: for the digit, blue: against it). Below: what the digit's images have more of"
    figure, (top, below) = panels(2, 10, title, size=(11, 2.9))
    for k in range(10):
        image(top[k], weights_KD[k].reshape(28, 28), f"weights of {k}", signed=True)
        image(below[k], differences_KD[k].reshape(28, 28), f"{k} - others", signed=True)
    bench.show(
        "weights",
        "FlatNet's weights as ten pictures. Below them: each digit's mean image minus that of all other digits.",
        figure,
    )


def draw_correlations(bench: "Bench", correlations_KK: np.ndarray) -> None:
    from dlintro.claims.figures import panel

    x, y = "mean image of this digit minus the others'", "weights of this digit"
    figure, axes = panel("Each picture of weights resembles its own digit most", x, y, size=(6.0, 5.2))
    axes.grid(visible=False)
    most = float(np.abs(correlations_KK).max())
    shown = axes.imshow(correlations_KK, cmap="RdBu_r", vmin=-most, vmax=most)
    axes.set(xticks=range(10), yticks=range(10))
    for k, j in np.ndindex(10, 10):
        colour = "white" if abs(correlations_KK[k, j]) > 0.6 * most else "black"
        words = f"{float(correlations_KK[k, j].round(1)) + 0:.1f}"  # + 0: no minus before a zero
        axes.text(j, k, words, ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(shown, label="correlation")
    bench.show(
        "resemblance", "The correlation of each picture of weights with what each digit's images have more of.", figure
    )
