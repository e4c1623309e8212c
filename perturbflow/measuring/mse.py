"""Errors of images in pixels; needs no network, so nothing of torch is imported."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from perturbflow.files.images import Array, Images, open_images, read_columns
from perturbflow.results.writing import write_csv

BYTES_AT_ONCE = 2**22  # of images in double precision: they stay in the cache, where 64 MB take three times as long


def mean_squared_errors_to_files(
    adversarial_set: str,
    conditions: Mapping[tuple[str, str], str],
    clean: Mapping[str, str],
    summary: str,
    per_image: str,
) -> None:
    """Write the errors of a set, under each condition and of each split: their means, and image by image.

    conditions: file of the set by condition and split. clean: file of the data by split.
    """
    clean_images = {split: open_images(path) for split, path in clean.items()}
    means, frames = [], []
    for (denoiser, split), path in conditions.items():
        errors = mean_squared_errors(open_images(path), clean_images[split])
        row = {"adversarial_set": adversarial_set, "denoiser": denoiser, "split": split}
        means.append({**row, "mse_px2": errors.mean(), "n_images": len(errors)})
        (index,) = read_columns(path, "index")
        frames.append(pd.DataFrame({"denoiser": denoiser, "split": split, "index": index, "mse_px2": errors}))
    write_csv(pd.DataFrame(means), summary)
    write_csv(pd.concat(frames), per_image)


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
