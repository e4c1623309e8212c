"""From an adversarial set's file to a denoised set's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from tqdm import tqdm

from perturbflow.background import behind
from perturbflow.evaluation import denoise
from perturbflow.storage import image_writer, open_images, read_columns


def denoise_to_file(
    denoiser: nn.Module,
    adversarial: str,
    output: str,
    batch_size: int,
    device: torch.device,
    attributes: Mapping[str, str],
) -> None:
    """Denoise all images of an adversarial set and write the denoised set; a few batches are in memory at once."""
    images = open_images(adversarial)
    index, label = read_columns(adversarial, "index", "label")

    def write(rows: slice, batch: Tensor) -> None:
        file["images"][rows] = batch.cpu().numpy()
        progress.update(len(batch))

    with (
        image_writer(output, len(images), images.shape[1:], "float32", attributes) as file,
        tqdm(total=len(images), unit="image") as progress,
    ):
        with behind(write) as write_behind:
            for rows, batch in denoise(denoiser, images, batch_size, device):
                write_behind(rows, batch)
        file["index"] = index
        file["label"] = label
