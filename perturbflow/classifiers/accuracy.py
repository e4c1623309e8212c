"""The share of images that a classifier gets right."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from perturbflow.files.images import Array, Images, Subset
from perturbflow.machine.batches import batches_of
from perturbflow.machine.processes import ALONE, Processes


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


def accuracy(
    classifier: nn.Module, images: Tensor | Images, labels: Tensor, batch_size: int, processes: Processes = ALONE
) -> float:
    """Top-1 accuracy, 0..1, of which each process measures its share. Images and labels as for `train_classifier`."""
    rows = processes.rows(len(images))
    n_rows = rows.stop - rows.start
    if not n_rows:
        share = 0.0
    elif isinstance(images, Tensor):
        share = top1(classifier, images[rows], labels[rows], batch_size)
    else:
        part = Subset(images, np.arange(rows.start, rows.stop))
        share = top1_of_array(classifier, part, labels[rows].cpu().numpy(), batch_size, labels.device)
    return processes.total(round(share * n_rows), labels.device) / len(images)
