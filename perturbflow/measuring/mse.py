"""Errors of images in pixels; needs no network, so nothing of torch is imported."""

from __future__ import annotations

import math

import numpy as np

from perturbflow.files.images import Array, Images

BYTES_AT_ONCE = 2**22  # of images in double precision: they stay in the cache, where 64 MB take three times as long


def mean_squared_errors(images: Images, clean: Images, batch_size: int | None = None) -> Array:
    """MSE in pixels squared of each of (N, H, W, 3) images against its clean image, float64 (N,).

    The mean over pixels and channels, in double precision. Their mean over the images is that of Tables 1 and 4 of the
    paper. batch_size: images compared at once; None is what 4 MB hold, so that memory does not depend on their size.
    """
    batch_size = batch_size or max(1, BYTES_AT_ONCE // (8 * math.prod(images.shape[1:])))
    errors = np.empty(len(images))
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        difference = images[rows].astype(np.float64) - clean[rows]
        errors[rows] = np.square(difference).mean(axis=(1, 2, 3))
    return errors
