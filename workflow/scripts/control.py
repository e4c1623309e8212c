"""Noise of the size of an adversarial set's perturbations, in both splits: data + adversarial set -> control."""

from perturbflow.attacks.noise import control_to_file
from perturbflow.machine.job import run_job


def main() -> None:
    for split, path in snakemake.output.items():
        control_to_file(
            snakemake.input[split],
            snakemake.input[f"adversarial_{split}"],
            path,
            snakemake.params.adversarial_set,
            snakemake.params.seed,
            split,
        )


run_job(main, snakemake.log[0])
