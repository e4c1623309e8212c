"""The source `digits`: for a first run and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from perturbflow.data.image_list import SPLITS, ImageList


def digits(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """scikit-learn's 1,797 handwritten digits, 8x8, their values 0..16 stretched to 0..255.

    One fifth of each class, drawn by `seed`, is the val split. An image's id is its row in `load_digits()`.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for label in range(10):
        shuffled = np.random.default_rng([seed, 2, label]).permutation(np.flatnonzero(bunch.target == label))
        n_val = round(len(shuffled) / 5)
        rows["val"] += sorted(shuffled[:n_val].tolist())
        rows["train"] += sorted(shuffled[n_val:].tolist())
    return {
        split: ImageList(
            source="scikit-learn",
            ids=[f"digits/{row:04}" for row in rows[split]],
            labels=bunch.target[rows[split]].astype(np.int64),
            class_names=[str(label) for label in range(10)],
            read_bytes=lambda name: b"P5 8 8 255\n" + pixels[int(name.removeprefix("digits/"))].tobytes(),  # PGM
        )
        for split in SPLITS
    }
