"""From an adversarial set's file to a denoised set's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from perturbflow.denoisers.networks import load_denoiser
from perturbflow.files.images import Images, Subset, checked_rows, open_images, read_columns
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.sets import SET_COLUMNS, set_writer
from perturbflow.files.whole import sha256
from perturbflow.machine.batches import batches_of
from perturbflow.machine.devices import prepare
from perturbflow.machine.prefetch import behind


@dataclass(frozen=True)
class DenoisingJob:
    """A denoised set to be made, or the rows of a shard of one of its splits.

    denoiser, adversarial_set: their names. checkpoint: of the denoiser. adversarial, denoised: by split, the file of
    the adversarial set and the file to write. rows: of a shard, which lacks `adversarial_sha256`: that is for
    `join_shards`, as each shard would have to read the whole set for it.
    """

    denoiser: str
    adversarial_set: str
    checkpoint: str
    adversarial: Mapping[str, str]
    denoised: Mapping[str, str]
    rows: range | None = None


def denoise_to_files(job: DenoisingJob, compute: Mapping[str, Any], threads: int) -> None:
    """Write the denoised set, split by split. compute: the config's `compute`."""
    device = prepare(compute["device"], threads)
    denoiser = load_denoiser(job.checkpoint, device)
    denoiser_sha256 = sha256(job.checkpoint)
    for split, adversarial in job.adversarial.items():
        attributes = artifact_attributes(
            {"denoiser": job.denoiser, "adversarial_set": job.adversarial_set, "split": split},
            denoiser_sha256=denoiser_sha256,
            **({"adversarial_sha256": sha256(adversarial)} if job.rows is None else {}),
        )
        denoise_to_file(denoiser, adversarial, job.denoised[split], compute["batch_size"], device, attributes, job.rows)


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
    columns = {name: read_columns(adversarial, name)[0][taken] for name in SET_COLUMNS}
    if rows is not None:
        images = Subset(images, np.arange(rows.start, rows.stop))

    def write(positions: slice, batch: Tensor) -> None:
        denoised[positions] = batch.cpu().numpy()
        progress.update(len(batch))

    with (
        set_writer(output, images.shape[1:], columns, attributes) as denoised,
        tqdm(total=len(images), unit="image") as progress,
        behind(write) as write_behind,
    ):
        for positions, batch in denoise(denoiser, images, batch_size, device):
            write_behind(positions, batch)


@torch.no_grad()
def denoise(
    denoiser: nn.Module, images: Images, batch_size: int, device: torch.device
) -> Iterator[tuple[slice, Tensor]]:
    """Denoised (B, H, W, 3) float32 batches on the device, clipped to 0..255, each with its rows."""
    for rows, batch in batches_of(images, batch_size, device):
        yield rows, denoiser(batch).clamp(0, 255).permute(0, 2, 3, 1)
