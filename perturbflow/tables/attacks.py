"""What came of each attack: how many images it fooled, in how many steps, and how large its perturbations are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from perturbflow.tables.markdown import markdown_table, three_significant
from perturbflow.tables.table import Table
from perturbflow.vocabulary import Labels


def attacks(sets: pd.DataFrame, adversarial_sets: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """What came of each attack.

    sets: a row an image, the columns of adversarial/<set>/<split>.h5. adversarial_sets: the config's section of that
    name. One row a set and split:

    adversarial_set, split, n_images
    n_wrong_before          images that the stopping classifier got wrong before, which are as they were; empty where
                            none was asked: in controls, and where no stopping classifier ends the attack
    n_fooled                of the others, those that it gets wrong in the end; empty for controls
    steps_mean              steps that these others took; empty for attacks of Foolbox and controls
    l2_mean, l2_max         L2 norm of their perturbations, in pixels of 0 to 255
    linf_mean, linf_max     largest change of a value in them
    """
    rows = []
    for (name, split), images in sets.groupby(["adversarial_set", "split"], sort=False):
        settings = adversarial_sets[str(name)]
        is_control = "norm_of" in settings
        attacked = images[~images["already_misclassified"]]
        steps = attacked["steps"][attacked["steps"] >= 0]
        rows.append(
            {
                "adversarial_set": name,
                "split": split,
                "n_images": len(images),
                "n_wrong_before": len(images) - len(attacked) if settings.get("stopping_classifier") else None,
                "n_fooled": None if is_control else int(attacked["succeeded"].sum()),
                "steps_mean": None if is_control else steps.mean(),
                **{f"{norm}_{of}": getattr(attacked[norm], of)() for norm in ("l2", "linf") for of in ("mean", "max")},
            }
        )
    return pd.DataFrame(rows).astype({"n_wrong_before": "Int64", "n_fooled": "Int64"})


def attacks_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """The table as Markdown: one row a set and split."""

    def whole(column: str) -> list[str]:
        return ["" if pd.isna(value) else str(value) for value in table[column]]

    def number(column: str) -> list[str]:
        return ["" if pd.isna(value) else three_significant(value) for value in table[column]]

    columns = [
        ("Adversarial set", [*map(labels.adversarial_set, table["adversarial_set"])]),
        ("Split", list(table["split"])),
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
