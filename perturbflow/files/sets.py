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


def unattacked(n_images: int) -> dict[str, Array]:
    """The columns of an attack that nobody has made: no steps, and no classifier that errs."""
    return {name: np.zeros(n_images, dtype) for name, dtype in ATTACK_COLUMNS.items()}


@contextmanager
def set_writer(
    path: str | Path, image_shape: tuple[int, ...], columns: Mapping[str, Array], attributes: Mapping[str, Any]
) -> Iterator[h5py.Dataset]:
    """Give the images of a new set, float32 (N, *image_shape), to be written; then the columns are written too.

    columns: `index`, `label` and perhaps those of ATTACK_COLUMNS, (N,) each; what stands in them at the end counts.
    """
    with image_writer(path, len(columns["index"]), image_shape, "float32", attributes) as file:
        yield file["images"]
        for name in SET_COLUMNS | ATTACK_COLUMNS:
            if name in columns:
                file[name] = columns[name]
