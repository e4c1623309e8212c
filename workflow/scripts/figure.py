"""Draw a figure: inputs and settings are named as the arguments of its function, that by its import path."""

from perturbflow.figures.figure import write_figure
from perturbflow.machine.import_paths import load_object
from perturbflow.machine.job import run_job


def main() -> None:
    write_figure(
        load_object(snakemake.params.figure),
        dict(snakemake.input.items()),
        snakemake.params.settings,
        snakemake.params.labels,
        dict(snakemake.output.items()),
    )


run_job(main, snakemake.log[0])
