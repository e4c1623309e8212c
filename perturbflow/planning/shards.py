"""Shards: the images of a set in parts, each made by a job of its own, and how many of them there will be.

The workflow has to know the number of images before it plans its jobs, and so, in a new study, before there are data.
The number follows from the config or, where that leaves it to the source, from the list of the source's images. A
checkpoint of Snakemake, the other way, would plan all jobs that read the data once more when these are there, and
`snakemake -n` would show no shards before.

Nothing of torch is imported.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

# The official data set, which has as many of each class.
TINY_IMAGENET = {"classes": 200, "train": 500, "val": 50}


def rows_of_shards(n_images: int, images_per_shard: int) -> list[range]:
    """The rows of each shard; the last one may have fewer."""
    return [range(start, min(start + images_per_shard, n_images)) for start in range(0, n_images, images_per_shard)]


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


def digest_of(params: Any) -> str:
    """12 hexadecimal digits for what a shard is made with, which is a part of its name.

    Snakemake remembers what a file was made with even when the file is gone. Under one name for all params, a shard
    that was made long ago and joined would count as stale, and so would the whole set, when shards of that size are
    taken up again after an edit.
    """
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:12]


def remove_other_shards(shards: list[str]) -> None:
    """Remove what lies beside shards that were joined: those of another size, or from before an edit of the set."""
    folder, own = Path(shards[0]).parent, {Path(shard).name for shard in shards}
    for path in folder.iterdir():
        if path.name not in own and path.is_file():
            path.unlink(missing_ok=True)  # another job's `.part` may have just become whole


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
