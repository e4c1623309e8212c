"""The classes that a study will have, before there are data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from perturbflow.data.image_list import DataError
from perturbflow.data.sources import SOURCES, list_splits


def class_names_of(config: Mapping[str, Any]) -> list[str]:
    """The classes of the data, in the order of their labels; as many empty names where they are still to be downloaded.

    config: resolved. The source is listed, but where nothing but the number of classes of a source that is always there
    is asked for. Where it is gone and the data file is there, that tells.
    Raises FileNotFoundError or DataError, as `list_splits`, for a source that is not there or breaks its layout.
    """
    data = config["data"]
    source = SOURCES[data["source"]]
    unnamed = [""] * (data["classes"] or source.class_sizes(data).n_classes)
    if not source.needs_path and not any(one["logits"] for one in config["classifiers"].values()):
        return unnamed
    try:
        return _listed(json.dumps({**data, "download": False}), config["seed"])
    except (OSError, DataError) as error:
        made = Path(f"results/{config['run']}/data/{data['splits'][0]}.h5")
        if made.exists():
            from perturbflow.files.images import read_columns

            return [name.decode() for name in read_columns(made, "class_name")[0]]
        if isinstance(error, FileNotFoundError) and source.download_bytes and data["download"]:
            return unnamed
        raise


@cache
def _listed(data: str, seed: int) -> list[str]:
    """data: JSON."""
    return next(iter(list_splits(json.loads(data), seed).values())).class_names
