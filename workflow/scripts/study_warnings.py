"""Write what is to be minded of a study: accuracies, attacks, distances, files left out -> warnings."""

from perturbflow.machine.job import run_job
from perturbflow.results.warnings import write_warnings


def main() -> None:
    write_warnings(snakemake.output[0], snakemake.params.targets, **dict(snakemake.input.items()))


run_job(main, snakemake.log[0])
