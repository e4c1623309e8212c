"""Train a guided denoiser: as denoiser.py, with the loss on what a classifier makes of the images."""

from perturbflow.logs import run_job

from perturbflow.classifiers import load_classifier
from perturbflow.compute import prepare
from perturbflow.denoiser_job import train_denoiser_to_files
from perturbflow.guided import GuidedLoss
from perturbflow.storage import sha256


def main() -> None:
    compute, settings = snakemake.config["compute"], snakemake.params.denoiser
    device = prepare(compute["device"], snakemake.threads)
    train_denoiser_to_files(
        snakemake.input.data,
        dict(zip(settings["mix"], snakemake.input.adversarial, strict=True)),
        snakemake.output.checkpoint,
        snakemake.output.history,
        settings,
        snakemake.params.seed,
        snakemake.params.code,
        device,
        loss_of=GuidedLoss(load_classifier(snakemake.input.guide, device), settings["loss"]),
        compiled=compute["compile"],
        guide_sha256=sha256(snakemake.input.guide),
    )


run_job(main, snakemake.log[0])
