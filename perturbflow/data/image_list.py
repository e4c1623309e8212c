"""Lists of images that are not decoded yet, and seeded subsets of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

SPLITS = ("train", "val")


class DataError(ValueError):
    """Source images that are not what their layout or the config promises."""


@dataclass(frozen=True)
class ImageList:
    """The images of one split before they are decoded, sorted by label, then by id.

    source: the folder or file that holds the images, for messages. ids: N strings that name the images in it.
    labels: int64, (N,), indices into class_names. open_image: gives the picture behind an id, of any size and mode.
    """

    source: str
    ids: list[str]
    labels: NDArray[np.int64]
    class_names: list[str]
    open_image: Callable[[str], Image.Image]


def take_subset(images: ImageList, split: str, n_classes: int | None, n_per_class: int | None, seed: int) -> ImageList:
    """Draw classes, then images of each of them; the classes that stay are numbered anew."""
    total = len(images.class_names)
    if n_classes is not None and n_classes > total:
        raise DataError(f"data.classes is {n_classes}, but the source has {total} classes; lower it, or null for all.")
    classes = np.sort(np.random.default_rng([seed, 0]).permutation(total)[:n_classes])
    rows_by_class = []
    for label in classes:
        rows = np.flatnonzero(images.labels == label)
        if n_per_class is not None and n_per_class > len(rows):
            raise DataError(
                f"data.images_per_class.{split} is {n_per_class}, but class {images.class_names[label]} has "
                f"{len(rows)} images in {split}; lower it, or null for all."
            )
        # A stream for each class: which images are drawn does not depend on which other classes are.
        generator = np.random.default_rng([seed, 1, SPLITS.index(split), label])
        rows_by_class.append(np.sort(generator.permutation(rows)[:n_per_class]))
    return replace(
        images,
        ids=[images.ids[row] for row in np.concatenate(rows_by_class)],
        labels=np.repeat(np.arange(len(classes)), [len(rows) for rows in rows_by_class]),
        class_names=[images.class_names[label] for label in classes],
    )
