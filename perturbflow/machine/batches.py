"""Running a network over many images: accuracy of a classifier, output of a denoiser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

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


@torch.no_grad()
def top1(classifier: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Top-1 accuracy, 0..1, on (N, 3, H, W) images in 0..255 that lie on the classifier's device."""
    n_correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for batch, expected in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        n_correct += _n_correct(classifier, batch.float().contiguous(memory_format=torch.channels_last), expected)
    return int(n_correct) / len(images)


@torch.no_grad()
def top1_of_array(classifier: nn.Module, images: Images, labels: Array, batch_size: int, device: torch.device) -> float:
    """Top-1 accuracy, 0..1, on (N, H, W, 3) images in 0..255."""
    expected = torch.from_numpy(labels).to(device)
    n_correct = torch.zeros((), dtype=torch.int64, device=device)
    for rows, batch in batches_of(images, batch_size, device):
        n_correct += _n_correct(classifier, batch, expected[rows])
    return int(n_correct) / len(images)


def _n_correct(classifier: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return (classifier(images).argmax(1) == labels).sum()


@torch.no_grad()
def denoise(
    denoiser: nn.Module, images: Images, batch_size: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Denoised (B, H, W, 3) float32 batches on the device, clipped to 0..255, each with its rows."""
    for rows, batch in batches_of(images, batch_size, device):
        yield rows, denoiser(batch).clamp(0, 255).permute(0, 2, 3, 1)
