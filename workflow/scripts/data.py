"""Read the source's images: source -> data/<split>.h5 and data/left_out.csv."""

from perturbflow.data.decoding import decode_splits_to_files
from perturbflow.machine.job import run_job


def main() -> None:
    files = dict(snakemake.output.items())
    decode_splits_to_files(
        files,
        files.pop("left_out"),
        # The params, which decide over a rerun, leave out where the data lie; the source needs it.
        snakemake.config["data"],
        snakemake.params.seed,
        snakemake.params.data,
        snakemake.params.source_fingerprint,
        snakemake.threads,
    )


run_job(main, snakemake.log[0])
