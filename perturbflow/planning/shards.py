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
from typing import Any


def rows_of_shards(n_images: int, images_per_shard: int) -> list[range]:
    """The rows of each shard; the last one may have fewer."""
    return [range(start, min(start + images_per_shard, n_images)) for start in range(0, n_images, images_per_shard)]


def digest_of(params: Any) -> str:
    """12 hexadecimal digits for what a shard is made with, which is a part of its name.

    Snakemake remembers what a file was made with even when the file is gone. Under one name for all params, a shard
    that was made long ago and joined would count as stale, and so would the whole set, when shards of that size are
    taken up again after an edit.
    """
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:12]
