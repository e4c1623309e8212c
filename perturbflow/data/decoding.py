"""From listed images to arrays and files of pixels."""

from __future__ import annotations

import csv
import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from perturbflow.data.image_list import DataError, ImageList, pictures_sha256
from perturbflow.data.pictures import open_picture
from perturbflow.data.sources import list_splits
from perturbflow.files.images import Array, image_writer, write_labels
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.whole import whole_file

IMAGES_PER_TASK = 100  # a thread's task for each image costs as much as decoding a small one
BYTES_PER_TASK = 2**24  # fewer where they are large: each thread holds those of its task
NAMED = 20  # of the pictures that cannot be decoded, in a message


@dataclass(frozen=True)
class Decoded:
    """What is known of listed images once they were decoded.

    pictures_sha256: digest of what all their files hold. undecodable: why not, by the ids of those that cannot be.
    """

    pictures_sha256: str
    undecodable: Mapping[str, str]


def decode_splits_to_files(
    outputs: Mapping[str, str],
    left_out: str,
    data: Mapping[str, Any],
    seed: int,
    recorded: Mapping[str, Any],
    source_fingerprint: str,
    threads: int,
) -> None:
    """Write the images of a study, as `list_splits` lists them, into a file a split, once all are decoded.

    outputs: the file of each split. left_out: CSV file of the files that are left out: split, file, reason.
    data: the config's `data`; with `on_error: skip` pictures that cannot be decoded are left out. recorded: what of the
    config the files tell. source_fingerprint: what they tell of the source, see `perturbflow.data.fingerprint`.
    Raises as `list_splits`; DataError where images cannot be read or decoded, with all of the latter, and where none of
    a class is left.
    """
    attributes = artifact_attributes({"data": recorded, "seed": seed}, source_fingerprint=source_fingerprint)
    skip = data.get("on_error") == "skip"
    splits = list_splits(data, seed)
    undecodable = {}
    shape = (data["image_size"], data["image_size"], 3)
    with ExitStack() as files:
        for split, images in splits.items():
            file = files.enter_context(image_writer(outputs[split], len(images.ids), shape, "uint8", attributes))
            undecodable[split] = _decode_split(file, images, skip, threads, split)
        if not skip:
            _refuse(splits, undecodable)
    rows = [
        (split, *row) for split, images in splits.items() for row in ({**images.left_out, **undecodable[split]}.items())
    ]
    _write_left_out(left_out, rows)


def _decode_split(file: h5py.File, images: ImageList, skip: bool, threads: int, split: str) -> Mapping[str, str]:
    """Fill the file of a split, and say which pictures cannot be decoded. skip: whether they are left out."""
    for name in (*images.ids, *images.class_names):
        if name.encode(errors="replace").decode() != name:  # HDF5 holds no other names
            raise DataError(f"{images.source}: the name {name!r} is not in UTF-8; rename it.")
    decoded = decode_into(file["images"], images, threads, split)
    # Of all images, so that one that is mended later is another source.
    file.attrs["listed_sha256"] = images.listed_sha256()
    file.attrs["pictures_sha256"] = decoded.pictures_sha256
    if skip and decoded.undecodable:
        images = images.without(decoded.undecodable)
        # HDF5 cuts no dataset of contiguous rows: one with fewer takes its place, and all are decoded once more.
        shape = file["images"].shape[1:]
        del file["images"]
        again = decode_into(file.create_dataset("images", (len(images.ids), *shape), "uint8"), images, threads, split)
        if again.undecodable:
            raise DataError(f"{images.source} changed while it was read; run again.")
    write_labels(file, images.labels, images.ids, images.class_names)
    return decoded.undecodable


def decode_into(pixels: Any, images: ImageList, threads: int = 1, description: str = "images") -> Decoded:
    """Decode listed images to RGB pixels, 0..255, as `open_picture` gives them.

    pixels: what they are written into, uint8 (N, image_size, image_size, 3), an array or a dataset of HDF5; black
    where a picture cannot be decoded.
    A picture of another size is resized to that length of its shorter side (bilinear, antialiased) and
    cropped at its centre. A progress bar goes to stderr.
    Raises DataError, naming the image, where a file cannot be read.
    """
    n_images, image_size = pixels.shape[:2]
    n_of_task = min(IMAGES_PER_TASK, max(1, BYTES_PER_TASK // (3 * image_size**2)))
    undecodable: dict[str, str] = {}

    def square(name: str, content: bytes) -> Array:
        try:
            picture = open_picture(content)
        except DataError as error:
            undecodable[name] = str(error)
            return np.zeros((image_size, image_size, 3), np.uint8)
        return np.asarray(ImageOps.fit(picture, (image_size, image_size), Image.Resampling.BILINEAR))

    # As they lie on disk: in an archive those of a class may be anywhere.
    order = sorted(range(n_images), key=images.ids.__getitem__)
    digests = [b""] * n_images

    def fill(start: int) -> int:
        rows, squares = order[start : start + n_of_task], []
        for row in rows:
            content = images.read(images.ids[row])
            squares.append(square(images.ids[row], content))
            digests[row] = hashlib.sha256(content).digest()
        if rows == [*range(rows[0], rows[0] + len(rows))]:
            pixels[rows[0] : rows[0] + len(rows)] = np.stack(squares)
        else:  # one by one: HDF5 is far slower where a list tells it many rows
            for row, pixels_of_row in zip(rows, squares, strict=True):
                pixels[row] = pixels_of_row
        return len(rows)

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=n_images, desc=description, unit=" images") as progress,
    ):
        for n_done in pool.map(fill, range(0, n_images, n_of_task)):
            progress.update(n_done)
    # Threads end in any order.
    in_order = {name: undecodable[name] for name in images.ids if name in undecodable}
    return Decoded(pictures_sha256(digests), in_order)


def _refuse(splits: Mapping[str, ImageList], undecodable: Mapping[str, Mapping[str, str]]) -> None:
    """Raise DataError with the pictures that cannot be decoded, where there are any."""
    lines = [
        f"{splits[split].source}/{name}: {reason}"
        for split, reasons in undecodable.items()
        for name, reason in reasons.items()
    ]
    if lines:
        more = [f"and {len(lines) - NAMED} more"] if len(lines) > NAMED else []
        raise DataError(
            f"Pictures that cannot be decoded: {len(lines)}. Replace or remove them, or leave them out by "
            "data.on_error: skip.\n" + "\n".join([*lines[:NAMED], *more])
        )


def _write_left_out(path: str, rows: list[tuple[str, str, str]]) -> None:
    """Write the files that are left out as CSV, and say in the log how many there are and why."""
    with (
        whole_file(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["split", "file", "reason"])
        writer.writerows(rows)
    for reason, n_files in Counter(reason for _, _, reason in rows).most_common():
        such = next(file for _, file, other in rows if other == reason)
        # A name that is no text is written as in the CSV.
        such = such.encode(errors="backslashreplace").decode()
        logging.warning("Files left out: %d (%s), such as %s", n_files, reason, such)
