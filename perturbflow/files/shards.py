"""Shards: files that hold some rows of a set, joined as one file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perturbflow.files.images import image_writer, open_images, open_whole, read_columns
from perturbflow.files.whole import BadFileError, sha256

# Attributes that say how a shard was made, not what it is: a set may be begun before an update and ended after it.
# Where the size of a batch changes what is made, it is a part of the shard's name.
MAY_DIFFER = ("versions", "git_commit", "batch_size")
BYTES_AT_ONCE = 2**26  # copied from shards


def join_set(shards: Sequence[str], path: str, source: str, source_name: str) -> None:
    """Join the shards of a set that has an image for each of another file, and remove what lies beside them.

    source: the file that the set was made from, whose digest it tells as `<source_name>_sha256`.
    Raises as `join_shards`.
    """
    join_shards(shards, path, len(open_images(source)), {f"{source_name}_sha256": sha256(source)})
    remove_other_shards(shards)


def join_shards(shards: Sequence[str | Path], path: str | Path, n_images: int, attributes: Mapping[str, Any]) -> None:
    """Write the rows of several files of images, one file after another, as one file; a few are in memory at once.

    The file has the bytes of one that was written at once, so that what is made of it has the same digests.

    shards: files with the same datasets, whose `index` runs in all from 0 to n_images - 1. attributes: of the new
    file, beside those that all shards have. Those of MAY_DIFFER are the first shard's; where they differ,
    `<name>_of_shards` has them all, as JSON.

    Raises FileNotFoundError or BadFileError, naming the file, where a shard is missing, is not what follows the one
    before it, or was made from something else than the first.
    """
    with open_whole(shards[0], ("images", "index")) as first:
        shape, dtype = first["images"].shape[1:], str(first["images"].dtype)
        # HDF5 lists them by name; they lie in the order in which they were written.
        names = sorted(set(first) - {"images"}, key=lambda name: first[name].id.get_offset())
    parts = [read_columns(shard, *names) for shard in shards]
    columns = {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}
    if not np.array_equal(columns["index"], np.arange(n_images)):
        raise BadFileError(
            f"{path}: the shards {shards[0]} to {shards[-1]} are not those of {n_images} images. Run again."
        )
    n_at_once = max(1, BYTES_AT_ONCE // (np.dtype(dtype).itemsize * math.prod(shape)))
    with image_writer(path, n_images, shape, dtype, {**_common_attributes(shards), **attributes}) as file:
        row = 0
        for shard in shards:
            images = open_images(shard)
            for start in range(0, len(images), n_at_once):
                block = images[start : start + n_at_once]
                file["images"][row : row + len(block)] = block
                row += len(block)
        for name, values in columns.items():
            file[name] = values


def _common_attributes(shards: Sequence[str | Path]) -> dict[str, Any]:
    """The attributes of a file that is joined from shards, as `join_shards` says."""
    common: dict[str, Any] = {}
    differing: dict[str, list[str]] = {}
    for shard in shards:
        with open_whole(shard, ()) as file:
            attributes = dict(file.attrs)
        common = common or attributes
        if attributes.keys() != common.keys():
            raise BadFileError(f"{shard} has not the attributes of {shards[0]}; delete both and run again.")
        for name, value in attributes.items():
            if value == common[name]:
                continue
            if name not in MAY_DIFFER:
                raise BadFileError(f"{shard}: its {name} is not that of {shards[0]}; delete both and run again.")
            differing.setdefault(name, [common[name]])
            if value not in differing[name]:
                differing[name].append(value)
    return common | {f"{name}_of_shards": json.dumps(values) for name, values in differing.items()}


def remove_other_shards(shards: Sequence[str | Path]) -> None:
    """Remove what lies beside shards that were joined: those of another size, or from before an edit of the set."""
    folder, own = Path(shards[0]).parent, {Path(shard).name for shard in shards}
    for path in folder.iterdir():
        if path.name not in own and path.is_file():
            path.unlink(missing_ok=True)  # another job's `.part` may have just become whole
