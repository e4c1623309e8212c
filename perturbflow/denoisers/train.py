"""From files to a trained denoiser's files: what the workflow's two rules for denoisers share."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F

from perturbflow.denoisers.networks import build_denoiser, save_denoiser
from perturbflow.denoisers.training import DENOISER_HISTORY, DenoiserLoss, train_denoiser
from perturbflow.files.images import open_images
from perturbflow.files.provenance import artifact_attributes, fingerprint
from perturbflow.files.whole import sha256, whole_file
from perturbflow.machine.processes import Processes, check_shares, run_on_devices
from perturbflow.results.writing import write_csv
from perturbflow.training import Resumable

logger = logging.getLogger(__name__)

LossOnDevice = Callable[[torch.device], DenoiserLoss]
"""Makes the loss on the device where it is computed; something that can be imported or pickled."""


def squared_error(device: torch.device) -> DenoiserLoss:
    """The mean squared error, on any device."""
    return F.mse_loss


@dataclass(frozen=True)
class DenoiserTraining:
    """A training of a denoiser: what it reads, what it writes, and what it depends on.

    name: of the denoiser. data: file of the clean images, None where nothing is trained. adversarial: file of each set
    of the mix. checkpoint, history: files to write. settings: the config of the denoiser. seed: of the study. code:
    digests of the code, which the training depends on as on its settings. compute: the config's `compute`.
    """

    name: str
    data: str | None
    adversarial: Mapping[str, str]
    checkpoint: str
    history: str
    settings: Mapping[str, Any]
    seed: int
    code: Mapping[str, str]
    compute: Mapping[str, Any]


def train_denoiser_to_files(
    training: DenoiserTraining, n_gpus: int, threads: int, loss_on: LossOnDevice = squared_error, **digests: str
) -> None:
    """Train a denoiser and write its checkpoint and history, going on from `resume.pt` where a killed job left one.

    n_gpus: GPUs that train together, or processes on a CPU; 0 is one process. threads: of all processes. loss_on: makes
    the loss. digests: of further inputs.
    Raises ValueError where the devices cannot share a batch.
    """
    n_devices = max(1, n_gpus)
    if training.data:
        n_images = len(open_images(training.data))
        check_shares(f"denoisers.{training.name}.batch_size", training.settings["batch_size"], n_images, n_devices)
        digests |= {
            "train_sha256": sha256(training.data),
            "adversarial_sha256": json.dumps({name: sha256(path) for name, path in training.adversarial.items()}),
        }
    provenance = artifact_attributes(training.settings, seed=str(training.seed), **digests)
    run_on_devices(_train, training.compute["device"], n_devices, threads, training, provenance, loss_on)


def _train(
    training: DenoiserTraining,
    provenance: Mapping[str, str],
    loss_on: LossOnDevice,
    device: torch.device,
    processes: Processes,
) -> None:
    """What each process does."""
    settings = training.settings
    description = {key: settings[key] for key in ("architecture", "width", "residual", "options")}
    loss_of = loss_on(device)
    torch.manual_seed(training.seed)
    denoiser = build_denoiser(**description).to(device).to(memory_format=torch.channels_last)
    resumable = Resumable(Path(training.checkpoint).with_name("resume.pt"), fingerprint(provenance, training.code))
    rows: list[dict[str, Any]] = []
    if training.data:
        rows = train_denoiser(
            denoiser,
            open_images(training.data),
            {name: open_images(path) for name, path in training.adversarial.items()},
            settings,
            training.seed,
            device,
            resumable,
            after_epoch=lambda rows: logger.info("%s", rows[-1]),
            loss_of=loss_of,
            compiled=training.compute["compile"],
            processes=processes,
        )
    if not processes.is_first:
        return
    write_csv(pd.DataFrame(rows, columns=DENOISER_HISTORY), training.history)
    with whole_file(training.checkpoint) as temporary:
        save_denoiser(temporary, denoiser, {**description, **provenance})
    resumable.discard()
