"""HDF5 files of images, whose rows are read as they are asked for."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from perturbflow.files.whole import BadFileError, whole_file

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DataSplit:
    """One split of a data set, wholly in memory.

    images: uint8, (N, H, W, 3). labels: int64, (N,), indices into class_names. ids: N strings.
    """

    images: Array
    labels: Array
    ids: list[str]
    class_names: list[str]


@contextmanager
def open_whole(path: str | Path, datasets: tuple[str, ...]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading and make sure that it holds `datasets`.

    Raises FileNotFoundError, or BadFileError for a file that is damaged or lacks one of them.
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"{path} does not exist; run the rule that makes it first.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise BadFileError(f"{path} is not a readable HDF5 file ({error}); delete it and run again.") from error
    with file:
        missing = [name for name in datasets if name not in file]
        if missing:
            raise BadFileError(f"{path} has no dataset {', '.join(missing)}; delete it and run again.")
        yield file


@contextmanager
def image_writer(
    path: str | Path,
    n_images: int,
    image_shape: tuple[int, ...],
    dtype: str,
    attributes: Mapping[str, Any],
) -> Iterator[h5py.File]:
    """Create an HDF5 file with an empty `images` dataset (n_images, *image_shape); add the rest yourself.

    The images are stored contiguously and uncompressed, so that any reader opens them without a plugin and
    `open_images` can read random rows at memory speed. What is written in the same order gives the same bytes.
    """
    with whole_file(path) as temporary, h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
        file.create_dataset("images", (n_images, *image_shape), dtype)
        for name, value in sorted(attributes.items()):
            file.attrs[name] = value
        yield file


class Images(Protocol):
    """(N, H, W, C) images, in memory as an array or in a file as StoredImages."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class StoredImages:
    """The `images` of an HDF5 file, (N, H, W, C), of which `images[rows]` reads rows as they are asked for.

    rows: a number, a slice or an array of numbers. What is read is a new array; nothing stays in memory, not even as
    pages of a mapped file, which count as the process's own where memory is limited. Threads may read at the same time.
    """

    def __init__(self, path: str | Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.path = path
        self.offset = offset
        self.shape = shape
        self.dtype = dtype
        self._row_size = dtype.itemsize * math.prod(shape[1:])
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | Array) -> Array:
        if isinstance(rows, slice):
            wanted = np.arange(*rows.indices(len(self)))
        else:
            wanted = np.asarray(rows)
            if wanted.dtype == bool:
                raise TypeError("rows are numbers, not a mask")
            if wanted.size and not -len(self) <= wanted.min() <= wanted.max() < len(self):
                raise IndexError(f"{self.path} has {len(self)} images; asked for {wanted.min()}..{wanted.max()}")
            wanted = wanted % len(self)
        flat = wanted.reshape(-1)
        images = np.empty((len(flat), *self.shape[1:]), self.dtype)
        # Rows that follow each other are read at once.
        starts = np.flatnonzero(np.diff(flat, prepend=-2) != 1).tolist()
        for start, end in pairwise([*starts, len(flat)]):
            self._read(int(flat[start]), images[start:end])
        return images.reshape(*wanted.shape, *self.shape[1:])

    def _read(self, row: int, images: Array) -> None:
        """Fill `images` with the rows from `row` on."""
        left = memoryview(images.reshape(-1).view(np.uint8).data)
        offset = self.offset + row * self._row_size
        while left:
            n_read = os.preadv(self._file, [left], offset)
            if not n_read:
                raise BadFileError(f"{self.path} ends before its image {row}; delete it and run again.")
            left, offset = left[n_read:], offset + n_read


@dataclass(frozen=True)
class Subset:
    """Some rows of images, as images of their own, which are read when they are asked for."""

    images: Images
    rows: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> Any:
        return self.images[self.rows[rows]]


def open_images(path: str | Path) -> StoredImages:
    """The `images` of an HDF5 file, read row by row as they are asked for.

    Raises FileNotFoundError or BadFileError, naming the file, where it is missing or its images are chunked.
    """
    with open_whole(path, ("images",)) as file:
        dataset = file["images"]
        offset = dataset.id.get_offset()
        if offset is None and 0 not in dataset.shape:
            raise BadFileError(f"{path}: images are chunked or compressed; they must be stored contiguously.")
        return StoredImages(path, offset or 0, dataset.shape, dataset.dtype)


def read_columns(path: str | Path, *names: str) -> tuple[Array, ...]:
    """Read whole datasets other than images, such as `index`, `label` or `steps`, into memory."""
    with open_whole(path, names) as file:
        return tuple(file[name][:] for name in names)


def write_labels(file: h5py.File, labels: Array, ids: list[str], class_names: list[str]) -> None:
    """Write what a data split has beside its images; as for DataSplit."""
    file["label"] = labels.astype("int64")
    file.create_dataset("id", data=ids, dtype=h5py.string_dtype())
    file.create_dataset("class_name", data=class_names, dtype=h5py.string_dtype())


def read_split(path: str | Path, rows: range | None = None) -> DataSplit:
    """Read a `data/<split>.h5` into memory: the images of these rows, or all.

    Raises FileNotFoundError or BadFileError, naming the file, where it is missing, not a data split, or has fewer rows.
    """
    with open_whole(path, ("images", "label", "id", "class_name")) as file:
        if file["images"].dtype != np.uint8 or file["images"].ndim != 4:
            raise BadFileError(f"{path}: images must be uint8 (N, H, W, 3), found {file['images']}.")
        taken = checked_rows(path, len(file["images"]), rows)
        return DataSplit(
            file["images"][taken],
            file["label"][taken],
            file["id"].asstr()[taken].tolist(),
            file["class_name"].asstr()[:].tolist(),
        )


def checked_rows(path: str | Path, n_images: int, rows: range | None) -> slice:
    """The rows of a file of `n_images` images, consecutive ones or, by None, all, as a slice.

    Raises BadFileError where the file has fewer.
    """
    if rows is None:
        return slice(0, n_images)
    if rows.stop > n_images:
        raise BadFileError(f"{path} has {n_images} images; asked for {rows.start}..{rows.stop - 1}. Run again.")
    return slice(rows.start, rows.stop)
