"""The source `photographs`: twenty pictures of classes of ImageNet, for a first look at networks that know these."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from perturbflow.data.image_list import DataError, ImageList


def photographs(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """The twenty photographs that Foolbox ships, of 19 of ImageNet's 1000 classes; a val split alone.

    An image's id is the name of its file, whose last number is that of its class. Class names are as for ImageNet.
    Raises DataError where the training split is asked for.
    """
    from timm.data import ImageNetInfo  # slow to import, and only this source needs it here

    if "train" in data["splits"]:
        raise DataError("the photographs are a val split alone; train nothing on them, and write data.splits: [val]")
    info, folder = ImageNetInfo(), _folder()
    classes = {file.name: int(found[1]) for file in folder.iterdir() if (found := _FILE.fullmatch(file.name))}
    present = sorted(set(classes.values()))  # in the order of WordNet ids, as ImageNet's classes are
    ids = sorted(classes, key=lambda name: (classes[name], name))
    return {
        "val": ImageList(
            source="Foolbox",
            ids=ids,
            labels=np.array([present.index(classes[name]) for name in ids], dtype=np.int64),
            class_names=[
                f"{info.index_to_label_name(number)} {info.index_to_description(number).split(',')[0]}"
                for number in present
            ],
            read_bytes=lambda name: (folder / name).read_bytes(),
        )
    }


_FILE = re.compile(r"imagenet_\d+_(\d+)\.jpg")


def _folder() -> Path:
    spec = importlib.util.find_spec("foolbox")  # not imported: it takes its time
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "data"
