"""From files to a trained denoiser's files: what the workflow's two rules for denoisers share."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from perturbflow.denoisers import build_denoiser, save_denoiser
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import open_images, sha256, whole_file
from perturbflow.training import DENOISER_HISTORY, DenoiserLoss, Resumable, train_denoiser


def train_denoiser_to_files(
    data: str,
    adversarial: Mapping[str, str],
    checkpoint: str,
    history: str,
    settings: Mapping[str, Any],
    seed: int,
    code: Mapping[str, str],
    device: torch.device,
    loss_of: DenoiserLoss,
    compiled: bool,
    **digests: str,
) -> None:
    """Train a denoiser and write its checkpoint and history, going on from `resume.pt` where a killed job left one.

    data: file of the clean images. adversarial: file of each set of the mix. settings: the config of the denoiser.
    code: digests of the code, which the training depends on as on its settings. digests: of further inputs.
    """
    torch.manual_seed(seed)
    denoiser = build_denoiser(settings["architecture"], settings["width"], settings["residual"], settings["options"])
    denoiser = denoiser.to(device).to(memory_format=torch.channels_last)
    provenance = artifact_attributes(
        settings,
        seed=str(seed),
        train_sha256=sha256(data),
        adversarial_sha256=json.dumps({name: sha256(path) for name, path in adversarial.items()}),
        **digests,
    )
    fingerprint = {**provenance, "git_commit": "", "code": dict(code)}
    resumable = Resumable(Path(checkpoint).with_name("resume.pt"), json.dumps(fingerprint, sort_keys=True))
    rows = train_denoiser(
        denoiser,
        open_images(data),
        {name: open_images(path) for name, path in adversarial.items()},
        settings,
        seed,
        device,
        resumable,
        after_epoch=lambda rows: logging.info("%s", rows[-1]),
        loss_of=loss_of,
        compiled=compiled,
    )
    pd.DataFrame(rows, columns=DENOISER_HISTORY).to_csv(history, index=False)
    with whole_file(checkpoint) as temporary:
        described = {key: settings[key] for key in ("architecture", "width", "residual", "options")}
        save_denoiser(temporary, denoiser, {**described, **provenance})
    resumable.discard()
