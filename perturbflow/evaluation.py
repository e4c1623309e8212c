"""Running a network over many images: accuracy of a classifier, output of a denoiser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from perturbflow.storage import Array


def pixels_of(images: Array, device: torch.device) -> Tensor:
    """NHWC array, uint8 or float32, -> float32 NCHW tensor on the device, channels last in memory as it was.

    The tensor is a copy: memory-mapped files are read-only, which torch does not know.
    """
    return torch.from_numpy(np.array(images, order="C")).to(device).permute(0, 3, 1, 2).float()


@torch.no_grad()
def top1(classifier: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Top-1 accuracy, 0..1, on (N, 3, H, W) images in 0..255 that lie on the classifier's device."""
    n_correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for batch, expected in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        n_correct += _n_correct(classifier, batch.float().contiguous(memory_format=torch.channels_last), expected)
    return int(n_correct) / len(images)


@torch.no_grad()
def top1_of_array(classifier: nn.Module, images: Array, labels: Array, batch_size: int, device: torch.device) -> float:
    """Top-1 accuracy, 0..1, on (N, H, W, 3) images in 0..255, which may be memory-mapped."""
    n_correct = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, len(images), batch_size):
        expected = torch.from_numpy(labels[start : start + batch_size]).to(device)
        batch = pixels_of(images[start : start + batch_size], device)
        n_correct += _n_correct(classifier, batch, expected)
    return int(n_correct) / len(images)


def _n_correct(classifier: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return (classifier(images).argmax(1) == labels).sum()


@torch.no_grad()
def denoise(denoiser: nn.Module, images: Array, batch_size: int, device: torch.device) -> Iterator[tuple[int, Array]]:
    """Denoised (B, H, W, 3) float32 batches, clipped to 0..255, each with the row that it starts at."""
    for start in range(0, len(images), batch_size):
        denoised = denoiser(pixels_of(images[start : start + batch_size], device)).clamp_(0, 255)
        yield start, denoised.permute(0, 2, 3, 1).cpu().numpy()
