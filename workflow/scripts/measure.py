"""Measure one classifier on one adversarial set, raw and denoised: accuracy, and distances layer by layer."""

from itertools import product

from perturbflow.machine.job import run_job
from perturbflow.measuring.measure import MeasuringJob, measure_to_files


def main() -> None:
    files = product(snakemake.params.conditions, snakemake.params.splits)
    measure_to_files(
        MeasuringJob(
            classifier=snakemake.wildcards.classifier,
            adversarial_set=snakemake.wildcards.adversarial_set,
            checkpoint=snakemake.input.classifier,
            data=snakemake.input.data,
            conditions=dict(zip(files, snakemake.input.images, strict=True)),
            settings=snakemake.params.measure,
            seed=snakemake.params.seed,
            accuracy=snakemake.output.accuracy,
            distances=snakemake.output.distances,
            distances_images=snakemake.output.images,
            predictions=snakemake.output.predictions,
        ),
        snakemake.config["compute"],
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
