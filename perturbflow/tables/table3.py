"""Table 3 of the paper: the measured classifiers and their capacity."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perturbflow.tables.markdown import captioned_table, cells_beside_paper, percent
from perturbflow.tables.rows import clean_accuracy_row, paper_number
from perturbflow.tables.table import Table
from perturbflow.vocabulary import Labels


def table3(clean_accuracy: pd.DataFrame, paper: pd.DataFrame, classifiers: Sequence[str]) -> pd.DataFrame:
    """Table 3: the measured classifiers and their capacity.

    clean_accuracy: rows of classifiers/<classifier>/accuracy.csv. One row a classifier:

    classifier
    top1_train_pct          top-1 accuracy on the clean training images, percent
    top1_val_pct            the same on the clean validation images; the paper gives none here
    n_layers                convolution and linear layers; the paper counts in its own way
    n_parameters_millions   trainable numbers
    <each but top1_val_pct>_paper

    Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name in classifiers:
        train = clean_accuracy_row(clean_accuracy, name, "train", "n_layers", "n_parameters")
        rows.append(
            {
                "classifier": name,
                "top1_train_pct": 100 * train["top1"],
                "top1_train_pct_paper": paper_number(paper, "top1_train_pct", classifier=name),
                "top1_val_pct": 100 * clean_accuracy_row(clean_accuracy, name, "val")["top1"],
                "n_layers": train["n_layers"],
                "n_layers_paper": paper_number(paper, "num_layers", classifier=name),
                "n_parameters_millions": train["n_parameters"] / 1e6,
                "n_parameters_millions_paper": paper_number(paper, "num_parameters_millions", classifier=name),
            }
        )
    return pd.DataFrame(rows)


def table3_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 3 as Markdown: one row a classifier."""
    return captioned_table(
        "**Table 3.** The measured classifiers: top-1 accuracy on the clean training and validation splits, "
        "convolution and linear layers, and parameters.",
        [
            ("Classifier", [*map(labels.classifier, table["classifier"])]),
            ("Top-1, train (%)", cells_beside_paper(table, "top1_train_pct", percent)),
            ("Top-1, val (%)", [percent(value) for value in table["top1_val_pct"]]),
            ("Layers", cells_beside_paper(table, "n_layers", "{:.0f}".format)),
            ("Parameters (millions)", cells_beside_paper(table, "n_parameters_millions", percent)),
        ],
    )


TABLE = Table(table3, table3_markdown)
