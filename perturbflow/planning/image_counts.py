"""How many images a study has, before there are any."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from perturbflow.planning.costs import Config
from perturbflow.planning.passes import SPLITS

# The official data set, which has as many of each class.
TINY_IMAGENET = {"classes": 200, "train": 500, "val": 50}


def count_images(file: str | Path, made_from: Mapping[str, Any], data: Mapping[str, Any], seed: int, split: str) -> int:
    """Number of images of a split: of its data file, or else of the file that will be made.

    file: the data file. made_from: what its attribute `config` says if it is not stale. data: the config's `data`.
    Raises FileNotFoundError or DataError, as `list_splits` does, where the source has to be asked and is not there, and
    BadFileError where the data file holds no images.
    """
    if (n_images := _count_in_file(Path(file), made_from)) is not None:
        return n_images
    classes, per_class = data["classes"], data["images_per_class"][split]
    if data["source"] == "tiny-imagenet":
        # Not asked: it may be a download. A copy that lacks images is counted once its data file is there.
        return (classes or TINY_IMAGENET["classes"]) * (per_class or TINY_IMAGENET[split])
    if classes and per_class:
        return int(classes * per_class)
    return _listed(json.dumps(data), seed)[split]


def _count_in_file(file: Path, made_from: Mapping[str, Any]) -> int | None:
    if not file.exists():
        return None
    from perturbflow.files.images import open_whole  # with h5py, which a new study does without

    with open_whole(file, ("images",)) as opened:
        config = opened.attrs.get("config")  # a file that somebody put there may have none, and is not made anew
        return len(opened["images"]) if config is None or json.loads(config) == made_from else None


@cache
def _listed(data: str, seed: int) -> dict[str, int]:
    """Numbers of images by the source's own lists; data is JSON."""
    from perturbflow.data.sources import list_splits  # with Pillow and, for one source, scikit-learn

    return {split: len(images.ids) for split, images in list_splits(json.loads(data), seed).items()}


DIGITS = {"classes": 10, "train": 147, "val": 37}  # the most of one class
CLASSES_LOOKED_AT = 10


def source_images(data: Config) -> dict[str, int]:
    """Number of images that a study takes from its source. data: the config's.

    Those of a folder are estimated, from its number of classes and the largest of ten of them: to list all would take
    longer than the rest of a dry run. None are found where the folder is not.
    """
    if data["source"] == "image-folder":
        return {split: _folder_images(Path(data["path"]) / split, data, split) for split in SPLITS}
    source = TINY_IMAGENET if data["source"] == "tiny-imagenet" else DIGITS
    n_classes = data["classes"] or source["classes"]
    return {split: n_classes * min(data["images_per_class"][split] or source[split], source[split]) for split in SPLITS}


def _folder_images(folder: Path, data: Config, split: str) -> int:
    try:
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        looked_at = classes[:: max(1, len(classes) // CLASSES_LOOKED_AT)]
        largest_class = data["images_per_class"][split] or max(
            (sum(1 for _ in path.iterdir()) for path in looked_at), default=0
        )
    except OSError:  # the job itself says what is wrong with the folder
        return 0
    return (data["classes"] or len(classes)) * largest_class


def stored_images(path: str, image_size: int, bytes_per_value: int) -> int:
    """Number of images in a file of the workflow, from its size, which is that of the images and little more.

    Raises FileNotFoundError where it is not there yet.
    """
    return math.ceil(Path(path).stat().st_size / (3 * image_size**2 * bytes_per_value))
