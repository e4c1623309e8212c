"""The sources that a study's clean images come from; each lists the images of its splits without decoding any.

The workflow asks here before every job what a source says of itself: Pillow, scikit-learn and pyarrow are imported
where images are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbflow.data.digits import digits
from perturbflow.data.folders import folder_files, image_folder
from perturbflow.data.image_list import ImageList, take_subset
from perturbflow.data.imagenet import imagenet, imagenet_files, imagenet_sizes
from perturbflow.data.listing import ClassSizes, folder_sizes, splits_of
from perturbflow.data.parquet import parquet, parquet_files, parquet_sizes
from perturbflow.data.photographs import photographs
from perturbflow.data.tiny_imagenet import TINY_IMAGENET, tiny_imagenet, tiny_imagenet_files


def list_splits(data: Mapping[str, Any], seed: int) -> dict[str, ImageList]:
    """The images that a study takes, {"train": ..., "val": ...}, with the same classes in both, or one of them alone.

    data: the config's `data`; where it has `splits`, the others need not be there. The draw depends on `seed`, on the
    classes and on the ids alone, not on the order of files on disk. For one seed, a smaller subset is part of every
    larger one.
    Raises FileNotFoundError or DataError, naming the file, class or key, where the source breaks its layout
    or holds fewer classes or images than `data.classes` and `data.images_per_class` ask for.
    """
    listed = SOURCES[data["source"]].list_images(data, seed)
    return {
        split: take_subset(listed[split], split, data["classes"], data["images_per_class"][split], seed)
        for split in splits_of(data)
    }


def data_slice(data: Mapping[str, Any]) -> dict[str, Any]:
    """What the images depend on of the config's `data`: not where they lie, which is one thing wherever it is."""
    return {key: value for key, value in data.items() if key not in ("download", "path")}


@dataclass(frozen=True)
class Source:
    """A source of images, and what has to be known of it before they are there.

    list_images: takes the config's `data` and the seed, and lists all images of the splits that `data` asks for, or of
    both.
    class_sizes: takes the config's `data` and tells the sizes within a moment, however many images there are.
    needs_path: whether `data.path` has to be given.
    files: takes the config's `data` and tells the files that the images come from, and folders that hold such, each by
        a name that is the same wherever it lies.
    download_bytes: what it downloads where it is not there yet and `data.download` allows.
    """

    list_images: Callable[[Mapping[str, Any], int], dict[str, ImageList]]
    class_sizes: Callable[[Mapping[str, Any]], ClassSizes]
    needs_path: bool = True
    files: Callable[[Mapping[str, Any]], dict[str, Path]] = lambda data: {"": Path(data["path"])}
    download_bytes: int = 0


SOURCES = {
    "tiny-imagenet": Source(
        tiny_imagenet,
        lambda data: ClassSizes(200, {"train": 500, "val": 50}, all_equal=True),
        files=tiny_imagenet_files,
        download_bytes=TINY_IMAGENET.size,
    ),
    "imagenet": Source(imagenet, imagenet_sizes, files=imagenet_files),
    "image-folder": Source(image_folder, folder_sizes, files=folder_files),
    "parquet": Source(parquet, parquet_sizes, files=parquet_files),
    "photographs": Source(
        photographs, lambda data: ClassSizes(19, {"train": 0, "val": 2}), needs_path=False, files=lambda data: {}
    ),
    "digits": Source(
        digits, lambda data: ClassSizes(10, {"train": 146, "val": 37}), needs_path=False, files=lambda data: {}
    ),
}
