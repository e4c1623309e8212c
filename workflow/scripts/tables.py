"""Write one of the paper's tables; the rule names its inputs and params as the table's function does."""

from pathlib import Path

from perturbflow.machine.job import run_job
from perturbflow.tables.registry import write_table
from perturbflow.tables.rows import TABLES


def main() -> None:
    write_table(
        TABLES[Path(snakemake.output.csv).stem],
        dict(snakemake.input.items()),
        dict(snakemake.params.items()),
        snakemake.output.csv,
        snakemake.output.markdown,
    )


run_job(main, snakemake.log[0])
