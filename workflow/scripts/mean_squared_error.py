"""Mean squared error of one adversarial set against the clean images, raw and denoised, and what came of the attack."""

from itertools import product

from perturbflow.machine.job import run_job
from perturbflow.measuring.mse import mean_squared_errors_to_files


def main() -> None:
    conditions, splits = snakemake.params.conditions, snakemake.params.splits
    mean_squared_errors_to_files(
        snakemake.wildcards.adversarial_set,
        dict(zip(product(conditions, splits), snakemake.input.images, strict=True)),
        dict(zip(splits, snakemake.input.data, strict=True)),
        snakemake.output.summary,
        snakemake.output.images,
        snakemake.output.attack,
    )


run_job(main, snakemake.log[0])
