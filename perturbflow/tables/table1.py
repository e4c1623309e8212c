"""Table 1 of the paper: the size of the perturbation and the accuracy it leaves, without and with a denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perturbflow.tables.markdown import (
    captioned_table,
    cells_beside_paper,
    note_of_intervals,
    percent,
    three_significant,
)
from perturbflow.tables.rows import SPLIT_WORDS, accuracy_row, mse_row, paper_number, what_covers, with_bounds
from perturbflow.tables.table import Table
from perturbflow.vocabulary import PAPER_TABLE1, RAW, Labels


def table1(
    mse: pd.DataFrame,
    accuracy: pd.DataFrame,
    paper: pd.DataFrame,
    adversarial_sets: Sequence[str],
    classifier: str,
    architecture: str,
    denoiser: str,
    split: str = "val",
) -> pd.DataFrame:
    """Table 1: the size of the perturbation and the accuracy it leaves, without and with a denoiser.

    mse: rows of mse/<set>.csv. accuracy: rows of accuracy/<classifier>/<set>.csv. architecture: the classifier's. One
    row a set:

    adversarial_set, classifier, denoiser, split, n_images
    mse_adversarial_px2     mean squared error of the adversaries against the clean images, pixels squared
    mse_denoised_px2        the same after the denoiser
    top1_adversarial_pct    the classifier's top-1 accuracy on the adversaries, percent
    top1_denoised_pct       the same after the denoiser
    <each of the four>_paper
    <each of the four>_ci_low, _ci_high, interval_covers    with several replicates alone

    The paper's numbers are for the validation split, a classifier of one architecture, whatever it is called here, and
    one denoiser, `PAPER_TABLE1`; for others they stay empty.
    Raises MissingResultError for a row that the frames lack.
    """
    same_classifier = architecture == PAPER_TABLE1["architecture"]
    same_denoiser = denoiser == PAPER_TABLE1["denoiser"]

    def comparable_number(name: str, column: str, comparable: bool) -> float:
        comparable &= split == "val"
        return paper_number(paper, column, adversarial_set=name) if comparable else float("nan")

    rows = []
    for name in adversarial_sets:
        raw = accuracy_row(accuracy, classifier, name, RAW, split)
        denoised = accuracy_row(accuracy, classifier, name, denoiser, split)
        rows.append(
            {
                "adversarial_set": name,
                "classifier": classifier,
                "denoiser": denoiser,
                "split": split,
                "n_images": raw["n_images"],
                **with_bounds("mse_adversarial_px2", mse_row(mse, name, RAW, split), "mse_px2"),
                "mse_adversarial_px2_paper": comparable_number(name, "mse_adv_px2", True),
                **with_bounds("mse_denoised_px2", mse_row(mse, name, denoiser, split), "mse_px2"),
                "mse_denoised_px2_paper": comparable_number(name, "mse_denoised_px2", same_denoiser),
                **with_bounds("top1_adversarial_pct", raw, "top1", 100),
                "top1_adversarial_pct_paper": comparable_number(name, "top1_adv_pct", same_classifier),
                **with_bounds("top1_denoised_pct", denoised, "top1", 100),
                "top1_denoised_pct_paper": comparable_number(
                    name, "top1_denoised_pct", same_classifier and same_denoiser
                ),
                **what_covers(raw),
            }
        )
    return pd.DataFrame(rows)


def table1_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 1 as Markdown: one row a set, mean squared errors in pixels squared, accuracies in percent."""
    classifier, denoiser = labels.classifier(table["classifier"].iloc[0]), labels.denoiser(table["denoiser"].iloc[0])
    split = table["split"].iloc[0]
    return captioned_table(
        f"**Table 1.** Mean squared error (MSE) of the adversaries of the {SPLIT_WORDS[split]} split against the clean "
        f"images, and top-1 accuracy of {classifier} on them, without and with the denoiser {denoiser}."
        f"{note_of_intervals(table)}",
        [
            ("Adversarial set", [*map(labels.adversarial_set, table["adversarial_set"])]),
            ("MSE, adversary (px²)", cells_beside_paper(table, "mse_adversarial_px2", three_significant)),
            ("MSE, denoised (px²)", cells_beside_paper(table, "mse_denoised_px2", three_significant)),
            ("Top-1, adversary (%)", cells_beside_paper(table, "top1_adversarial_pct", percent)),
            ("Top-1, denoised (%)", cells_beside_paper(table, "top1_denoised_pct", percent)),
        ],
    )


TABLE = Table(table1, table1_markdown)
