"""The share of images that a classifier gets right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from perturbflow.files.images import Array, Images
from perturbflow.machine.batches import batches_of


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
