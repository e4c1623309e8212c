"""Denoise both splits of one adversarial set: adversarial set + denoiser -> denoised set."""

from perturbflow.logs import run_job

from perturbflow.compute import prepare
from perturbflow.denoisers import load_denoiser
from perturbflow.denoising_job import denoise_to_file
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import sha256


def main() -> None:
    compute = snakemake.config["compute"]
    device = prepare(compute["device"], snakemake.threads)
    denoiser = load_denoiser(snakemake.input.denoiser, device)
    denoiser_sha256 = sha256(snakemake.input.denoiser)
    for split, path in snakemake.output.items():
        adversarial = snakemake.input[split]
        attributes = artifact_attributes(
            dict(snakemake.wildcards.items(), split=split),
            adversarial_sha256=sha256(adversarial),
            denoiser_sha256=denoiser_sha256,
        )
        denoise_to_file(denoiser, adversarial, path, compute["batch_size"], device, attributes)


run_job(main, snakemake.log[0])
