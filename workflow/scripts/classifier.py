"""Train a classifier: data -> checkpoint, training history, accuracy on the clean images."""

from perturbflow.classifiers.train import ClassifierTraining, train_classifier_to_files
from perturbflow.classifiers.weight_paths import resolve_weights
from perturbflow.machine.job import run_job


def main() -> None:
    # The params, which decide over a rerun, leave out where files lie.
    settings = snakemake.config["classifiers"][snakemake.wildcards.classifier]
    train_classifier_to_files(
        ClassifierTraining(
            name=snakemake.wildcards.classifier,
            data=dict(zip(snakemake.params.splits, snakemake.input.data, strict=True)),
            weights=resolve_weights(settings["weights"]),
            checkpoint=snakemake.output.checkpoint,
            history=snakemake.output.history,
            accuracy=snakemake.output.accuracy,
            settings=settings,
            seed=snakemake.params.seed,
            code=snakemake.params.code,
            compute=snakemake.config["compute"],
            job_mb=snakemake.resources.get("mem_mb"),
        ),
        snakemake.resources.get("gpu", 0),
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
