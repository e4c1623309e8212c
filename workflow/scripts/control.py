"""Noise of the size of an adversarial set's perturbations: data + adversarial set -> control."""

from perturbflow.attacks.noise import control_to_file
from perturbflow.machine.job import run_job


def main() -> None:
    control_to_file(
        snakemake.input.data,
        snakemake.input.adversarial,
        snakemake.output[0],
        snakemake.params.adversarial_set,
        snakemake.params.seed,
        snakemake.wildcards.split,
    )


run_job(main, snakemake.log[0])
