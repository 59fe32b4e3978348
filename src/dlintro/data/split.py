"""Chooses images for validation, or a part of the training images. The choice is fixed, so that all runs agree."""

import torch

FIXED_SEED = 20_240_229  # the same split for every seed of a run: runs differ by their training, not by their data


def _ranks(labels_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rank of each image among its class's shuffled images, and the size of its class; both int64 (N,)."""
    generator = torch.Generator().manual_seed(FIXED_SEED)
    ranks_N, sizes_N = torch.empty_like(labels_N), torch.empty_like(labels_N)
    for label in labels_N.unique().tolist():
        rows = (labels_N == label).nonzero().flatten()
        ranks_N[rows] = torch.randperm(len(rows), generator=generator)
        sizes_N[rows] = len(rows)
    return ranks_N, sizes_N


def stratified(labels_N: torch.Tensor, num: int) -> torch.Tensor:
    """Return the ascending indices of `num` images in which every class has its share of the set (to one image)."""
    ranks_N, sizes_N = _ranks(labels_N)
    return ((ranks_N + 0.5) / sizes_N).argsort(stable=True)[:num].sort().values


def class_balanced(labels_N: torch.Tensor, num: int) -> torch.Tensor:
    """Return the ascending indices of `num` images, equally many of each class (to one image, while it has any)."""
    ranks_N, _ = _ranks(labels_N)
    return ranks_N.argsort(stable=True)[:num].sort().values


def others(num_all: int, taken: torch.Tensor) -> torch.Tensor:
    """Return the ascending indices below `num_all` that are not in `taken`."""
    left = torch.ones(num_all, dtype=torch.bool)
    left[taken] = False
    return left.nonzero().flatten()
