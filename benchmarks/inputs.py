"""Images and networks to measure with: nothing is downloaded or trained."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from sklearn.datasets import load_sample_images
from torch import Tensor

from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import Classifier
from perturbflow.files.images import Array, image_writer, write_labels
from perturbflow.planning.config import resolve_config

N_CLASSES = 200
SIZE = 64
INPUT_SIZE = 128


def load_config(path: Path) -> dict[str, Any]:
    """A config file, resolved."""
    return resolve_config(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


@functools.cache
def _photographs() -> list[Array]:
    return [np.asarray(photograph) for photograph in load_sample_images().images]


def photographs(n_images: int, seed: int = 0, size: int = SIZE) -> Array:
    """Random pieces of scikit-learn's two photographs, 427 x 640 pixels each: uint8 (n_images, size, size, 3)."""
    generator = np.random.default_rng(seed)
    pieces = np.empty((n_images, size, size, 3), dtype=np.uint8)
    for piece in pieces:
        photograph = _photographs()[generator.integers(2)]
        top, left = (generator.integers(side - size) for side in photograph.shape[:2])
        piece[:] = photograph[top : top + size, left : left + size]
    return pieces


def adversaries(clean: Array, step: float = 0.255, max_steps: int = 20, seed: int = 1) -> Array:
    """What an attack along signs leaves of images, float32: up to so many steps of +-step in every pixel."""
    generator = np.random.default_rng(seed)
    steps = generator.integers(1, max_steps + 1, size=(len(clean), 1, 1, 1)).astype(np.float32)
    signs = generator.integers(0, 2, size=clean.shape, dtype=np.int8) * 2 - 1
    return np.clip(clean + np.float32(step) * steps * signs, 0, 255).astype(np.float32)


def write_data(path: str, images: Array, labels: Array, n_classes: int) -> None:
    """Write uint8 (N, H, W, 3) images with their labels as `data/<split>.h5`."""
    with image_writer(path, len(images), images.shape[1:], "uint8", {}) as file:
        file["images"][:] = images
        ids, names = ([str(number) for number in range(count)] for count in (len(images), n_classes))
        write_labels(file, labels, ids, names)


def write_images(folder: Path, names: Sequence[str], n_images: int) -> dict[str, Path]:
    """By its name a file of images each: the first, `clean`, as they are, the others as adversaries, float32."""
    files = {name: folder / f"{name}_{n_images}.h5" for name in ("clean", *names)}
    for seed, (name, file) in enumerate(files.items()):
        with image_writer(file, n_images, (SIZE, SIZE, 3), "uint8" if name == "clean" else "float32", {}) as written:
            for start in range(0, n_images, 500):
                rows = slice(start, min(start + 500, n_images))
                clean = photographs(rows.stop - rows.start, seed=start)
                written["images"][rows] = clean if name == "clean" else adversaries(clean, seed=seed)
            written["index"] = np.arange(n_images)
            written["label"] = np.zeros(n_images, dtype=np.int64)
    return files


def classifier(architecture: str, device: torch.device, frozen: bool = True, **options: Any) -> Classifier:
    """A classifier of the paper at its full size, or shrunken by options, untrained, in evaluation mode."""
    torch.manual_seed(0)
    network = build_classifier(architecture, N_CLASSES, INPUT_SIZE, "none", options)
    network.requires_grad_(not frozen)
    return network.eval().to(device).to(memory_format=torch.channels_last)


@torch.no_grad()
def predicted(network: torch.nn.Module, images: Tensor, batch_size: int = 64) -> Tensor:
    """The labels that the network gives to images of any type."""
    return torch.cat([network(batch.float()).argmax(1) for batch in images.split(batch_size)])


def on_device(images: Array, device: torch.device) -> Tensor:
    """(N, H, W, 3) -> (N, 3, H, W) of the same type."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
