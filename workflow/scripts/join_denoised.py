"""Join the shards of both splits of a denoised set: shards + adversarial set -> denoised set."""

from perturbflow.logs import run_job

from perturbflow.shards import remove_other_shards
from perturbflow.storage import join_shards, open_images, sha256


def main() -> None:
    for split, path in snakemake.output.items():
        adversarial, shards = snakemake.input[f"adversarial_{split}"], list(snakemake.input[split])
        join_shards(shards, path, len(open_images(adversarial)), {"adversarial_sha256": sha256(adversarial)})
        remove_other_shards(shards)


run_job(main, snakemake.log[0])
