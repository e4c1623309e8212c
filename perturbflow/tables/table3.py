"""Table 3 of the paper: the measured classifiers and their capacity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from perturbflow.tables.markdown import captioned_table, cells_beside_paper, note_of_intervals, percent
from perturbflow.tables.rows import SPLIT_WORDS, clean_accuracy_row, paper_number, what_covers, with_bounds
from perturbflow.tables.table import Table
from perturbflow.vocabulary import Labels


def table3(
    clean_accuracy: pd.DataFrame,
    paper: pd.DataFrame,
    classifiers: Sequence[str],
    splits: Sequence[str] = ("train", "val"),
) -> pd.DataFrame:
    """Table 3: the measured classifiers and their capacity.

    clean_accuracy: rows of classifiers/<classifier>/accuracy.csv. splits: those that there are. One row a classifier:

    classifier
    top1_train_pct          top-1 accuracy on the clean training images, percent
    top1_val_pct            the same on the clean validation images; the paper gives none here
    n_layers                convolution and linear layers; the paper counts in its own way
    n_parameters_millions   trainable numbers
    <each but top1_val_pct>_paper
    <each top1>_ci_low, _ci_high, interval_covers   with several replicates alone

    A split that is not there has no columns.
    Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name in classifiers:
        measured = {
            split: clean_accuracy_row(clean_accuracy, name, split, "n_layers", "n_parameters") for split in splits
        }
        row: dict[str, Any] = {"classifier": name}
        if "train" in measured:
            row |= with_bounds("top1_train_pct", measured["train"], "top1", 100)
            row["top1_train_pct_paper"] = paper_number(paper, "top1_train_pct", classifier=name)
        if "val" in measured:
            row |= with_bounds("top1_val_pct", measured["val"], "top1", 100)
        size = measured[splits[0]]
        rows.append(
            {
                **row,
                "n_layers": size["n_layers"],
                "n_layers_paper": paper_number(paper, "num_layers", classifier=name),
                "n_parameters_millions": size["n_parameters"] / 1e6,
                "n_parameters_millions_paper": paper_number(paper, "num_parameters_millions", classifier=name),
                **what_covers(size),
            }
        )
    return pd.DataFrame(rows)


def table3_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 3 as Markdown: one row a classifier."""
    accuracies = []
    if "top1_train_pct" in table:
        accuracies.append(("Top-1, train (%)", cells_beside_paper(table, "top1_train_pct", percent)))
    if "top1_val_pct" in table:
        without_paper = table.assign(top1_val_pct_paper=float("nan"))
        accuracies.append(("Top-1, val (%)", cells_beside_paper(without_paper, "top1_val_pct", percent)))
    splits = " and ".join(words for split, words in SPLIT_WORDS.items() if f"top1_{split}_pct" in table)
    return captioned_table(
        f"**Table 3.** The measured classifiers: top-1 accuracy on the clean {splits} "
        f"{'splits' if len(accuracies) > 1 else 'split'}, convolution and linear layers, and parameters."
        f"{note_of_intervals(table)}",
        [
            ("Classifier", [*map(labels.classifier, table["classifier"])]),
            *accuracies,
            ("Layers", cells_beside_paper(table, "n_layers", "{:.0f}".format)),
            ("Parameters (millions)", cells_beside_paper(table, "n_parameters_millions", percent)),
        ],
    )


TABLE = Table(table3, table3_markdown)
