"""Random noise with the size of an adversary's perturbation: what a network does to any perturbation of that size.

Nothing of torch is imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.random import Generator

from perturbflow.files.images import Array, Images, open_images, read_columns
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.sets import set_writer, unattacked
from perturbflow.files.whole import sha256

IMAGES_PER_BLOCK = 16  # given back at once; results do not depend on it


def sign_noise(clean: Array, adversarial: Array, generator: Generator) -> Array:
    """Noise whose components all have the same size, with random signs.

    clean: uint8 (B, H, W, 3). adversarial: float32 (B, H, W, 3) in 0..255. Returns float32 (B, H, W, 3) in 0..255. The
    perturbation of each image has the L2 norm of `adversarial - clean`. A component that would leave 0..255 has its
    sign turned round; one that fits on neither side, which takes more than 127.5, goes as far as it can, and the
    others grow. Raises ValueError where an adversarial image is farther from the clean one than 0..255 allows.
    """
    return _noise(clean, adversarial, 1.0 - 2 * generator.integers(0, 2, tuple(clean.shape)))


def gaussian_noise(clean: Array, adversarial: Array, generator: Generator) -> Array:
    """Noise in the direction of a normally distributed vector; else like `sign_noise`."""
    return _noise(clean, adversarial, generator.standard_normal(tuple(clean.shape)))


# Each takes clean images, adversarial images and a source of random numbers.
CONTROLS: dict[str, Callable[[Array, Array, Generator], Array]] = {
    "sign_noise": sign_noise,
    "gaussian_noise": gaussian_noise,
}


def control_to_file(
    data: str, adversarial: str, output: str, settings: Mapping[str, Any], seed: int, split: str
) -> None:
    """Write the control of one split of an adversarial set.

    data, adversarial: files of the clean images and of the set whose perturbations give the size. settings: the config
    of the control. Raises ValueError as `sign_noise`.
    """
    clean, attacked = open_images(data), open_images(adversarial)
    index, label = read_columns(adversarial, "index", "label")
    (class_names,) = read_columns(data, "class_name")
    attributes = artifact_attributes(
        {**settings, "seed": seed},
        class_names=json.dumps([name.decode() for name in class_names]),
        data_sha256=sha256(data),
        adversarial_sha256=sha256(adversarial),
    )
    columns = {"index": index, "label": label, **unattacked(len(index))}
    with set_writer(output, attacked.shape[1:], columns, attributes) as images:
        for rows, block in control_blocks(settings["attack"], clean, index, attacked, seed, split):
            images[rows] = block


def control_blocks(
    name: str, clean: Images, index: Array, adversarial: Images, seed: int, split: str
) -> Iterator[tuple[slice, Array]]:
    """The control `name` of CONTROLS for a whole adversarial set, block by block, each with its rows in the set.

    clean: uint8 (M, H, W, 3), the data; index: int64 (N,), the row in it of each image of `adversarial`, (N, H, W, 3).
    An image's random numbers depend on name, seed, split and its row in the data alone.
    """
    for start in range(0, len(adversarial), IMAGES_PER_BLOCK):
        rows = slice(start, min(start + IMAGES_PER_BLOCK, len(adversarial)))
        noisy = [
            CONTROLS[name](
                clean[row : row + 1],
                adversarial[position : position + 1],
                np.random.default_rng([seed, row, *f"{name} {split}".encode()]),
            )
            for position, row in zip(range(rows.start, rows.stop), index[rows].tolist(), strict=True)
        ]
        yield rows, np.concatenate(noisy)


def _noise(clean: Array, adversarial: Array, direction: Array) -> Array:
    """The clean images, moved along `direction` as far as the adversarial ones are away."""
    pixels = clean.reshape(len(clean), -1).astype(np.float64)
    distance = np.linalg.norm(adversarial.reshape(pixels.shape) - pixels, axis=1, keepdims=True)
    direction = direction.reshape(pixels.shape)
    length = _lengths(np.abs(direction), np.maximum(pixels, 255 - pixels), distance)
    upwards = direction > 0
    upwards ^= length > np.where(upwards, 255 - pixels, pixels)
    images = (pixels + np.where(upwards, length, -length)).astype(np.float32)
    return _meet_distance(images, pixels, distance).reshape(clean.shape)


def _lengths(share: Array, room: Array, norm: Array) -> Array:
    """Lengths (B, n) in proportion to `share`, of norm (B, 1), where none is over `room`.

    Raises ValueError where the norm is that of no image in 0..255.
    """
    if (norm > np.linalg.norm(room, axis=1, keepdims=True) * (1 + 1e-6)).any():
        raise ValueError("an adversarial image is farther from its clean image than any image in 0..255")
    full = np.zeros(share.shape, bool)
    while True:
        rest = np.square(norm) - np.square(np.where(full, room, 0)).sum(1, keepdims=True)
        free = np.square(np.where(full, 0, share)).sum(1, keepdims=True)
        scale = np.sqrt(np.divide(rest, free, out=np.zeros_like(rest), where=(free > 0) & (rest > 0)))
        length = np.where(full, room, scale * share)
        over = length > room
        if not over.any():
            return length
        full |= over


def _meet_distance(images: Array, clean: Array, distance: Array) -> Array:
    """Images (B, n) whose distance from the clean ones is not lost in rounding to float32.

    Rounding changes all components of sign noise alike, by up to 3e-5 of their length at 0.255 pixel values. As many
    components as it takes are moved to the next number.
    """
    perturbation = images - clean
    missing = np.square(distance) - np.square(perturbation).sum(1, keepdims=True)
    goal = np.where(missing > 0, np.copysign(np.inf, perturbation), clean).astype(np.float32)
    moved = np.nextafter(images, goal)
    moved = np.where((perturbation == 0) | (moved < 0) | (moved > 255), images, moved)
    gain = np.square(moved - clean) - np.square(perturbation)
    return np.where((gain != 0) & (np.abs(gain.cumsum(1)) <= np.abs(missing)), moved, images)
