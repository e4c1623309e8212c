"""Percentile bootstrap over images.

Images are drawn with replacement, and all that was measured on an image is drawn with it: classifiers, sets and
conditions that are compared are compared on the same images. Whatever is computed from means, a ratio or the largest
of several, is computed once from the sample and once from each resample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

N_RESAMPLES = 2000
_N_WEIGHTS_AT_ONCE = 4_000_000  # 32 MB, however many images there are


def by_image(frame: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    """`column` as a matrix: a row an image (the frame's `index`), a column a combination of `keys`; else NaN."""
    return frame.set_index([*keys, "index"])[column].unstack("index").T


def resampled_means(values: ArrayLike, seed: int = 0) -> Array:
    """Means over the images, of the sample and of N_RESAMPLES resamples.

    values: (n_images, ...), NaN where an image has no value; the means leave those out.
    Returns float64 (1 + N_RESAMPLES, ...): the sample's means first; NaN where no value is left.
    """
    values = np.asarray(values, dtype=np.float64)
    n_images, shape = len(values), values.shape[1:]
    columns = values.reshape(n_images, int(np.prod(shape)))
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
    return np.concatenate([sample, *resamples]).reshape(1 + N_RESAMPLES, *shape)


def _weights(rng: np.random.Generator, n_resamples: int, n_images: int) -> Array:
    """How often each resample draws each image, float64 (n_resamples, n_images)."""
    if n_images == 0:
        return np.zeros((n_resamples, 0))
    draws = rng.integers(n_images, size=(n_resamples, n_images))
    draws += n_images * np.arange(n_resamples)[:, None]
    counts = np.bincount(draws.ravel(), minlength=n_resamples * n_images)
    return counts.reshape(n_resamples, n_images).astype(np.float64)


def interval(samples: Array) -> tuple[Array, Array]:
    """Bounds of the 95% percentile interval of what was computed from `resampled_means`; NaN if any resample is."""
    low, high = np.quantile(samples[1:], [0.025, 0.975], axis=0)
    return low, high
