"""What numbers of a study are uncertain by: the choice of the images, and the trainings of its networks.

Trainings and images are crossed: every training of a study is measured on the same images. What is estimated, be it a
mean, a ratio or the largest of several, is computed for each training by itself and averaged over the trainings. Its
variance has two parts (a hierarchical bootstrap: trainings, then images):

- between trainings, the variance of the trainings' values over their number. With so few of them a resampling of
  trainings would be far too narrow; a t distribution with one degree of freedom less than there are trainings stands in
  its place;
- between images, by the bootstrap: images are drawn with replacement, and all that was measured on an image is drawn
  with it, by all trainings, in all sets and conditions. What is compared is compared on the same images.

The error that each training makes on the same images by itself is in both; it is taken out of the second. The interval
has the half-width of both parts, each with its own t quantile, in quadrature (MOVER; Zou and Donner 2008). Where one
part is all there is it is Student's; in between it is wider than it had to be rather than narrower. With one training
it covers the choice of images alone, and whoever shows it has to say so (`perturbflow.results.replicates.coverage`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import stdtrit

Array = NDArray[Any]

N_RESAMPLES = 2000
CONFIDENCE = 0.95
_LEAST_TAIL = 1e-150  # below which a probability is called 0; further out stdtrit gives inf of 4 to 13 images
_N_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB, however many images there are


def by_image(frame: pd.DataFrame, keys: list[str], column: str) -> tuple[pd.Index[Any], Array]:
    """`column` of a frame with a row an image and training, as an array.

    The frame has `index`, the row of an image in its data file, and may have `replicate`, the number of a training.
    Returns the combinations of `keys`, and (n_trainings, n_images, n_combinations), NaN where the frame has no row.
    """
    replicate = ["replicate"] if "replicate" in frame else []
    matrix = frame.set_index([*keys, *replicate, "index"])[column].unstack([*replicate, "index"])
    if not replicate:
        return matrix.index, matrix.T.to_numpy(np.float64)[None]
    axes = [matrix.columns.get_level_values(level).unique().sort_values() for level in (0, 1)]
    whole = matrix.reindex(columns=pd.MultiIndex.from_product(axes))
    return matrix.index, whole.T.to_numpy(np.float64).reshape(len(axes[0]), len(axes[1]), len(matrix))


def resampled_means(values: ArrayLike, seed: int = 0) -> Array:
    """Means over the images, of the sample and of N_RESAMPLES resamples, of each training by itself.

    values: (n_trainings, n_images, ...), NaN where an image has no value; the means leave those out. The same images
    are drawn for all trainings.
    Returns float64 (1 + N_RESAMPLES, n_trainings, ...): the sample's means first; NaN where no value is left.
    """
    values = np.asarray(values, dtype=np.float64)
    n_trainings, n_images, *shape = values.shape
    columns = values.swapaxes(0, 1).reshape(n_images, n_trainings * int(np.prod(shape)))
    known = ~np.isnan(columns)
    filled = np.where(known, columns, 0)
    has_gaps = not known.all()

    def means(weights: Array) -> Array:
        counts = weights @ known.astype(np.float64) if has_gaps else weights.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            return weights @ filled / counts

    rng = np.random.default_rng(seed)
    n_rows = max(1, _N_WEIGHTS_AT_ONCE // max(1, n_images))
    sample = means(np.ones((1, n_images)))
    resamples = [
        means(_weights(rng, min(n_rows, N_RESAMPLES - start), n_images)) for start in range(0, N_RESAMPLES, n_rows)
    ]
    return np.concatenate([sample, *resamples]).reshape(1 + N_RESAMPLES, n_trainings, *shape)


def _weights(rng: np.random.Generator, n_resamples: int, n_images: int) -> Array:
    """How often each resample draws each image, float64 (n_resamples, n_images)."""
    if n_images == 0:
        return np.zeros((n_resamples, 0))
    draws = rng.integers(n_images, size=(n_resamples, n_images))
    draws += n_images * np.arange(n_resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=n_resamples * n_images)
    return counts.reshape(n_resamples, n_images).astype(np.float64)


@dataclass(frozen=True)
class Estimate:
    """Values, and how far they are uncertain.

    value: (...). trainings_error, images_error: standard errors of `value` by the choice of the trainings (0 with one)
    and of the images, (...). n_trainings, n_images: how many they were estimated from, for the degrees of freedom;
    n_images (...) or one number.
    """

    value: Array
    trainings_error: Array
    images_error: Array
    n_trainings: int
    n_images: Array

    @property
    def varies(self) -> Array:
        """Whether other trainings or images would make a difference; an interval of no width says nothing."""
        return np.hypot(self.trainings_error, self.images_error) > 1e-9 * np.abs(self.value)

    def interval(self, confidence: float = CONFIDENCE) -> tuple[Array, Array]:
        """Its bounds; NaN where a value is not defined, or not with other images."""
        half = self._half_width((1 - confidence) / 2)
        return self.value - half, self.value + half

    def p_value(self, bound: float) -> float:
        """That the true value, a single one, is `bound`: one minus the confidence whose interval ends there.

        1 where the value is the bound, 0 where nothing is uncertain, NaN where no interval is defined.
        """
        distance = abs(float(self.value) - bound)
        if distance == 0 or np.isnan(self._half_width(0.5)):
            return 1.0 if distance == 0 else float("nan")
        if self._half_width(_LEAST_TAIL) <= distance:
            return 0.0
        return 2 * exp(brentq(lambda tail: float(self._half_width(exp(tail))) - distance, log(_LEAST_TAIL), log(0.5)))

    def _half_width(self, tail: float) -> Array:
        """Of the interval that leaves out `tail` on either side."""
        images = -stdtrit(np.maximum(self.n_images - 1, 0), tail) * self.images_error
        if self.n_trainings == 1:
            return images
        return np.hypot(images, stdtrit(self.n_trainings - 1, tail) * self.trainings_error)


def estimate(samples: Array, n_images: ArrayLike) -> Estimate:
    """What was computed from `resampled_means`, (1 + n_resamples, n_trainings, ...), averaged over the trainings.

    n_images: that it was computed from, (...) or one number.
    """
    n_trainings = samples.shape[1]
    n_images = np.asarray(n_images)
    means = samples.mean(axis=1)
    images_variance = means[1:].var(axis=0)
    trainings_variance = np.zeros_like(images_variance)
    if n_trainings > 1:
        trainings_variance = samples[0].var(axis=0, ddof=1) / n_trainings
        # What each training's images do to it alone is part of how the trainings differ.
        own = (samples[1:] - means[1:, None]).var(axis=0).sum(axis=0) / (n_trainings - 1)
        images_variance = np.maximum(images_variance - own / n_trainings, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # The variance of a resample is that of the sample over n, not n - 1.
        images_variance = images_variance * n_images / (n_images - 1.0)
    return Estimate(means[0], np.sqrt(trainings_variance), np.sqrt(images_variance), n_trainings, n_images)
