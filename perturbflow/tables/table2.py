"""Table 2 of the paper: how each adversarial set is made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isnan
from typing import Any

import pandas as pd

from perturbflow.tables.markdown import captioned_table, cells_beside_paper, note_of_intervals, short_percent
from perturbflow.tables.rows import SPLIT_WORDS, clean_accuracy_row, paper_number, split_of, what_covers, with_bounds
from perturbflow.tables.table import Table
from perturbflow.vocabulary import Labels


def table2(
    clean_accuracy: pd.DataFrame,
    paper: pd.DataFrame,
    adversarial_sets: Mapping[str, Mapping[str, Any]],
    architectures: Mapping[str, str],
    split: str = "val",
) -> pd.DataFrame:
    """Table 2: how each adversarial set is made.

    clean_accuracy: rows of classifiers/<classifier>/accuracy.csv of every attacker and stopping classifier.
    adversarial_sets: the config's section of that name. architectures: of those classifiers, by name. split: the
    paper's is `val`. One row a set:

    adversarial_set, attack
    attacker                            whose gradient is followed
    attacker_top1_<split>_pct            its top-1 accuracy on the clean images of the split, percent
    stopping_classifier                 whose error ends the attack on an image; empty if none does
    stopping_classifier_top1_<split>_pct its top-1 accuracy on the clean images of the split, percent
    step                                the step size in pixels (epsilon of Eqs. 1 to 3)
    max_steps                           the most steps an image gets
    decay                               mu of Eq. 3; empty for attacks without momentum
    epsilon                             the bound that an attack of Foolbox is given; empty for none
    norm_of                             of noise: the set whose perturbations it takes the L2 norm from, image by image
    denoiser                            what stands before both classifiers while the set is made; empty for none
    round_to_8_bits                     whether every candidate is rounded to whole pixel values
    options                             of an attack of Foolbox: the arguments of its class, JSON; empty for none
    <each accuracy>_ci_low, _ci_high, interval_covers   with several replicates alone
    <each accuracy>_paper               empty if the paper used another architecture there or another split

    What a kind of set does not have is empty. Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name, recipe in adversarial_sets.items():
        row: dict[str, Any] = {"adversarial_set": name, "attack": recipe["attack"]}
        for role in ("attacker", "stopping_classifier"):
            classifier, column = recipe.get(role), f"{role}_top1_{split}_pct"
            row[role] = classifier
            row[column] = row[f"{column}_paper"] = float("nan")
            if classifier is not None:
                measured = clean_accuracy_row(clean_accuracy, classifier, split)
                row.update(with_bounds(column, measured, "top1", 100) | what_covers(measured))
                # The paper names architectures: of one there may be several trainings, each with a name of its own.
                keys = {"adversarial_set": name, role: architectures[classifier]}
                row[f"{column}_paper"] = paper_number(paper, column, **keys)
        for number in ("step", "max_steps", "decay", "epsilon"):
            row[number] = float("nan") if recipe.get(number) is None else float(recipe[number])
        row["norm_of"] = recipe.get("norm_of")
        row["denoiser"] = recipe.get("denoiser")
        row["round_to_8_bits"] = bool(recipe.get("round_to_8_bits"))
        row["options"] = json.dumps(recipe["options"]) if recipe.get("options") else None
        rows.append(row)
    return pd.DataFrame(rows)


def table2_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 2 as Markdown: one row a set, and only what some set has."""

    def names(column: str, label: Callable[[str], str]) -> list[str]:
        return ["" if pd.isna(name) else label(name) for name in table[column]]

    def numbers(column: str) -> list[str]:
        return ["" if isnan(value) else f"{value:g}" for value in table[column]]

    split = split_of(table, "attacker_top1_{}_pct")
    attacked = table["attacker"].notna()
    stopping = zip(names("stopping_classifier", labels.classifier), attacked, strict=True)
    text = [
        ("Adversarial set", names("adversarial_set", labels.adversarial_set)),
        ("Attack", names("attack", labels.attack)),
        ("Attacker", names("attacker", labels.classifier)),
        ("Stopping classifier", [name or ("none" if own else "") for name, own in stopping]),
        ("Norm of", names("norm_of", labels.adversarial_set)),
        ("Denoiser", names("denoiser", labels.denoiser)),
        ("Rounded to 8 bits", ["yes" if rounded else "" for rounded in table["round_to_8_bits"]]),
        ("Options", ["" if pd.isna(options) else f"`{options}`" for options in table["options"]]),
    ]
    number = [
        ("Attacker top-1 (%)", cells_beside_paper(table, f"attacker_top1_{split}_pct", short_percent)),
        (
            "Stopping classifier top-1 (%)",
            cells_beside_paper(table, f"stopping_classifier_top1_{split}_pct", short_percent),
        ),
        ("Step (px)", numbers("step")),
        ("Max. steps", numbers("max_steps")),
        ("Decay", numbers("decay")),
        ("Epsilon", numbers("epsilon")),
    ]
    text, number = ([(head, cells) for head, cells in columns if any(cells)] for columns in (text, number))
    return captioned_table(
        "**Table 2.** How each adversarial set is made, with each classifier's top-1 accuracy on the clean "
        f"{SPLIT_WORDS[split]} split.{note_of_intervals(table.dropna(subset='attacker'))}",
        [*text, *number],
        n_text_columns=len(text),
    )


TABLE = Table(table2, table2_markdown)
