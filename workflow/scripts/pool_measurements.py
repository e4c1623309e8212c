"""What was measured of one classifier, over all replicates: accuracies and distances."""

from perturbflow.machine.job import run_job
from perturbflow.results.pooling import pool_accuracies, pool_distances, pool_to_files


def main() -> None:
    inputs, outputs = snakemake.input, snakemake.output
    pool_to_files(pool_accuracies, outputs.accuracy, inputs.accuracy)
    pool_to_files(pool_distances, outputs.distances, inputs.distances, inputs.distances_images)


run_job(main, snakemake.log[0])
