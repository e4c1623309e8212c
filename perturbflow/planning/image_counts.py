"""How many images a study has, before there are any."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from perturbflow.data.image_list import DataError
from perturbflow.data.listing import splits_of
from perturbflow.data.sources import SOURCES, list_splits
from perturbflow.planning.costs import Config


def count_images(
    file: str | Path, source_fingerprint: str | None, data: Mapping[str, Any], seed: int, split: str
) -> int:
    """Number of images of a split: of its data file, or else of the file that will be made.

    file: the data file. source_fingerprint: what its attribute says if it is not stale, or None where it cannot be.
    data: the config's `data`.
    Raises FileNotFoundError or DataError, as `list_splits` does, where the source has to be asked and is not there,
    DataError where it would have to be read for what `data.on_error` leaves out, and BadFileError where the data file
    holds no images.
    """
    if (n_images := _count_in_file(Path(file), source_fingerprint)) is not None:
        return n_images
    if data.get("on_error") == "skip":
        raise DataError(
            "data.on_error: skip: how many images there will be is known once they are read. Make the data before the "
            f"shards of compute.images_per_shard, by asking for {file}; then run again."
        )
    classes, per_class = data["classes"], data["images_per_class"][split]
    if classes and per_class:
        return int(classes * per_class)
    sizes = SOURCES[data["source"]].class_sizes(data)
    if sizes.all_equal:
        # Not listed: it may be a download. A copy that lacks images is counted once its data file is there.
        return int((classes or sizes.n_classes) * (per_class or sizes.largest[split]))
    if not classes and not per_class and split in sizes.total:
        return sizes.total[split]
    return _listed(json.dumps(data), seed)[split]


def _count_in_file(file: Path, source_fingerprint: str | None) -> int | None:
    if not file.exists():
        return None
    from perturbflow.files.images import open_whole  # with h5py, which a new study does without

    with open_whole(file, ("images",)) as opened:
        told = opened.attrs.get("source_fingerprint")  # a file that somebody put there has none, and is not made anew
        return len(opened["images"]) if None in (told, source_fingerprint) or told == source_fingerprint else None


@cache
def _listed(data: str, seed: int) -> dict[str, int]:
    """Numbers of images by the source's own lists; data is JSON."""
    return {split: len(images.ids) for split, images in list_splits(json.loads(data), seed).items()}


def source_images(data: Config) -> dict[str, int]:
    """Number of images that a study takes from its source, as far as that can tell without listing them all.

    data: the config's. Upper limits where the source's classes differ in size, estimates for a folder, and none where
    the folder is not.
    """
    sizes = SOURCES[data["source"]].class_sizes(data)
    n_classes = data["classes"] or sizes.n_classes
    return {
        split: n_classes * min(data["images_per_class"][split] or sizes.largest[split], sizes.largest[split])
        for split in splits_of(data)
    }


def stored_images(path: str, image_size: int, bytes_per_value: int) -> int:
    """Number of images in a file of the workflow, from its size, which is that of the images and little more.

    Raises FileNotFoundError where it is not there yet.
    """
    return math.ceil(Path(path).stat().st_size / (3 * image_size**2 * bytes_per_value))
