"""Mean squared error of one adversarial set against the clean images, raw and denoised, on both splits."""

from itertools import product

import pandas as pd

from perturbflow.files.images import open_images, read_columns
from perturbflow.machine.job import run_job
from perturbflow.measuring.mse import mean_squared_errors


def main() -> None:
    splits = snakemake.params.splits
    clean = {split: open_images(path) for split, path in zip(splits, snakemake.input.data, strict=True)}
    summaries, per_image = [], []
    files = product(snakemake.params.conditions, splits)
    for (denoiser, split), path in zip(files, snakemake.input.images, strict=True):
        errors = mean_squared_errors(open_images(path), clean[split])
        summaries.append(
            {
                **dict(snakemake.wildcards.items()),
                "denoiser": denoiser,
                "split": split,
                "mse_px2": errors.mean(),
                "n_images": len(errors),
            }
        )
        (index,) = read_columns(path, "index")
        per_image.append(pd.DataFrame({"denoiser": denoiser, "split": split, "index": index, "mse_px2": errors}))
    pd.DataFrame(summaries).to_csv(snakemake.output.summary, index=False)
    # A gzip header without a time, so that the same values make the same file.
    compression = {"method": "gzip", "mtime": 0}
    pd.concat(per_image).to_csv(snakemake.output.images, index=False, compression=compression)


run_job(main, snakemake.log[0])
