"""Let passes of one classifier go on from changed feature maps, for one adversarial set, raw and denoised."""

from perturbflow.machine.job import run_job
from perturbflow.measuring.intervene import InterventionJob, intervene_to_files


def main() -> None:
    intervene_to_files(
        InterventionJob(
            classifier=snakemake.wildcards.classifier,
            adversarial_set=snakemake.wildcards.adversarial_set,
            checkpoint=snakemake.input.classifier,
            data=snakemake.input.data,
            conditions=dict(zip(snakemake.params.conditions, snakemake.input.images, strict=True)),
            settings=snakemake.params.interventions,
            seed=snakemake.params.seed,
            summary=snakemake.output.summary,
            per_image=snakemake.output.images,
        ),
        snakemake.config["compute"],
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
