"""Train a guided denoiser: as denoiser.py, with the loss on what a classifier makes of the images."""

from functools import partial

from perturbflow.denoisers.guided_loss import loss_of_guide
from perturbflow.denoisers.train import train_denoiser_to_files
from perturbflow.files.whole import sha256
from perturbflow.machine.job import run_job


def main() -> None:
    settings, guide = snakemake.params.denoiser, snakemake.input.guide
    train_denoiser_to_files(
        snakemake.wildcards.denoiser,
        snakemake.input.data,
        dict(zip(settings["mix"], snakemake.input.adversarial, strict=True)),
        snakemake.output.checkpoint,
        snakemake.output.history,
        settings,
        snakemake.params.seed,
        snakemake.params.code,
        snakemake.config["compute"],
        snakemake.resources.get("gpu", 0),
        snakemake.threads,
        loss_on=partial(loss_of_guide, guide, settings["loss"]),
        guide_sha256=sha256(guide),
    )


run_job(main, snakemake.log[0])
