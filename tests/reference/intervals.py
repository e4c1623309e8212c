"""How sure a number of a study is, by docs/method.md, "How sure the numbers are": by literal loops over resamples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp, fsum, isnan, log, nan, sqrt

import numpy as np
from scipy.stats import t

N_RESAMPLES = 2000


def average(values: Iterable[float]) -> float:
    """Of all values."""
    known = list(values)
    return fsum(known) / len(known)


def variance(values: Sequence[float], n_free: int) -> float:
    """The sum of squares around the mean over n_free."""
    middle = average(values)
    return fsum((value - middle) ** 2 for value in values) / n_free


def draws(n_images: int, n_resamples: int = N_RESAMPLES) -> list[list[int]]:
    """The images of each resample: a part of the method, so that all that is compared sees the same ones: seed 0."""
    drawn: list[list[int]] = np.random.default_rng(0).integers(n_images, size=(n_resamples, n_images)).tolist()
    return drawn


class Estimated:
    """What each training gives, averaged over the trainings, and its two standard errors.

    Between the trainings: s / sqrt(R) of the R trainings' values. Between the images: that of resampled images, the
    same in all trainings, less what the images do to each training alone.
    """

    def __init__(self, values: Sequence[float], drawn: Sequence[Sequence[float]], n_images: int) -> None:
        """values: of each training; drawn: the same of each resample."""
        self.n_trainings, self.n_images = len(values), n_images
        self.value = average(values)
        together = [average(of_trainings) for of_trainings in drawn]
        between_images = variance(together, len(drawn))
        self.trainings_error = 0.0
        if self.n_trainings > 1:
            self.trainings_error = sqrt(variance(values, self.n_trainings - 1) / self.n_trainings)
            alone = [
                variance([of[place] - all_ for of, all_ in zip(drawn, together, strict=True)], len(drawn))
                for place in range(self.n_trainings)
            ]
            between_images -= fsum(alone) / (self.n_trainings - 1) / self.n_trainings
            if between_images < 0:
                between_images = 0.0
        # A resample varies by 1/n of the sample's variance around its own mean, which is short by n / (n - 1).
        scale = n_images / (n_images - 1) if n_images > 1 else nan
        self.images_error = sqrt(between_images * scale)

    def half_width(self, tail: float = 0.025) -> float:
        """Both errors times Student's t of their own degrees of freedom, in quadrature; `tail`: left out on a side."""
        images = t.isf(tail, self.n_images - 1) * self.images_error
        trainings = t.isf(tail, self.n_trainings - 1) * self.trainings_error if self.n_trainings > 1 else 0.0
        return sqrt(images**2 + trainings**2)

    @property
    def decides(self) -> bool:
        """Whether there is an interval, and it has a width."""
        return self.half_width() > 1e-9 * abs(self.value)

    def p_value(self, bound: float) -> float:
        """Both tails of the interval that just reaches the bound, by halving a tail's logarithm; NaN of no interval."""
        if not self.decides:
            return nan
        least, most = -60.0, log(0.5)
        for _ in range(80):
            tail = (least + most) / 2
            least, most = (least, tail) if self.half_width(exp(tail)) < abs(self.value - bound) else (tail, most)
        return 2 * exp(most)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm (1979): the smallest p times their number, the next times one less, and none below the one before."""
    order = sorted((p, place) for place, p in enumerate(p_values) if not isnan(p))
    adjusted, largest = [nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted
