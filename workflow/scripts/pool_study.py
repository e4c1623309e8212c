"""The classifiers' accuracies on clean images and the sets' mean squared errors, over all replicates."""

from functools import partial

from perturbflow.machine.job import run_job
from perturbflow.results.pooling import pool_accuracies, pool_errors, pool_to_files


def main() -> None:
    clean = partial(pool_accuracies, keys=["classifier", "split"])
    pool_to_files(clean, snakemake.output.accuracy, snakemake.input.accuracy)
    pool_to_files(pool_errors, snakemake.output.mse, snakemake.input.mse, snakemake.input.mse_images)


run_job(main, snakemake.log[0])
