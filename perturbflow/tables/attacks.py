"""What came of each attack: how many images it fooled, in how many steps, and how large its perturbations are."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perturbflow.results.reading import select
from perturbflow.tables.markdown import markdown_table, three_significant
from perturbflow.tables.table import Table
from perturbflow.vocabulary import Labels


def attacks(sets: pd.DataFrame, adversarial_sets: Sequence[str]) -> pd.DataFrame:
    """What came of each attack, one row a set and split, in the order of `adversarial_sets`.

    sets: rows of adversarial/<set>.csv, with the columns of `measuring.mse.attack_row`, which the table has too; of
    several replicates each has rows of its own, told apart by a column `replicate`.
    Raises MissingResultError for a set without rows.
    """
    rows = [select(sets, f"adversarial/{name}.csv", ["n_fooled"], adversarial_set=name) for name in adversarial_sets]
    # Some numbers are missing; the others stay whole.
    table = pd.concat(rows, ignore_index=True).astype({"n_wrong_before": "Int64", "n_fooled": "Int64"})
    return table if table["replicate"].nunique() > 1 else table.drop(columns="replicate")


def attacks_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """The table as Markdown: one row a set and split."""

    def whole(column: str) -> list[str]:
        return ["" if pd.isna(value) else str(value) for value in table[column]]

    def number(column: str) -> list[str]:
        return ["" if pd.isna(value) else three_significant(value) for value in table[column]]

    columns = [
        ("Adversarial set", [*map(labels.adversarial_set, table["adversarial_set"])]),
        ("Split", list(table["split"])),
        *([("Replicate", whole("replicate"))] if "replicate" in table else []),
        ("Images", whole("n_images")),
        ("Wrong before", whole("n_wrong_before")),
        ("Fooled", whole("n_fooled")),
        ("Steps", number("steps_mean")),
        ("L2, mean (px)", number("l2_mean")),
        ("L2, largest (px)", number("l2_max")),
        ("Largest change, mean (px)", number("linf_mean")),
        ("Largest change (px)", number("linf_max")),
    ]
    caption = (
        "**Attacks.** Of each set and split: images that the stopping classifier got wrong before, which stay as they "
        "are; of the others those that it gets wrong in the end, their mean number of steps, and the size of their "
        "perturbation."
    )
    return f"{caption}\n\n{markdown_table(columns, n_text_columns=2)}\n"


TABLE = Table(attacks, attacks_markdown)
