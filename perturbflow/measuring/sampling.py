"""The images that are measured, of all that there are."""

from __future__ import annotations

import numpy as np

from perturbflow.files.images import Array


def sample_rows(n_images: int, n_sampled: int, seed: int) -> Array:
    """Sorted rows of a random sample without replacement; all rows where fewer than `n_sampled` exist."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(n_images, min(n_sampled, n_images), replace=False))
