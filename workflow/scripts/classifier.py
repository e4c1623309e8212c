"""Train a classifier: data -> checkpoint, training history, accuracy on the clean images."""

from perturbflow.classifiers.train import train_classifier_to_files
from perturbflow.machine.job import run_job


def main() -> None:
    inputs, outputs = snakemake.input, snakemake.output
    train_classifier_to_files(
        snakemake.wildcards.classifier,
        {"train": inputs.train, "val": inputs.val, **({"weights": inputs.weights} if inputs.weights else {})},
        {"checkpoint": outputs.checkpoint, "history": outputs.history, "accuracy": outputs.accuracy},
        snakemake.params.classifier,
        snakemake.params.seed,
        snakemake.params.code,
        snakemake.config["compute"],
        snakemake.resources.get("gpu", 0),
        snakemake.threads,
        snakemake.resources.get("mem_mb"),
    )


run_job(main, snakemake.log[0])
