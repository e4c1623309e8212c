"""What tests start from: configs, splits of data as files, images in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from perturbflow.data.decoding import decode_into
from perturbflow.data.image_list import ImageList
from perturbflow.files.images import DataSplit, image_writer, write_labels
from perturbflow.planning.config import resolve_config


def load_config(path: Path) -> dict[str, Any]:
    """A config file, resolved."""
    return resolve_config(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def write_split(path: Path | str, split: DataSplit, attributes: dict[str, str] | None = None) -> None:
    """Write a data split as `data/<split>.h5`."""
    with image_writer(path, len(split.images), split.images.shape[1:], "uint8", attributes or {}) as file:
        file["images"][:] = split.images
        write_labels(file, split.labels, split.ids, split.class_names)


def decode(images: ImageList, image_size: int, threads: int = 1) -> DataSplit:
    """The listed images as `decode_into` gives them."""
    pixels = np.empty((len(images.ids), image_size, image_size, 3), np.uint8)
    decode_into(pixels, images, threads)
    return DataSplit(pixels, images.labels, images.ids, images.class_names)
