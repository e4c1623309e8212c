"""Train a denoiser: clean images + the adversarial sets of the training split, mixed -> checkpoint, history."""

from perturbflow.denoisers.train import train_denoiser_to_files
from perturbflow.machine.job import run_job


def main() -> None:
    settings = snakemake.params.denoiser
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
    )


run_job(main, snakemake.log[0])
