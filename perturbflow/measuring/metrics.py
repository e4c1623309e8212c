"""Metrics: how far a changed image moves a classifier's feature maps from those of the clean one.

A metric is a function under a decorator that says what it compares; its name is its word in the config:

- `@metric`: an image's clean map and its other map, as a Change;
- `@tap_to_tap`: an image's relative errors at a tap and at the tap before it;
- `@set_metric(...)`: the clean maps of many images and their other maps, as the Gram matrices of blocks of images.

All compute in double precision: of two nearly parallel maps, 1 - cos is the small rest of large numbers, and in single
precision lost in rounding already where the maps differ by a percent. Below, c is an image's clean map, o its other
map and d = o - c. What is undefined is NaN: above all, what is relative to a clean map that is zero throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

# Below this share of the change's square, what is left of it across the clean map has lost digits.
LOST = 1e-4


class Maps:
    """Feature maps (B, ...) in double precision, with what several metrics ask of them, computed once."""

    def __init__(self, maps: Tensor) -> None:
        self.values = maps.double()

    @cached_property
    def norms(self) -> Tensor:
        """||v||, (B, 1, ...)."""
        return _norms(self.values)

    @cached_property
    def directions(self) -> Tensor:
        """v / ||v||, (B, ...); NaN where v is zero."""
        return self.values / self.norms


class Change:
    """What has become of clean maps c: other maps o and d = o - c, with what several metrics ask, computed once."""

    def __init__(self, clean: Maps, other: Maps) -> None:
        self.clean = clean
        self.other = other

    @cached_property
    def difference(self) -> Tensor:
        """d, float64 (B, ...)."""
        return self.other.values - self.clean.values

    @cached_property
    def norms(self) -> Tensor:
        """||d||, (B, 1, ...)."""
        return _norms(self.difference)

    @cached_property
    def dots(self) -> Tensor:
        """<d, c>, (B, 1, ...)."""
        return _dots(self.difference, self.clean.values)

    @cached_property
    def growth(self) -> Tensor:
        """||o|| - ||c||, (B, 1, ...), as (2 <d, c> + ||d||^2) / (||c|| + ||o||)."""
        return (2 * self.dots + self.norms.square()) / (self.clean.norms + self.other.norms)

    @cached_property
    def turn(self) -> Tensor:
        """1 - <c, o> / (||c|| ||o||), (B, 1, ...), with nine digits at 1e-10; NaN where a map is zero.

        (||d||^2 - (||o|| - ||c||)^2) / (2 ||c|| ||o||), which equals it. That is a small rest of large numbers where
        little but the length has changed: there it is ||c / ||c|| - o / ||o|| ||^2 / 2, three times the work.
        """
        rest = self.norms.square() - self.growth.square()
        turn = rest / (2 * self.clean.norms * self.other.norms)
        is_lost = rest < LOST * self.norms.square()
        if not bool(is_lost.any()):
            return turn
        return torch.where(is_lost, _norms(self.clean.directions - self.other.directions).square() / 2, turn)


# The change of the maps of B images -> float64 (B,).
Metric = Callable[[Change], Tensor]
# Relative errors at a tap and at the one before, float64 of one shape -> float64 of that shape.
TapToTap = Callable[[Tensor, Tensor], Tensor]
# The Gram matrices of a block's clean and other maps, float64 (n, n) -> numbers that say all of the block, (k,).
BlockStatistics = Callable[[Tensor, Tensor], Tensor]
# The numbers of all blocks, float64 (n_blocks, k) -> value, and ends of its 95% interval.
CombineBlocks = Callable[[Tensor], tuple[float, float, float]]


class SetMetric(NamedTuple):
    """A metric of a whole set of images, of which nothing but a few numbers a block is kept."""

    block_statistics: BlockStatistics
    combine_blocks: CombineBlocks


METRICS: dict[str, Metric] = {}
TAP_TO_TAP: dict[str, TapToTap] = {}
SET_METRICS: dict[str, SetMetric] = {}

# Most images of one Gram matrix. Fixed, because the estimate depends on it a little.
BLOCK = 32
# The estimate of HSIC divides by n (n - 3).
SMALLEST_BLOCK = 4


def metric(function: Metric) -> Metric:
    """Register a metric of one image's two maps."""
    METRICS[function.__name__] = function
    return function


def tap_to_tap(function: TapToTap) -> TapToTap:
    """Register a metric of one image's relative errors at two successive taps."""
    TAP_TO_TAP[function.__name__] = function
    return function


def set_metric(combine_blocks: CombineBlocks) -> Callable[[BlockStatistics], BlockStatistics]:
    """Register a metric of a whole set of images, made from what the function says of each block."""

    def register(block_statistics: BlockStatistics) -> BlockStatistics:
        SET_METRICS[block_statistics.__name__] = SetMetric(block_statistics, combine_blocks)
        return block_statistics

    return register


@metric
def normalized_euclidean(change: Change) -> Tensor:
    """NE-D (Figure 1 of the paper): ||d|| / n, with n the elements of one image's map."""
    return change.norms.flatten() / change.difference.shape[1:].numel()


@metric
def cosine(change: Change) -> Tensor:
    """COS-D (Figure 1 of the paper): 1 - <c, o> / (||c|| ||o||), in 0..2, with nine digits at 1e-10.

    Here a map of zeros is at 0 from another such map, at 1 from any other.
    """
    clean_norms, other_norms = change.clean.norms, change.other.norms
    without_direction = (clean_norms == 0) | (other_norms == 0)
    one_is_zero = (clean_norms != other_norms).double()
    return torch.where(without_direction, one_is_zero, change.turn.clamp(max=2)).flatten()


@metric
def relative_error(change: Change) -> Tensor:
    """||d|| / ||c||: the change in units of the clean map, whatever the size of the layer; 0 between maps of zeros."""
    return torch.where(change.norms.flatten() == 0, 0, _relative(change.norms, change.clean.norms))


@metric
def along(change: Change) -> Tensor:
    """<d, c> / ||c||^2: the change along the clean map, in units of it; negative where it shrinks."""
    return _relative(change.dots, change.clean.norms.square())


@metric
def across(change: Change) -> Tensor:
    """||d - along c|| / ||c||: the change perpendicular to the clean map, in units of it."""
    part = part_along(change.clean.values, change.difference)
    return _relative(_norms(change.difference - part), change.clean.norms)


@metric
def along_share(change: Change) -> Tensor:
    """along^2 / relative_error^2, in 0..1: the share of the change's energy that lies along the clean map.

    1: the map only grows or shrinks, which crosses the planes that the paper's Figure 4 calls tangential; 0: it only
    turns. NaN where nothing has changed or the clean map is zero.
    """
    cosines = change.dots / (change.norms * change.clean.norms)
    return cosines.square().clamp(max=1).flatten()


@metric
def norm_change(change: Change) -> Tensor:
    """||o|| / ||c|| - 1: at least -1; 0.01 is a map longer by 1%."""
    return _relative(change.growth, change.clean.norms)


@metric
def angle(change: Change) -> Tensor:
    """The angle between c and o in degrees, 0..180; NaN where either is zero.

    Computed as 2 atan2(||a - b||, ||a + b||) of a = c / ||c|| and b = o / ||o||, exact at both ends of the range.
    """
    squares = 2 * change.turn
    opposite = 4 - squares
    if bool((opposite < squares).any()):
        opposite = _norms(change.clean.directions + change.other.directions).square()
    return torch.rad2deg(2 * torch.atan2(squares.sqrt(), opposite.sqrt())).flatten()


@tap_to_tap
def gain(here: Tensor, before: Tensor) -> Tensor:
    """Relative error here / relative error at the tap before; NaN where that is 0."""
    return torch.where(before > 0, here / before, torch.nan)


def _alignment_of_blocks(hsic: Tensor) -> tuple[float, float, float]:
    """Linear CKA from HSIC(K, L), HSIC(K, K) and HSIC(L, L) of each block, (n_blocks, 3).

    The interval is the jackknife's over blocks, with Student's t; NaN for a single block.
    """
    n_blocks = len(hsic)
    value = float(_alignment(hsic.sum(0)))
    if n_blocks < 2:
        return value, math.nan, math.nan
    without_one = _alignment((hsic.sum(0) - hsic).T)
    error = float(without_one.std(correction=0)) * (n_blocks - 1) ** 0.5
    half = float(stdtrit(n_blocks - 1, 0.975)) * error
    return value, value - half, value + half


@set_metric(_alignment_of_blocks)
def linear_cka(clean: Tensor, other: Tensor) -> Tensor:
    """Linear centred kernel alignment of a set's maps: 1 where they differ by a rotation and a factor alone.

    mean HSIC(K, L) / sqrt(mean HSIC(K, K) * mean HSIC(L, L)), means over blocks, K and L the Gram matrices of a block
    (Nguyen, Raghu and Kornblith 2021), with the unbiased estimator of HSIC of Song et al. (2012), by whose error it may
    leave 0..1. All is NaN for fewer than 4 images.
    """
    if len(clean) < SMALLEST_BLOCK:
        return clean.new_full((3,), torch.nan)
    clean, other = _centred(clean), _centred(other)
    return torch.stack([_hsic(clean, other), _hsic(clean, clean), _hsic(other, other)])


ALL_METRICS = (*METRICS, *TAP_TO_TAP, *SET_METRICS)


def _alignment(hsic: Tensor) -> Tensor:
    """CKA from HSIC(K, L), HSIC(K, K), HSIC(L, L), (3, ...)."""
    return hsic[0] / (hsic[1].sqrt() * hsic[2].sqrt())


def _centred(gram: Tensor) -> Tensor:
    """U-centred Gram matrix: with zeros on the diagonal, and rows and columns that sum to zero."""
    n = len(gram)
    gram = gram.clone().fill_diagonal_(0)
    rows = gram.sum(1) / (n - 2)
    centred = gram - rows - rows[:, None] + gram.sum() / ((n - 1) * (n - 2))
    return centred.fill_diagonal_(0)


def _hsic(gram: Tensor, other: Tensor) -> Tensor:
    """Song et al.'s unbiased estimate of HSIC, HSIC_1, from two U-centred Gram matrices."""
    n = len(gram)
    return (gram * other).sum() / (n * (n - 3))


def blocks(n_images: int) -> list[slice]:
    """The images of each block that set metrics see: as few blocks of at most BLOCK as there can be, equally large.

    Sizes differ by one image at most, since all blocks weigh the same, as the minibatches of Nguyen et al. do: the
    estimate from a block of four images varies by far more than that from 32.
    """
    rows = np.array_split(np.arange(n_images), math.ceil(n_images / BLOCK))
    return [slice(int(block[0]), int(block[-1]) + 1) for block in rows]


def gram_matrix(maps: Tensor, elements_at_once: int) -> Tensor:
    """<v_i, v_j> of all pairs of maps, (n, n_elements) -> float64 (n, n), in pieces of so many elements of all maps."""
    gram = maps.new_zeros((len(maps), len(maps)), dtype=torch.float64)
    for columns in maps.split(max(1, elements_at_once // len(maps)), dim=1):
        piece = columns.double()
        gram.addmm_(piece, piece.T)
    return gram


def part_along(clean: Tensor, difference: Tensor) -> Tensor:
    """The part of `difference` along the clean map, float64 (B, ...): (<d, c> / ||c||^2) c; 0 where c is zero."""
    clean, difference = clean.double(), difference.double()
    squares = _dots(clean, clean)
    return torch.where(squares > 0, _dots(difference, clean) / squares, 0) * clean


def _relative(values: Tensor, scales: Tensor) -> Tensor:
    """values / scales, (B,), NaN where the scale is 0."""
    return torch.where(scales > 0, values / scales, torch.nan).flatten()


def _norms(maps: Tensor) -> Tensor:
    """Euclidean norm of each image's map, (B, 1, ...), with no copy into another order of memory."""
    return torch.linalg.vector_norm(maps, dim=tuple(range(1, maps.ndim)), keepdim=True)


def _dots(left: Tensor, right: Tensor) -> Tensor:
    """Inner product of each image's two maps, (B, 1, ...)."""
    return (left * right).sum(dim=tuple(range(1, left.ndim)), keepdim=True)
