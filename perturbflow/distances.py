"""Distances between the feature map of a clean image and that of another version of it, image by image."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor


class MapPair:
    """Feature maps of the same images in two versions, flattened to (B, n) and in double precision.

    Double precision because 1 - cos(a, b) of two nearly equal maps is the small rest of large numbers: in single
    precision it is lost in rounding already where the maps differ by a percent.
    """

    def __init__(self, clean: Tensor, other: Tensor) -> None:
        self.clean = clean.flatten(1).double()
        self.other = other.flatten(1).double()

    @property
    def n_elements(self) -> int:
        """n, the number of elements of one image's map."""
        return self.clean.shape[1]

    @cached_property
    def difference(self) -> Tensor:
        """v_clean - v_other, (B, n)."""
        return self.clean - self.other

    @cached_property
    def distance(self) -> Tensor:
        """||v_clean - v_other||_2, (B,)."""
        return torch.linalg.vector_norm(self.difference, dim=1)

    @cached_property
    def norms(self) -> tuple[Tensor, Tensor]:
        """||v_clean||_2 and ||v_other||_2, each (B,)."""
        return torch.linalg.vector_norm(self.clean, dim=1), torch.linalg.vector_norm(self.other, dim=1)


Metric = Callable[[MapPair], Tensor]


def normalized_euclidean(pair: MapPair) -> Tensor:
    """NE-D (Figure 1 of the paper): ||v_clean - v_other||_2 / n, with n the elements of one image's map. (B,)."""
    return pair.distance / pair.n_elements


def cosine(pair: MapPair) -> Tensor:
    """COS-D (Figure 1 of the paper): 1 - <v_clean, v_other> / (||v_clean|| ||v_other||), in 0..2. (B,).

    Computed as (d^2 - (||a|| - ||b||)^2) / (2 ||a|| ||b||), which equals it and keeps its digits where a and b are
    nearly parallel. A map that is zero throughout has no direction: 0 to another such map, 1 to any other.
    """
    clean, other = pair.norms
    # ||a|| - ||b||, from the difference vector for the same reason.
    change = (pair.difference * (pair.clean + pair.other)).sum(1) / (clean + other)
    distance = (pair.distance - change) * (pair.distance + change) / (2 * clean * other)
    without_direction = (clean == 0) | (other == 0)
    one_is_zero = (clean != other).double()
    return torch.where(without_direction, one_is_zero, distance.clamp(0, 2))


METRICS: dict[str, Metric] = {
    "normalized_euclidean": normalized_euclidean,
    "cosine": cosine,
}
