"""The interventions in one classifier, over all replicates."""

from perturbflow.machine.job import run_job
from perturbflow.results.pooling import pool_interventions, pool_to_files


def main() -> None:
    pool_to_files(pool_interventions, snakemake.output, snakemake.input.interventions, snakemake.input.images)


run_job(main, snakemake.log[0])
