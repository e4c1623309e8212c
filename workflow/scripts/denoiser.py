"""Train a denoiser: clean images + the adversarial sets of the training split, mixed -> checkpoint, history."""

from perturbflow.logs import run_job

import torch.nn.functional as F

from perturbflow.compute import prepare
from perturbflow.denoiser_job import train_denoiser_to_files


def main() -> None:
    compute, settings = snakemake.config["compute"], snakemake.params.denoiser
    train_denoiser_to_files(
        snakemake.input.data,
        dict(zip(settings["mix"], snakemake.input.adversarial, strict=True)),
        snakemake.output.checkpoint,
        snakemake.output.history,
        settings,
        snakemake.params.seed,
        snakemake.params.code,
        prepare(compute["device"], snakemake.threads),
        loss_of=F.mse_loss,
        compiled=compute["compile"],
    )


run_job(main, snakemake.log[0])
