"""From files to a trained guided denoiser's files."""

from __future__ import annotations

from functools import partial

from perturbflow.denoisers.guided_loss import loss_of_guide
from perturbflow.denoisers.train import DenoiserTraining, train_denoiser_to_files
from perturbflow.files.whole import sha256


def train_guided_denoiser_to_files(training: DenoiserTraining, guide: str, n_gpus: int, threads: int) -> None:
    """As `train_denoiser_to_files`, with the loss on what a classifier makes of the images. guide: its checkpoint."""
    loss_on = partial(loss_of_guide, guide, training.settings["loss"])
    train_denoiser_to_files(training, n_gpus, threads, loss_on, guide_sha256=sha256(guide))
