"""Denoise an adversarial set, both splits or the rows of a shard: adversarial set + denoiser -> denoised set."""

from perturbflow.denoisers.denoised_set import denoise_to_file
from perturbflow.denoisers.networks import load_denoiser
from perturbflow.files.provenance import artifact_attributes
from perturbflow.files.whole import sha256
from perturbflow.machine.devices import prepare
from perturbflow.machine.job import run_job


def main() -> None:
    compute, wildcards, rows = snakemake.config["compute"], snakemake.wildcards, snakemake.params.get("rows")
    device = prepare(compute["device"], snakemake.threads)
    denoiser = load_denoiser(snakemake.input.denoiser, device)
    denoiser_sha256 = sha256(snakemake.input.denoiser)
    if rows is None:
        files = {split: (snakemake.input[split], path) for split, path in snakemake.output.items()}
    else:
        files = {wildcards.split: (snakemake.input.adversarial, snakemake.output[0])}
    for split, (adversarial, path) in files.items():
        attributes = artifact_attributes(
            {"denoiser": wildcards.denoiser, "adversarial_set": wildcards.adversarial_set, "split": split},
            denoiser_sha256=denoiser_sha256,
            # A shard would have to read the whole set for it; it is added when shards are joined.
            **({"adversarial_sha256": sha256(adversarial)} if rows is None else {}),
        )
        denoise_to_file(denoiser, adversarial, path, compute["batch_size"], device, attributes, rows)


run_job(main, snakemake.log[0])
