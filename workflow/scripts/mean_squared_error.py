"""Mean squared error of one adversarial set against the clean images, raw and denoised, on both splits."""

from itertools import product

import pandas as pd

from perturbflow.errors import mean_squared_error
from perturbflow.logs import log_to
from perturbflow.storage import map_images


def main() -> None:
    splits = snakemake.params.splits
    clean = {split: map_images(path) for split, path in zip(splits, snakemake.input.data, strict=True)}
    rows = []
    versions = product(snakemake.params.conditions, splits)
    for (denoiser, split), path in zip(versions, snakemake.input.versions, strict=True):
        rows.append(
            {
                **dict(snakemake.wildcards.items()),
                "denoiser": denoiser,
                "split": split,
                "mse_px2": mean_squared_error(map_images(path), clean[split]),
                "n_images": len(clean[split]),
            }
        )
    pd.DataFrame(rows).to_csv(snakemake.output[0], index=False)


with log_to(snakemake.log[0]):
    main()
