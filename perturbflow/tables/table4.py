"""Table 4 of the paper: the error of each adversarial set, and what each denoiser leaves of it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perturbflow.tables.markdown import captioned_table, cells_beside_paper, note_of_intervals, three_significant
from perturbflow.tables.rows import SPLIT_WORDS, mse_row, paper_number, split_of, what_covers, with_bounds
from perturbflow.tables.table import Table
from perturbflow.vocabulary import RAW, Labels


def table4(
    mse: pd.DataFrame,
    paper: pd.DataFrame,
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    split: str = "train",
) -> pd.DataFrame:
    """Table 4: the error of each adversarial set, and what each denoiser leaves of it.

    mse: rows of mse/<set>.csv. split: the paper's is `train`. One row a set and condition, in this order:

    adversarial_set
    denoiser               what the adversaries went through; "none" for the raw ones
    n_images
    mse_<split>_px2        mean squared error against the clean images, pixels squared
    mse_<split>_px2_ci_low, _ci_high, interval_covers   with several replicates alone
    mse_<split>_px2_paper  empty for another split than the paper's

    Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name in adversarial_sets:
        for denoiser in (RAW, *denoisers):
            measured = mse_row(mse, name, denoiser, split)
            paper_column = "mse_adv_px2" if denoiser == RAW else f"mse_{denoiser}_px2"
            rows.append(
                {
                    "adversarial_set": name,
                    "denoiser": denoiser,
                    "n_images": measured["n_images"],
                    **with_bounds(f"mse_{split}_px2", measured, "mse_px2"),
                    f"mse_{split}_px2_paper": (
                        paper_number(paper, paper_column, adversarial_set=name) if split == "train" else float("nan")
                    ),
                    **what_covers(measured),
                }
            )
    return pd.DataFrame(rows)


def table4_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 4 as Markdown: one row a set, one column a condition, pixels squared."""
    split = split_of(table, "mse_{}_px2")
    table = table.assign(cell=cells_beside_paper(table, f"mse_{split}_px2", three_significant))
    columns = [
        ("Adversary" if denoiser == RAW else labels.denoiser(str(denoiser)), list(rows["cell"]))
        for denoiser, rows in table.groupby("denoiser", sort=False)
    ]
    return captioned_table(
        f"**Table 4.** Mean squared error (px²) of the adversaries of the {SPLIT_WORDS[split]} split against the clean "
        f"images{', before and after each denoiser' if len(columns) > 1 else ''}."
        f"{note_of_intervals(table)}",
        [("Adversarial set", [*map(labels.adversarial_set, table["adversarial_set"].unique())]), *columns],
    )


TABLE = Table(table4, table4_markdown)
