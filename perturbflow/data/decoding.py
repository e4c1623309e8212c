"""From listed images to arrays and files of pixels."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from perturbflow.data.image_list import DataError, ImageList
from perturbflow.data.sources import list_splits
from perturbflow.files.images import Array, image_writer, write_labels
from perturbflow.files.provenance import artifact_attributes

IMAGES_PER_TASK = 100  # a thread's task for each image costs as much as decoding a small one
BYTES_PER_TASK = 2**24  # fewer where they are large: each thread holds those of its task


def decode_splits_to_files(
    outputs: Mapping[str, str], data: Mapping[str, Any], seed: int, recorded: Mapping[str, Any], threads: int
) -> None:
    """Write the images of a study, as `list_splits` lists them, into a file a split.

    outputs: the file of each split. data: the config's `data`; recorded: what of it the files tell.
    Raises as `list_splits` and `decode_into`.
    """
    attributes = artifact_attributes({"data": recorded, "seed": seed})
    for split, images in list_splits(data, seed).items():
        decode_to_file(outputs[split], attributes, images, data["image_size"], threads, split)


def decode_to_file(
    path: str | Path,
    attributes: Mapping[str, Any],
    images: ImageList,
    image_size: int,
    threads: int = 1,
    description: str = "images",
) -> None:
    """Write the listed images as `data/<split>.h5`; a few are in memory at once. Raises as `decode_into`."""
    with image_writer(path, len(images.ids), (image_size, image_size, 3), "uint8", attributes) as file:
        decode_into(file["images"], images, threads, description)
        write_labels(file, images.labels, images.ids, images.class_names)


def decode_into(pixels: Any, images: ImageList, threads: int = 1, description: str = "images") -> None:
    """Decode listed images to RGB pixels, 0..255.

    pixels: what they are written into, uint8 (N, image_size, image_size, 3), an array or a dataset of HDF5.
    A picture of another size is resized to that length of its shorter side (bilinear, antialiased) and
    cropped at its centre. Grayscale is repeated in the three channels, transparency dropped, a camera's
    orientation tag passed over. A progress bar goes to stderr.
    Raises DataError, naming the image, where one cannot be decoded or has more than 8 bits a channel.
    """
    n_images, image_size = pixels.shape[:2]
    n_of_task = min(IMAGES_PER_TASK, max(1, BYTES_PER_TASK // (3 * image_size**2)))

    def fill(start: int) -> int:
        names = images.ids[start : start + n_of_task]
        pixels[start : start + len(names)] = np.stack([_read_pixels(images, name, image_size) for name in names])
        return len(names)

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=n_images, desc=description, unit=" images") as progress,
    ):
        for n_done in pool.map(fill, range(0, n_images, n_of_task)):
            progress.update(n_done)


def _read_pixels(images: ImageList, name: str, image_size: int) -> Array:
    """One RGB picture: uint8, (image_size, image_size, 3)."""
    try:
        image = images.open_image(name)
        image.load()
    # Pillow's decoders raise nearly anything on a damaged file: OSError, SyntaxError, struct.error...
    except Exception as error:
        raise DataError(f"{images.source}/{name} cannot be decoded ({error}); replace or remove it.") from error
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{images.source}/{name} has over 8 bits a channel ({image.mode}); convert it to 8 bits first.")
    return np.asarray(ImageOps.fit(image.convert("RGB"), (image_size, image_size), Image.Resampling.BILINEAR))
