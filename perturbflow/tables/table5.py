"""Table 5 of the paper: accuracy on every set, without and with each denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perturbflow.tables.markdown import captioned_table, cells_beside_paper, short_percent
from perturbflow.tables.rows import accuracy_row, paper_number
from perturbflow.tables.table import Table
from perturbflow.vocabulary import RAW, Labels


def table5(
    accuracy: pd.DataFrame,
    paper: pd.DataFrame,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
) -> pd.DataFrame:
    """Table 5, and Table 7 for its classifiers: accuracy on every set, without and with each denoiser; training split.

    accuracy: rows of accuracy/<classifier>/<set>.csv. One row a set, classifier and condition, in this order:

    adversarial_set, classifier
    denoiser                what stands in front of the classifier; "none" for the raw adversary
    n_images
    top1_train_pct          top-1 accuracy, percent
    top1_train_pct_paper

    Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name in adversarial_sets:
        for classifier in classifiers:
            for denoiser in (RAW, *denoisers):
                measured = accuracy_row(accuracy, classifier, name, denoiser, "train")
                keys = {"adversarial_set": name, "classifier": classifier, "denoiser": denoiser}
                rows.append(
                    {
                        **keys,
                        "n_images": measured["n_images"],
                        "top1_train_pct": 100 * measured["top1"],
                        "top1_train_pct_paper": paper_number(paper, "top1_train_pct", **keys),
                    }
                )
    return pd.DataFrame(rows)


def table5_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 5 as Markdown, as wide as in the paper: one row a set, one column a classifier and condition."""
    return accuracy_markdown("**Table 5.** Top-1 accuracy (%) of each classifier", table, labels)


def accuracy_markdown(caption: str, table: pd.DataFrame, labels: Labels) -> str:
    """A frame of `table5` as Markdown: one row a set, one column a classifier and condition, percent."""
    table = table.assign(cell=cells_beside_paper(table, "top1_train_pct", short_percent, ".1f"))
    columns = [
        (f"{labels.classifier(str(classifier))} {labels.condition(str(denoiser))}", list(rows["cell"]))
        for (classifier, denoiser), rows in table.groupby(["classifier", "denoiser"], sort=False)
    ]
    meanings = ["DN: denoiser"] + [
        f"{short_form}: {labels.denoiser(name)}"
        for name in table["denoiser"].unique()
        if name != RAW and (short_form := labels.short_form(name))
    ]
    return captioned_table(
        f"{caption} on the adversarial sets of the training split ({', '.join(meanings)}).",
        [("Adversarial set", [*map(labels.adversarial_set, table["adversarial_set"].unique())]), *columns],
    )


TABLE = Table(table5, table5_markdown)
