"""Lists of images that are not decoded yet, and seeded subsets of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "val")


class DataError(ValueError):
    """Source images that are not what their layout or the config promises."""


@dataclass(frozen=True)
class ImageList:
    """The images of one split before they are decoded, sorted by label, then by id.

    source: the folder or file that holds the images, for messages. ids: N strings that name the images in it.
    labels: int64, (N,), indices into class_names. read_bytes: gives what the picture's file holds behind an id.
    left_out: files beside the images that are none, with the reason.
    """

    source: str
    ids: list[str]
    labels: NDArray[np.int64]
    class_names: list[str]
    read_bytes: Callable[[str], bytes]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def read(self, name: str) -> bytes:
        """What the file of an image holds. Raises DataError, naming it, where it cannot be read."""
        try:
            return self.read_bytes(name)
        except Exception as error:  # of a damaged archive its readers raise nearly anything
            raise DataError(f"{self.source}/{name} cannot be read ({error}); mend or remove it.") from error

    def without(self, names: Collection[str]) -> ImageList:
        """The list without some of its images. Raises DataError where none of a class is left."""
        kept = [row for row, name in enumerate(self.ids) if name not in names]
        if empty := sorted({*self.labels.tolist()} - {*self.labels[kept].tolist()}):
            such = self.ids[self.labels.tolist().index(empty[0])]
            raise DataError(
                f"{self.source}: no image of class {self.class_names[empty[0]]} is left, such as {such}; "
                "replace them, or remove the class."
            )
        return replace(self, ids=[self.ids[row] for row in kept], labels=self.labels[kept])

    def listed_sha256(self) -> str:
        """Digest of which images these are: ids, labels and names of classes."""
        return hashlib.sha256(json.dumps([self.ids, self.labels.tolist(), self.class_names]).encode()).hexdigest()


def pictures_sha256(digests: Iterable[bytes]) -> str:
    """Digest of what the files of images hold, from the SHA-256 of each, 32 bytes, in the order of the list."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


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
