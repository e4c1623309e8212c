"""Batches of stored images on their way to a device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from perturbflow.files.images import Array, Images
from perturbflow.machine.prefetch import ahead


def ready_for(device: torch.device, images: Array) -> Tensor:
    """An array as a tensor from which `pixels_of` copies to the device while the device computes."""
    read = torch.from_numpy(np.require(images, requirements=["C", "W"]))  # torch warns of read-only arrays
    return read.pin_memory() if device.type == "cuda" else read


def pixels_of(images: Array | Tensor, device: torch.device) -> Tensor:
    """NHWC, uint8 or float32, -> float32 NCHW tensor on the device, channels last in memory as it was."""
    read = images if isinstance(images, Tensor) else ready_for(device, images)
    return read.to(device, non_blocking=True).permute(0, 3, 1, 2).float()


def batches_of(images: Images, batch_size: int, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """Batches of (N, H, W, C) images with their rows, as float32 (B, C, H, W) on the device, read ahead by a thread."""

    def load(start: int) -> tuple[slice, Tensor]:
        rows = slice(start, min(start + batch_size, len(images)))
        return rows, ready_for(device, images[rows])

    for rows, batch in ahead(load, range(0, len(images), batch_size)):
        yield rows, pixels_of(batch, device)
