"""Table 5 of the paper: accuracy on every set, without and with each denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perturbflow.tables.markdown import captioned_table, cells_beside_paper, note_of_intervals, short_percent
from perturbflow.tables.rows import SPLIT_WORDS, accuracy_row, paper_number, split_of, what_covers, with_bounds
from perturbflow.tables.table import Table
from perturbflow.vocabulary import RAW, Labels


def table5(
    accuracy: pd.DataFrame,
    paper: pd.DataFrame,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    split: str = "train",
) -> pd.DataFrame:
    """Table 5, and Table 7 for its classifiers: accuracy on every set, without and with each denoiser.

    accuracy: rows of accuracy/<classifier>/<set>.csv. split: the paper's is `train`. One row a set, classifier and
    condition, in this order:

    adversarial_set, classifier
    denoiser                what stands in front of the classifier; "none" for the raw adversary
    n_images
    top1_<split>_pct        top-1 accuracy, percent
    top1_<split>_pct_ci_low, _ci_high, interval_covers  with several replicates alone
    top1_<split>_pct_paper  empty for another split than the paper's

    Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name in adversarial_sets:
        for classifier in classifiers:
            for denoiser in (RAW, *denoisers):
                measured = accuracy_row(accuracy, classifier, name, denoiser, split)
                keys = {"adversarial_set": name, "classifier": classifier, "denoiser": denoiser}
                rows.append(
                    {
                        **keys,
                        "n_images": measured["n_images"],
                        **with_bounds(f"top1_{split}_pct", measured, "top1", 100),
                        f"top1_{split}_pct_paper": (
                            paper_number(paper, "top1_train_pct", **keys) if split == "train" else float("nan")
                        ),
                        **what_covers(measured),
                    }
                )
    return pd.DataFrame(rows)


def table5_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 5 as Markdown, as wide as in the paper: one row a set, one column a classifier and condition."""
    return accuracy_markdown("**Table 5.** Top-1 accuracy (%) of each classifier", table, labels)


def accuracy_markdown(caption: str, table: pd.DataFrame, labels: Labels) -> str:
    """A frame of `table5` as Markdown: one row a set, one column a classifier and condition, percent."""
    split = split_of(table, "top1_{}_pct")
    table = table.assign(cell=cells_beside_paper(table, f"top1_{split}_pct", short_percent, ".1f"))
    denoisers = [name for name in table["denoiser"].unique() if name != RAW]
    columns = [
        (
            f"{labels.classifier(str(classifier))} {labels.condition(str(denoiser)) if denoisers else ''}".strip(),
            list(rows["cell"]),
        )
        for (classifier, denoiser), rows in table.groupby(["classifier", "denoiser"], sort=False)
    ]
    meanings = ["DN: denoiser"] + [
        f"{short_form}: {labels.denoiser(name)}" for name in denoisers if (short_form := labels.short_form(name))
    ]
    explained = f" ({', '.join(meanings)})" if denoisers else ""
    return captioned_table(
        f"{caption} on the adversarial sets of the {SPLIT_WORDS[split]} split{explained}.{note_of_intervals(table)}",
        [("Adversarial set", [*map(labels.adversarial_set, table["adversarial_set"].unique())]), *columns],
    )


TABLE = Table(table5, table5_markdown)
