"""Write a table: inputs and params are named as the arguments of the table's function, the table by its import path."""

from perturbflow.machine.import_paths import load_object
from perturbflow.machine.job import run_job
from perturbflow.results.warnings import find_warnings
from perturbflow.tables.table import write_table


def main() -> None:
    inputs, settings = dict(snakemake.input.items()), dict(snakemake.params.items())
    table, labels, targets = (settings.pop(name) for name in ("table", "labels", "targets"))
    del settings["replicates"], settings["code"]  # which decide over a rerun alone
    warned_of = {name.removeprefix("warned_"): inputs.pop(name) for name in [*inputs] if name.startswith("warned_")}
    write_table(
        load_object(table),
        inputs,
        settings,
        labels,
        snakemake.output.csv,
        snakemake.output.markdown,
        find_warnings(targets, **warned_of),
    )


run_job(main, snakemake.log[0])
