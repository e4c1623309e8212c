"""Errors of images in pixels, and what came of an attack; needs no network, so nothing of torch is imported."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from perturbflow.files.images import Array, Images, open_images, open_whole, read_columns
from perturbflow.results.writing import write_csv

RAW = "none"  # the condition of adversaries without a denoiser
BYTES_AT_ONCE = 2**22  # of images in double precision: they stay in the cache, where 64 MB take three times as long


def mean_squared_errors_to_files(
    adversarial_set: str,
    conditions: Mapping[tuple[str, str], str],
    clean: Mapping[str, str],
    summary: str,
    per_image: str,
    attack: str,
) -> None:
    """Write the errors of a set, under each condition and of each split: their means, and image by image.

    conditions: file of the set by condition and split. clean: file of the data by split. attack: file to write what
    came of the attack into, as `attack_row` says it of each split.
    """
    clean_images = {split: open_images(path) for split, path in clean.items()}
    means, frames, attacks = [], [], []
    for (denoiser, split), path in conditions.items():
        errors = mean_squared_errors(open_images(path), clean_images[split])
        row = {"adversarial_set": adversarial_set, "denoiser": denoiser, "split": split}
        means.append({**row, "mse_px2": errors.mean(), "n_images": len(errors)})
        (index,) = read_columns(path, "index")
        frames.append(pd.DataFrame({"denoiser": denoiser, "split": split, "index": index, "mse_px2": errors}))
        if denoiser == RAW:
            attacks.append(
                {"adversarial_set": adversarial_set, "split": split, **attack_row(path, clean[split], errors)}
            )
    write_csv(pd.DataFrame(means), summary)
    write_csv(pd.concat(frames), per_image)
    counts = {"n_wrong_before": "Int64", "n_fooled": "Int64"}  # some are empty, and stay whole numbers
    write_csv(pd.DataFrame(attacks).astype(counts), attack)


def attack_row(path: str, clean: str, errors: Array) -> dict[str, Any]:
    """What came of the attack that made a file of an adversarial set.

    clean: file of the data of that split. errors: mean squared error of each image, (N,).

    n_images
    n_wrong_before          images that the stopping classifier got wrong before, which are as they were; None where
                            none was asked: in controls, and where no stopping classifier ends the attack
    n_fooled                of the others, those that it, or else the attacker, gets wrong in the end; None for controls
    steps_mean              steps that these others took; NaN for attacks of Foolbox and controls
    l2_mean, l2_max         L2 norm of their perturbations, in pixels of 0 to 255
    linf_mean, linf_max     largest change of a value in them
    """
    images, clean_images = open_images(path), open_images(clean)
    steps, succeeded, wrong_before = read_columns(path, "steps", "succeeded", "already_misclassified")
    with open_whole(path, ()) as file:
        settings = json.loads(file.attrs["config"])
    is_attack, is_judged = "norm_of" not in settings, settings.get("stopping_classifier") is not None
    attacked = ~wrong_before
    sizes = {
        "l2": np.sqrt(errors * math.prod(images.shape[1:]))[attacked],
        "linf": _largest_changes(images, clean_images)[attacked],
    }
    taken = steps[attacked & (steps >= 0)] if is_attack else steps[:0]
    return {
        "n_images": len(images),
        "n_wrong_before": int(wrong_before.sum()) if is_judged else None,
        "n_fooled": int(succeeded[attacked].sum()) if is_attack else None,
        "steps_mean": taken.mean() if len(taken) else math.nan,
        **{
            f"{norm}_{of}": getattr(np, of)(values) if len(values) else math.nan
            for norm, values in sizes.items()
            for of in ("mean", "max")
        },
    }


def mean_squared_errors(images: Images, clean: Images, batch_size: int | None = None) -> Array:
    """MSE in pixels squared of each of (N, H, W, 3) images against its clean image, float64 (N,).

    The mean over pixels and channels, in double precision. Their mean over the images is that of Tables 1 and 4 of the
    paper. batch_size: images compared at once; None is what 4 MB hold, so that memory does not depend on their size.
    """
    errors = np.empty(len(images))
    for rows, difference in _differences(images, clean, batch_size):
        errors[rows] = np.square(difference).mean(axis=(1, 2, 3))
    return errors


def _largest_changes(images: Images, clean: Images) -> Array:
    """The largest change of a value in each image, float64 (N,)."""
    changes = np.empty(len(images))
    for rows, difference in _differences(images, clean):
        changes[rows] = np.abs(difference).max(axis=(1, 2, 3))
    return changes


def _differences(images: Images, clean: Images, batch_size: int | None = None) -> Iterator[tuple[slice, Array]]:
    """Images minus clean ones in double precision, block by block, with their rows."""
    batch_size = batch_size or max(1, BYTES_AT_ONCE // (8 * math.prod(images.shape[1:])))
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        yield rows, images[rows].astype(np.float64) - clean[rows]
