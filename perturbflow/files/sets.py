"""Files of adversarial and denoised sets: images and, beside them, columns with a row an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from perturbflow.files.images import Array, image_writer

# What is known of each image of a set, and of each that was attacked; denoised sets have the former alone.
SET_COLUMNS = {"index": "int64", "label": "int64"}
ATTACK_COLUMNS = {"steps": "int64", "succeeded": "bool", "already_misclassified": "bool"}
# The size of its perturbation: L2 norm and largest change of a value, in pixels of 0..255.
SIZE_COLUMNS = {"l2": "float64", "linf": "float64"}


def unattacked(n_images: int) -> dict[str, Array]:
    """The columns of an attack that nobody has made: no steps, no classifier that errs, nothing changed."""
    return {name: np.zeros(n_images, dtype) for name, dtype in (ATTACK_COLUMNS | SIZE_COLUMNS).items()}


def perturbation_sizes(images: Array, clean: Array) -> dict[str, Array]:
    """SIZE_COLUMNS, (N,) each, of (N, H, W, 3) images against their clean ones, in double precision."""
    change = np.abs(images.astype(np.float64) - clean).reshape(len(images), -1)
    return {"l2": np.linalg.norm(change, axis=1), "linf": change.max(axis=1)}


@contextmanager
def set_writer(
    path: str | Path, image_shape: tuple[int, ...], columns: Mapping[str, Array], attributes: Mapping[str, Any]
) -> Iterator[h5py.Dataset]:
    """Give the images of a new set, float32 (N, *image_shape), to be written; then the columns are written too.

    columns: `index`, `label` and perhaps those of ATTACK_COLUMNS and SIZE_COLUMNS, (N,) each; what stands in them at
    the end counts.
    """
    with image_writer(path, len(columns["index"]), image_shape, "float32", attributes) as file:
        yield file["images"]
        for name in SET_COLUMNS | ATTACK_COLUMNS | SIZE_COLUMNS:
            if name in columns:
                file[name] = columns[name]
