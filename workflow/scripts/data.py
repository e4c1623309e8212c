"""Read the source's images: source -> data/train.h5 and data/val.h5."""

from perturbflow.logs import run_job

from perturbflow.data import decode, list_splits
from perturbflow.provenance import artifact_attributes
from perturbflow.storage import write_split


def main() -> None:
    # The params, which decide over a rerun, leave out where the data lie; the source needs it.
    data, seed = snakemake.config["data"], snakemake.params.seed
    attributes = artifact_attributes({"data": snakemake.params.data, "seed": seed})
    for split, images in list_splits(data, seed).items():
        decoded = decode(images, data["image_size"], snakemake.threads, description=split)
        write_split(snakemake.output[split], decoded, attributes)


run_job(main, snakemake.log[0])
