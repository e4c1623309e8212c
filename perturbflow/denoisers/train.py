"""From files to a trained denoiser's files: what the workflow's two rules for denoisers share."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
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
from perturbflow.training import Resumable

logger = logging.getLogger(__name__)

LossOnDevice = Callable[[torch.device], DenoiserLoss]
"""Makes the loss on the device where it is computed; something that can be imported or pickled."""


def squared_error(device: torch.device) -> DenoiserLoss:
    """The mean squared error, on any device."""
    return F.mse_loss


def train_denoiser_to_files(
    name: str,
    data: str,
    adversarial: Mapping[str, str],
    checkpoint: str,
    history: str,
    settings: Mapping[str, Any],
    seed: int,
    code: Mapping[str, str],
    compute: Mapping[str, Any],
    n_gpus: int,
    threads: int,
    loss_on: LossOnDevice = squared_error,
    **digests: str,
) -> None:
    """Train a denoiser and write its checkpoint and history, going on from `resume.pt` where a killed job left one.

    name: of the denoiser. data: file of the clean images. adversarial: file of each set of the mix. checkpoint,
    history: what is written. settings: the config of the denoiser. code: digests of the code, which the training
    depends on as on its settings. compute: the config's `compute`. n_gpus: GPUs that train together, or processes on a
    CPU; 0 is one process. threads: of all processes. loss_on: makes the loss. digests: of further inputs.
    Raises ValueError where the devices cannot share a batch.
    """
    n_devices = max(1, n_gpus)
    check_shares(f"denoisers.{name}.batch_size", settings["batch_size"], len(open_images(data)), n_devices)
    provenance = artifact_attributes(
        settings,
        seed=str(seed),
        train_sha256=sha256(data),
        adversarial_sha256=json.dumps({name: sha256(path) for name, path in adversarial.items()}),
        **digests,
    )
    run_on_devices(
        _train,
        compute["device"],
        n_devices,
        threads,
        data,
        dict(adversarial),
        checkpoint,
        history,
        dict(settings),
        seed,
        provenance,
        fingerprint(provenance, code),
        loss_on,
        compute["compile"],
    )


def _train(
    data: str,
    adversarial: Mapping[str, str],
    checkpoint: str,
    history: str,
    settings: Mapping[str, Any],
    seed: int,
    provenance: Mapping[str, str],
    resumes: str,
    loss_on: LossOnDevice,
    compiled: bool,
    device: torch.device,
    processes: Processes,
) -> None:
    """What each process does. resumes: the fingerprint of states to go on from."""
    loss_of = loss_on(device)
    torch.manual_seed(seed)
    denoiser = build_denoiser(settings["architecture"], settings["width"], settings["residual"], settings["options"])
    denoiser = denoiser.to(device).to(memory_format=torch.channels_last)
    resumable = Resumable(Path(checkpoint).with_name("resume.pt"), resumes)
    rows = train_denoiser(
        denoiser,
        open_images(data),
        {name: open_images(path) for name, path in adversarial.items()},
        settings,
        seed,
        device,
        resumable,
        after_epoch=lambda rows: logger.info("%s", rows[-1]),
        loss_of=loss_of,
        compiled=compiled,
        processes=processes,
    )
    if not processes.is_first:
        return
    pd.DataFrame(rows, columns=DENOISER_HISTORY).to_csv(history, index=False)
    with whole_file(checkpoint) as temporary:
        described = {key: settings[key] for key in ("architecture", "width", "residual", "options")}
        save_denoiser(temporary, denoiser, {**described, **provenance})
    resumable.discard()
