"""All metrics of feature maps, each as its equation has it: c is the clean image's map, o the other image's, d = o - c.

Maps are float64 vectors (n,), one image at a time. What is undefined is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

BLOCK = 32  # the most images of which CKA compares all pairs


def normalized_euclidean(c: Tensor, o: Tensor) -> float:
    """NE-D, Figure 1: ||o - c|| / n."""
    return length(o - c) / len(c)


def cosine(c: Tensor, o: Tensor) -> float:
    """COS-D, Figure 1: 1 - <c, o> / (||c|| ||o||); 0 between two maps of zeros, 1 where only one is zero."""
    if length(c) == 0 or length(o) == 0:
        return float(length(c) != length(o))
    return 1 - dot(c, o) / (length(c) * length(o))


def relative_error(c: Tensor, o: Tensor) -> float:
    """||d|| / ||c||."""
    return 0.0 if length(o - c) == 0 else ratio(length(o - c), length(c))


def along(c: Tensor, o: Tensor) -> float:
    """<d, c> / ||c||^2."""
    return ratio(dot(o - c, c), length(c) ** 2)


def across(c: Tensor, o: Tensor) -> float:
    """||d - along c|| / ||c||."""
    return ratio(length(o - c - along(c, o) * c), length(c))


def along_share(c: Tensor, o: Tensor) -> float:
    """along^2 / relative_error^2."""
    return ratio(along(c, o) ** 2, relative_error(c, o) ** 2)


def norm_change(c: Tensor, o: Tensor) -> float:
    """||o|| / ||c|| - 1."""
    return ratio(length(o), length(c)) - 1


def angle(c: Tensor, o: Tensor) -> float:
    """The angle between c and o, degrees."""
    if length(c) == 0 or length(o) == 0:
        return math.nan
    return math.degrees(math.acos(max(-1.0, min(1.0, dot(c, o) / (length(c) * length(o))))))


OF_ONE_MAP: dict[str, Callable[[Tensor, Tensor], float]] = {
    function.__name__: function
    for function in (normalized_euclidean, cosine, relative_error, along, across, along_share, norm_change, angle)
}


def gains(relative_errors: Sequence[float], of_pixels: float) -> list[float]:
    """The relative error at each layer over that at the layer before; over that of the pixels at the first."""
    return [
        ratio(here, before) for before, here in zip([of_pixels, *relative_errors[:-1]], relative_errors, strict=True)
    ]


def dot(a: Tensor, b: Tensor) -> float:
    """<a, b>."""
    return float((a * b).sum())


def length(a: Tensor) -> float:
    """||a||."""
    return math.sqrt(dot(a, a))


def ratio(a: float, b: float) -> float:
    """a / b; NaN where b is 0."""
    return a / b if b != 0 else math.nan


# ---- Linear centred kernel alignment


def hsic(first: Tensor, second: Tensor) -> float:
    """The unbiased estimate of HSIC, equation (5) of Song et al. (2012), from kernel matrices K and L (n, n)."""
    n = len(first)
    off_diagonal = 1 - torch.eye(n, dtype=torch.float64)
    first, second = first * off_diagonal, second * off_diagonal
    one = torch.ones(n, dtype=torch.float64)
    trace = torch.trace(first @ second)
    sums = (one @ first @ one) * (one @ second @ one) / ((n - 1) * (n - 2))
    both = 2 / (n - 2) * (one @ first @ second @ one)
    return float(trace + sums - both) / (n * (n - 3))


def alignment(blocks: Sequence[tuple[Tensor, Tensor]]) -> float:
    """CKA from blocks of clean and other maps, (n, n_elements) each: equation (2) of Nguyen et al. (2021).

    mean HSIC(K, L) / (sqrt(mean HSIC(K, K)) sqrt(mean HSIC(L, L))), the means over blocks, K = C C^T and L = O O^T.
    """
    of_both = mean([hsic(c @ c.T, o @ o.T) for c, o in blocks])
    of_clean = mean([hsic(c @ c.T, c @ c.T) for c, o in blocks])
    of_other = mean([hsic(o @ o.T, o @ o.T) for c, o in blocks])
    return of_both / (math.sqrt(of_clean) * math.sqrt(of_other))


def mean(of_blocks: Sequence[float]) -> float:
    """Of blocks of one size, to within an image: they weigh the same."""
    return sum(of_blocks) / len(of_blocks)


def linear_cka(clean: Sequence[Tensor], other: Sequence[Tensor]) -> tuple[float, float, float]:
    """Linear CKA of a layer's maps of all images, and the 95% interval by the jackknife over blocks.

    The images are shuffled, since files are ordered by class, and cut into blocks of at most 32 that are equally large.
    """
    order = np.random.default_rng(0).permutation(len(clean))
    blocks = [
        (torch.stack([clean[image] for image in block]), torch.stack([other[image] for image in block]))
        for block in np.array_split(order, math.ceil(len(clean) / BLOCK))
    ]
    value = alignment(blocks)
    if len(blocks) == 1:
        return value, math.nan, math.nan
    # The jackknife: the value without each block in turn.
    without_one = [alignment(blocks[:number] + blocks[number + 1 :]) for number in range(len(blocks))]
    n = len(blocks)
    error = math.sqrt((n - 1) / n * sum((one - mean(without_one)) ** 2 for one in without_one))
    half = stats.t.ppf(0.975, n - 1) * error
    return value, value - half, value + half


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean over images, standard deviation, and Student's 95% interval of the mean; NaN are left out."""
    known = [value for value in values if not math.isnan(value)]
    n = len(known)
    average = sum(known) / n
    deviation = math.sqrt(sum((value - average) ** 2 for value in known) / (n - 1))
    half = stats.t.ppf(0.975, n - 1) * deviation / math.sqrt(n)
    return average, deviation, average - half, average + half
