"""Write a table: inputs and params are named as the arguments of the table's function, the table by its import path."""

from perturbflow.machine.import_paths import load_object
from perturbflow.machine.job import run_job
from perturbflow.tables.table import write_table


def main() -> None:
    settings = dict(snakemake.params.items())
    table, labels, _ = (settings.pop(name) for name in ("table", "labels", "code"))
    write_table(
        load_object(table),
        dict(snakemake.input.items()),
        settings,
        labels,
        snakemake.output.csv,
        snakemake.output.markdown,
    )


run_job(main, snakemake.log[0])
