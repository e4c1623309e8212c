"""Errors of images in pixels; needs no network, so nothing of torch is imported."""

from __future__ import annotations

import numpy as np

from perturbflow.storage import Array


def mean_squared_error(images: Array, clean: Array, batch_size: int = 256) -> float:
    """MSE in pixels squared between (N, H, W, 3) images and their clean versions, over all of them.

    The mean over images, pixels and channels (Tables 1 and 4 of the paper), accumulated in double precision.
    """
    total = 0.0
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        difference = images[rows].astype(np.float64) - clean[rows]
        total += float(np.square(difference).sum())
    return total / images.size
