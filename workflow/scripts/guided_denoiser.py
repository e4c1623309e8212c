"""Train a guided denoiser: as denoiser.py, with the loss on what a classifier makes of the images."""

from perturbflow.denoisers.guided_train import train_guided_denoiser_to_files
from perturbflow.denoisers.train import DenoiserTraining
from perturbflow.machine.job import run_job


def main() -> None:
    settings = snakemake.params.denoiser
    train_guided_denoiser_to_files(
        DenoiserTraining(
            name=snakemake.wildcards.denoiser,
            data=next(iter(snakemake.input.data), None),
            # Without stages there are none.
            adversarial=dict(zip(settings["mix"], snakemake.input.adversarial, strict=False)),
            checkpoint=snakemake.output.checkpoint,
            history=snakemake.output.history,
            settings=settings,
            seed=snakemake.params.seed,
            code=snakemake.params.code,
            compute=snakemake.config["compute"],
        ),
        snakemake.input.guide,
        snakemake.resources.get("gpu", 0),
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
