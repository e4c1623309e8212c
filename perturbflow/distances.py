"""Distances between the feature map of a clean image and that of another version of it, image by image.

A metric takes two batches of maps, (B, ...) of any floating type, and gives the distances, float64 (B,). It computes
in double precision: of two nearly parallel maps, 1 - cos is the small rest of large numbers, and in single precision
lost in rounding already where the maps differ by a percent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Metric = Callable[[Tensor, Tensor], Tensor]


def normalized_euclidean(clean: Tensor, other: Tensor) -> Tensor:
    """NE-D (Figure 1 of the paper): ||v_clean - v_other||_2 / n, with n the elements of one image's map."""
    return _norms(clean.double() - other.double()).flatten() / clean.shape[1:].numel()


def cosine(clean: Tensor, other: Tensor) -> Tensor:
    """COS-D (Figure 1 of the paper): 1 - <v_clean, v_other> / (||v_clean|| ||v_other||), in 0..2.

    Computed as ||v_clean / ||v_clean|| - v_other / ||v_other|| ||^2 / 2, which equals it and keeps nine digits at
    1e-10, whatever the lengths. A map that is zero throughout has no direction: 0 to another such map, 1 to any other.
    """
    clean, other = clean.double(), other.double()
    clean_norms, other_norms = _norms(clean), _norms(other)
    distances = _norms(clean / clean_norms - other / other_norms).square() / 2
    without_direction = (clean_norms == 0) | (other_norms == 0)
    one_is_zero = (clean_norms != other_norms).double()
    return torch.where(without_direction, one_is_zero, distances.clamp(max=2)).flatten()


def _norms(maps: Tensor) -> Tensor:
    """Euclidean norm of each image's map, (B, 1, ...), with no copy into another order of memory."""
    return torch.linalg.vector_norm(maps, dim=tuple(range(1, maps.ndim)), keepdim=True)


METRICS: dict[str, Metric] = {
    "normalized_euclidean": normalized_euclidean,
    "cosine": cosine,
}
