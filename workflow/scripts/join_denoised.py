"""Join the shards of both splits of a denoised set: shards + adversarial set -> denoised set."""

from perturbflow.files.images import join_shards, open_images, sha256
from perturbflow.machine.job import run_job
from perturbflow.planning.shards import remove_other_shards


def main() -> None:
    for split, path in snakemake.output.items():
        adversarial, shards = snakemake.input[f"adversarial_{split}"], list(snakemake.input[split])
        join_shards(shards, path, len(open_images(adversarial)), {"adversarial_sha256": sha256(adversarial)})
        remove_other_shards(shards)


run_job(main, snakemake.log[0])
