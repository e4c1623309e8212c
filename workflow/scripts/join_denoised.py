"""Join the shards of both splits of a denoised set: shards + adversarial set -> denoised set."""

from perturbflow.files.images import open_images
from perturbflow.files.shards import join_shards, remove_other_shards
from perturbflow.files.whole import sha256
from perturbflow.machine.job import run_job


def main() -> None:
    for split, path in snakemake.output.items():
        adversarial, shards = snakemake.input[f"adversarial_{split}"], list(snakemake.input[split])
        join_shards(shards, path, len(open_images(adversarial)), {"adversarial_sha256": sha256(adversarial)})
        remove_other_shards(shards)


run_job(main, snakemake.log[0])
