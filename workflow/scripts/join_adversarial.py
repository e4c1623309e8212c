"""Join the shards of both splits of an adversarial set: shards + data -> adversarial set."""

from perturbflow.files.shards import join_set
from perturbflow.machine.job import run_job


def main() -> None:
    for split, path in snakemake.output.items():
        join_set(list(snakemake.input[split]), path, snakemake.input[f"data_{split}"], "data")


run_job(main, snakemake.log[0])
