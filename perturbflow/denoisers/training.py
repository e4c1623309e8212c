"""Training of denoisers (Section 2.3 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perturbflow.files.images import Array, Images
from perturbflow.machine.batches import pixels_of, ready_for
from perturbflow.machine.devices import mixed_precision, select_precision
from perturbflow.machine.prefetch import ahead
from perturbflow.machine.processes import ALONE, Processes
from perturbflow.training import (
    Resumable,
    Row,
    Steps,
    compiled_network,
    count_batches,
    finite_mean,
    shuffled_batches,
    train_in_stages,
)

DENOISER_HISTORY = ("stage", "epoch", "learning_rate", "train_loss", "train_mse_px2", "seconds")
"""Columns of the histories, which a training of no epoch has as well."""


def assign_sets(n_images: int, mix: Mapping[str, float], generator: torch.Generator) -> Tensor:
    """For each place in a batch the number of the set that its image comes from, in the proportions of `mix`.

    The proportions are met in every batch up to one image, and exactly in the mean: the places are cut at
    offset + cumulative share, with a random offset, and shuffled. int64 (n_images,).
    """
    shares = torch.tensor(list(mix.values()), dtype=torch.float64).cumsum(0)
    places = torch.arange(n_images, dtype=torch.float64)
    offset = torch.rand(1, generator=generator, dtype=torch.float64)
    numbers = torch.searchsorted(shares / shares[-1], (places + offset) / n_images, right=True)
    return numbers.clamp_(max=len(mix) - 1)[torch.randperm(n_images, generator=generator)]


def _mixed_batches(
    n_images: int, batch_size: int, mix: Mapping[str, float], generator: torch.Generator, processes: Processes
) -> Iterator[tuple[Array, Array]]:
    """The rows of this process's share of each batch of an epoch, and the number of the set that each comes from."""
    for rows in shuffled_batches(n_images, batch_size, generator):
        yield processes.share(rows).numpy(), processes.share(assign_sets(len(rows), mix, generator)).numpy()


DenoiserLoss = Callable[[Tensor, Tensor], Tensor]
"""Loss of a batch from the denoised and the clean pixels, (B, 3, H, W) float32 each, 0..255."""


def train_denoiser(
    denoiser: nn.Module,
    clean: Images,
    adversarial: Mapping[str, Images],
    settings: Mapping[str, Any],
    seed: int,
    device: torch.device,
    resumable: Resumable,
    after_epoch: Callable[[list[Row]], None] = lambda history: None,
    loss_of: DenoiserLoss = F.mse_loss,
    compiled: bool = False,
    processes: Processes = ALONE,
) -> list[Row]:
    """Train as Section 2.3 of the paper: sets mixed in each batch, by default mean squared error against the clean
    image.

    clean: uint8 (N, H, W, 3). adversarial: for each set of `settings["mix"]` float32 (N, H, W, 3), row by row the
    adversary of the same clean image. A thread reads from both what the next batches need. settings: the config of
    the denoiser; its stages follow each other, each with an optimizer of its own. loss_of: a mean over the batch.
    compiled: let torch.compile make the denoiser's passes. processes: as for `train_classifier`. Returns the history, a
    row an epoch: stage, epoch, learning_rate, train_loss (in the loss's own unit), train_mse_px2 (pixels squared) and
    seconds.
    """
    precision = select_precision(settings["precision"], device)
    mix = settings["mix"]
    sets = [adversarial[name] for name in mix]
    forward = processes.replicated(compiled_network(denoiser) if compiled else denoiser)
    n_batches = count_batches(len(clean), settings["batch_size"])

    def load(batch: tuple[Array, Array]) -> tuple[Tensor, Tensor]:
        rows, origin = batch
        attacked = np.empty((len(rows), *clean.shape[1:]), dtype=np.float32)
        for number, images in enumerate(sets):
            attacked[origin == number] = images[rows[origin == number]]
        return ready_for(device, attacked), ready_for(device, clean[rows])

    def run_epoch(generator: torch.Generator, steps: Steps) -> Row:
        loss_sum = torch.zeros((), device=device)
        squared_error_sum = torch.zeros((), device=device)
        batches = _mixed_batches(len(clean), settings["batch_size"], mix, generator, processes)
        for attacked, originals in ahead(load, batches):
            with mixed_precision(precision, device):
                denoised = forward(pixels_of(attacked, device)).float()
            expected = pixels_of(originals, device)
            loss = loss_of(denoised, expected)
            steps.down(loss)
            loss_sum += loss.detach()
            squared_error_sum += F.mse_loss(denoised.detach(), expected)
        processes.agree_on_buffers(denoiser)
        loss_sum, squared_error_sum = processes.mean(loss_sum, squared_error_sum)
        return {"train_loss": finite_mean(loss_sum / n_batches), "train_mse_px2": float(squared_error_sum / n_batches)}

    return train_in_stages(
        denoiser, settings["stages"], n_batches, run_epoch, lambda row: False, seed, resumable, after_epoch, processes
    )
