"""Join the shards of one split of an adversarial set: shards + data -> adversarial set."""

from perturbflow.files.shards import join_set
from perturbflow.machine.job import run_job


def main() -> None:
    join_set(list(snakemake.input.shards), snakemake.output[0], snakemake.input.data, "data")


run_job(main, snakemake.log[0])
