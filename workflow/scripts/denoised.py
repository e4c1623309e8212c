"""Denoise an adversarial set, both splits or the rows of a shard: adversarial set + denoiser -> denoised set."""

from perturbflow.denoisers.denoised_set import DenoisingJob, denoise_to_files
from perturbflow.machine.job import run_job


def main() -> None:
    inputs, outputs, split = snakemake.input, snakemake.output, snakemake.wildcards.get("split")
    denoise_to_files(
        DenoisingJob(
            denoiser=snakemake.wildcards.denoiser,
            adversarial_set=snakemake.wildcards.adversarial_set,
            checkpoint=inputs.denoiser,
            # A shard is of one split.
            adversarial={split: inputs.adversarial} if split else {name: inputs[name] for name, _ in outputs.items()},
            denoised={split: outputs[0]} if split else dict(outputs.items()),
            rows=snakemake.params.get("rows"),
        ),
        snakemake.config["compute"],
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
