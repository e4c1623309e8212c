"""Read the source's images: source -> data/train.h5 and data/val.h5."""

from perturbflow.data.decoding import decode_to_file
from perturbflow.data.sources import list_splits
from perturbflow.files.provenance import artifact_attributes
from perturbflow.machine.job import run_job


def main() -> None:
    # The params, which decide over a rerun, leave out where the data lie; the source needs it.
    data, seed = snakemake.config["data"], snakemake.params.seed
    attributes = artifact_attributes({"data": snakemake.params.data, "seed": seed})
    for split, images in list_splits(data, seed).items():
        decode_to_file(snakemake.output[split], attributes, images, data["image_size"], snakemake.threads, split)


run_job(main, snakemake.log[0])
