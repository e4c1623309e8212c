"""Write a table: inputs and params are named as the arguments of the table's function, the table by its import path."""

from perturbflow.machine.import_paths import load_object
from perturbflow.machine.job import run_job
from perturbflow.tables.table import write_table


def main() -> None:
    write_table(
        load_object(snakemake.params.table),
        dict(snakemake.input.items()),
        dict(snakemake.params.items()),
        snakemake.output.csv,
        snakemake.output.markdown,
    )


run_job(main, snakemake.log[0])
