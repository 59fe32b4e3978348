"""Makes packs and photographs for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

from dlintro.commands import pack


def packed(folder: Path, *words: str) -> Path:
    """Write a pack as scripts/pack does."""
    assert pack.main([*words, "-o", str(folder)]) == 0
    return folder


def photograph(path: Path, width: int, height: int, seed: int = 0, **options: object) -> Path:
    """Save a smooth picture in colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(256, size=(height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, **options)
    return path


def photographs(root: Path, num: int = 10, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Write JPEGs of two classes and of several sizes."""
    for s, split in enumerate(splits):
        for label, name in enumerate(("n01", "n02")):
            for n in range(num):
                size = [(90, 70), (64, 80), (70, 70), (120, 61)][n % 4]
                seed = 1_000 * s + 100 * label + n
                photograph(root / split / name / f"{n:03}.JPEG", *size, seed=seed, quality=90)
    return root
