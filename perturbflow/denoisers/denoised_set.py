"""From an adversarial set's file to a denoised set's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from perturbflow.files.images import Images, Subset, checked_rows, image_writer, open_images, read_columns
from perturbflow.machine.batches import batches_of
from perturbflow.machine.prefetch import behind


def denoise_to_file(
    denoiser: nn.Module,
    adversarial: str,
    output: str,
    batch_size: int,
    device: torch.device,
    attributes: Mapping[str, str],
    rows: range | None = None,
) -> None:
    """Denoise all images of an adversarial set, or the rows of a shard, and write the denoised set.

    A few batches are in memory at once.
    """
    images: Images = open_images(adversarial)
    taken = checked_rows(adversarial, len(images), rows)
    index, label = (column[taken] for column in read_columns(adversarial, "index", "label"))
    if rows is not None:
        images = Subset(images, np.arange(rows.start, rows.stop))

    def write(positions: slice, batch: Tensor) -> None:
        file["images"][positions] = batch.cpu().numpy()
        progress.update(len(batch))

    with (
        image_writer(output, len(images), images.shape[1:], "float32", attributes) as file,
        tqdm(total=len(images), unit="image") as progress,
    ):
        with behind(write) as write_behind:
            for positions, batch in denoise(denoiser, images, batch_size, device):
                write_behind(positions, batch)
        file["index"] = index
        file["label"] = label


@torch.no_grad()
def denoise(
    denoiser: nn.Module, images: Images, batch_size: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Denoised (B, H, W, 3) float32 batches on the device, clipped to 0..255, each with its rows."""
    for rows, batch in batches_of(images, batch_size, device):
        yield rows, denoiser(batch).clamp(0, 255).permute(0, 2, 3, 1)
