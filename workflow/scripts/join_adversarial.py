"""Join the shards of one split of an adversarial set: shards + data -> adversarial set."""

from perturbflow.files.images import open_images
from perturbflow.files.shards import join_shards, remove_other_shards
from perturbflow.files.whole import sha256
from perturbflow.machine.job import run_job


def main() -> None:
    data, shards = snakemake.input.data, list(snakemake.input.shards)
    join_shards(shards, snakemake.output[0], len(open_images(data)), {"data_sha256": sha256(data)})
    remove_other_shards(shards)


run_job(main, snakemake.log[0])
