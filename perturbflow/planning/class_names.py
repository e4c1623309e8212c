"""The classes that a study has or will have, before any job runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perturbflow.data.fingerprint import digest_of_files
from perturbflow.data.sources import SOURCES, data_slice, list_splits


def class_names_of(config: Mapping[str, Any]) -> list[str]:
    """The classes of the data, in the order of their labels; as many empty names where they are still to be downloaded.

    config: resolved. A data file tells them where it was made from the files that the source has, and where the source
    is gone. Elsewhere the source is listed, unless its number of classes is known and nothing more is asked for.
    Raises FileNotFoundError or DataError, as `list_splits`, for a source that is not there or breaks its layout.
    """
    data = config["data"]
    source = SOURCES[data["source"]]
    unnamed = [""] * (data["classes"] or source.class_sizes(data).n_classes)
    if not source.needs_path and not any(one["logits"] for one in config["classifiers"].values()):
        return unnamed
    made = Path(f"results/{config['run']}/data/{data['splits'][0]}.h5")
    roots = source.files(data)
    is_there = any(root.exists() for root in roots.values())
    if made.exists() and (not is_there or _was_made_from(made, data, config["seed"], roots)):
        return _names_in(made)
    try:
        splits = list_splits({**data, "download": False}, config["seed"])
    except FileNotFoundError:
        if source.download_bytes and data["download"] and not is_there:
            return unnamed
        raise
    return next(iter(splits.values())).class_names


def _was_made_from(made: Path, data: Mapping[str, Any], seed: int, roots: Mapping[str, Path]) -> bool:
    """Whether a data file tells that it was made so from the source's files as they are."""
    from perturbflow.files.images import open_whole  # with h5py, which a new study does without

    with open_whole(made, ()) as file:
        told = json.loads(file.attrs.get("config", "{}"))
        fingerprint = str(file.attrs.get("source_fingerprint", ""))
    return told == {"data": data_slice(data), "seed": seed} and fingerprint.endswith(f".{digest_of_files(roots)}")


def _names_in(made: Path) -> list[str]:
    from perturbflow.files.images import read_columns

    return [name.decode() for name in read_columns(made, "class_name")[0]]
