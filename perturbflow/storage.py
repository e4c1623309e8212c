"""HDF5 image sets and files that appear under their final name only when they are whole."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Array = np.ndarray[Any, Any]


class BadFileError(ValueError):
    """A file that exists but does not hold what its place in the workflow promises."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on any error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # What a killed process left; a live one that writes the same file loses it and fails, instead of a mixture.
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        left_over.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
def _open(path: str | Path, datasets: tuple[str, ...]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading and make sure that it holds `datasets`."""
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
    image_shape: tuple[int, int, int],
    dtype: str,
    attributes: Mapping[str, Any],
) -> Iterator[h5py.File]:
    """Create an HDF5 file with an empty `images` dataset (n_images, *image_shape); add the rest yourself.

    The images are stored contiguously and uncompressed, so that any reader opens them without a plugin and
    `map_images` can read random rows at memory speed.
    """
    with whole_file(path) as temporary, h5py.File(temporary, "w", libver=("earliest", "v110")) as file:
        file.create_dataset("images", (n_images, *image_shape), dtype)
        for name, value in attributes.items():
            file.attrs[name] = value
        yield file


def map_images(path: str | Path) -> Array:
    """The `images` of an HDF5 file, memory-mapped read-only: (N, H, W, 3), no copy until a row is touched."""
    with _open(path, ("images",)) as file:
        dataset = file["images"]
        offset = dataset.id.get_offset()
        if offset is None:
            if 0 in dataset.shape:
                return np.empty(dataset.shape, dataset.dtype)
            raise BadFileError(f"{path}: images are chunked or compressed; they must be stored contiguously.")
        return np.memmap(path, mode="r", shape=dataset.shape, offset=offset, dtype=dataset.dtype)


def read_columns(path: str | Path, *names: str) -> tuple[Array, ...]:
    """Read whole datasets other than images, such as `index`, `label` or `steps`, into memory."""
    with _open(path, names) as file:
        return tuple(file[name][:] for name in names)


def write_split(path: str | Path, split: DataSplit, attributes: Mapping[str, Any]) -> None:
    """Write a data split as `data/<split>.h5`."""
    n_images, height, width, channels = split.images.shape
    with image_writer(path, n_images, (height, width, channels), "uint8", attributes) as file:
        file["images"][:] = split.images
        file["label"] = split.labels.astype("int64")
        file.create_dataset("id", data=split.ids, dtype=h5py.string_dtype())
        file.create_dataset("class_name", data=split.class_names, dtype=h5py.string_dtype())


def read_split(path: str | Path) -> DataSplit:
    """Read a `data/<split>.h5` into memory.

    Raises FileNotFoundError or BadFileError, naming the file, where it is missing or not a data split.
    """
    with _open(path, ("images", "label", "id", "class_name")) as file:
        if file["images"].dtype != np.uint8 or file["images"].ndim != 4:
            raise BadFileError(f"{path}: images must be uint8 (N, H, W, 3), found {file['images']}.")
        return DataSplit(
            file["images"][:],
            file["label"][:],
            file["id"].asstr()[:].tolist(),
            file["class_name"].asstr()[:].tolist(),
        )
