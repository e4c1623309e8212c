"""How many images a study has, before there are any."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

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
    from perturbflow.files.images import open_whole

    with open_whole(file, ("images",)) as opened:
        config = opened.attrs.get("config")  # a file that somebody put there may have none, and is not made anew
        return len(opened["images"]) if config is None or json.loads(config) == made_from else None


@cache
def _listed(data: str, seed: int) -> dict[str, int]:
    """Numbers of images by the source's own lists; data is JSON."""
    from perturbflow.data.sources import list_splits

    return {split: len(images.ids) for split, images in list_splits(json.loads(data), seed).items()}
