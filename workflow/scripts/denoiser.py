"""Train a denoiser: clean images + the adversarial sets of the training split, mixed -> checkpoint, history."""

import json
import logging
from pathlib import Path

import pandas as pd
import torch

from perturbflow.compute import prepare
from perturbflow.denoisers import build_denoiser, save_denoiser
from perturbflow.logs import log_to
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import map_images, sha256, whole_file
from perturbflow.training import Resumable, train_denoiser


def main() -> None:
    device = prepare(snakemake.config["compute"]["device"], snakemake.threads)
    settings, seed = snakemake.params.denoiser, snakemake.params.seed
    adversarial = {
        name: map_images(path) for name, path in zip(settings["mix"], snakemake.input.adversarial, strict=True)
    }

    torch.manual_seed(seed)
    denoiser = build_denoiser(settings["architecture"], settings["width"], settings["residual"])
    denoiser = denoiser.to(device).to(memory_format=torch.channels_last)
    digests = {name: sha256(path) for name, path in zip(settings["mix"], snakemake.input.adversarial, strict=True)}
    provenance = artifact_attributes(
        settings,
        seed=str(seed),
        train_sha256=sha256(snakemake.input.data),
        adversarial_sha256=json.dumps(digests),
    )
    fingerprint = {**provenance, "git_commit": "", "code": dict(snakemake.params.code)}
    resumable = Resumable(
        Path(snakemake.output.checkpoint).with_name("resume.pt"), json.dumps(fingerprint, sort_keys=True)
    )
    history = train_denoiser(
        denoiser,
        map_images(snakemake.input.data),
        adversarial,
        settings,
        seed,
        device,
        resumable,
        after_epoch=lambda history: logging.info("%s", history[-1]),
    )
    pd.DataFrame(history).to_csv(snakemake.output.history, index=False)
    with whole_file(snakemake.output.checkpoint) as temporary:
        save_denoiser(
            temporary,
            denoiser,
            {
                "architecture": settings["architecture"],
                "width": settings["width"],
                "residual": settings["residual"],
                **provenance,
            },
        )
    resumable.discard()


with log_to(snakemake.log[0]):
    main()
