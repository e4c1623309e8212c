"""Train a denoiser: clean images + the adversarial sets of the training split, mixed -> checkpoint, history."""

from perturbflow.denoisers.train import DenoiserTraining, train_denoiser_to_files
from perturbflow.machine.job import run_job


def main() -> None:
    settings = snakemake.params.denoiser
    train_denoiser_to_files(
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
        snakemake.resources.get("gpu", 0),
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
