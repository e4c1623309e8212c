"""Tables 1 to 5 and 7 of the paper: every number of a run beside the paper's own.

Each function `table<n>` takes the run's result frames (see `perturbflow.results.reading`) and the paper's table, and
returns a frame whose columns its docstring lists; `table<n>_markdown` turns that frame into text. `TABLES` joins the
two. A column `<name>_paper` is empty wherever the paper has no such number: another classifier, set or denoiser.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from typing import Any

import pandas as pd

from perturbflow.results.reading import CONDITIONS, RAW, MissingResultError, condition_label, label, select

PAPER_TABLE1 = {"classifier": "inception_resnet_v2", "denoiser": "fusionnet"}
"""Whose numbers the paper's Table 1 holds (its caption says so; the table itself has no such column)."""


def _one(frame: pd.DataFrame, file: str, columns: Sequence[str], **keys: str) -> pd.Series[Any]:
    rows = select(frame, file, columns, **keys)
    if len(rows) > 1:
        wanted = ", ".join(f"{column}={value}" for column, value in keys.items())
        raise MissingResultError(f"{file} has {len(rows)} rows with {wanted}, not one; delete it and run again.")
    return rows.iloc[0]


def _mse(mse: pd.DataFrame, adversarial_set: str, denoiser: str, split: str) -> pd.Series[Any]:
    return _one(
        mse,
        f"mse/{adversarial_set}.csv",
        ["mse_px2", "n_images"],
        adversarial_set=adversarial_set,
        denoiser=denoiser,
        split=split,
    )


def _accuracy(
    accuracy: pd.DataFrame, classifier: str, adversarial_set: str, denoiser: str, split: str
) -> pd.Series[Any]:
    return _one(
        accuracy,
        f"accuracy/{classifier}/{adversarial_set}.csv",
        ["top1", "n_images"],
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
        split=split,
    )


def _clean_accuracy(clean_accuracy: pd.DataFrame, classifier: str, split: str, *columns: str) -> pd.Series[Any]:
    return _one(
        clean_accuracy,
        f"classifiers/{classifier}/accuracy.csv",
        ["top1", *columns],
        classifier=classifier,
        split=split,
    )


def _paper(paper: pd.DataFrame, column: str, **keys: str) -> float:
    """The paper's number, NaN where it has none."""
    if column not in paper:
        return float("nan")
    chosen = pd.Series(True, index=paper.index)
    for key, value in keys.items():
        chosen &= paper[key] == value
    return float(paper.loc[chosen, column].iloc[0]) if chosen.any() else float("nan")


def table1(
    mse: pd.DataFrame,
    accuracy: pd.DataFrame,
    paper: pd.DataFrame,
    adversarial_sets: Sequence[str],
    classifier: str,
    denoiser: str,
) -> pd.DataFrame:
    """Table 1: the size of the perturbation and the accuracy it leaves, without and with a denoiser; validation.

    mse: rows of mse/<set>.csv. accuracy: rows of accuracy/<classifier>/<set>.csv. One row a set:

    adversarial_set, classifier, denoiser, n_images
    mse_adversarial_px2     mean squared error of the adversaries against the clean images, pixels squared
    mse_denoised_px2        the same after the denoiser
    top1_adversarial_pct    the classifier's top-1 accuracy on the adversaries, percent
    top1_denoised_pct       the same after the denoiser
    <each of the four>_paper

    The paper's numbers are for one classifier and one denoiser, `PAPER_TABLE1`; for others they stay empty.
    Raises MissingResultError for a row that the frames lack.
    """
    same_classifier = classifier == PAPER_TABLE1["classifier"]
    same_denoiser = denoiser == PAPER_TABLE1["denoiser"]

    def paper_number(name: str, column: str, comparable: bool) -> float:
        return _paper(paper, column, adversarial_set=name) if comparable else float("nan")

    rows = []
    for name in adversarial_sets:
        raw = _accuracy(accuracy, classifier, name, RAW, "val")
        denoised = _accuracy(accuracy, classifier, name, denoiser, "val")
        rows.append(
            {
                "adversarial_set": name,
                "classifier": classifier,
                "denoiser": denoiser,
                "n_images": raw["n_images"],
                "mse_adversarial_px2": _mse(mse, name, RAW, "val")["mse_px2"],
                "mse_adversarial_px2_paper": paper_number(name, "mse_adv_px2", True),
                "mse_denoised_px2": _mse(mse, name, denoiser, "val")["mse_px2"],
                "mse_denoised_px2_paper": paper_number(name, "mse_denoised_px2", same_denoiser),
                "top1_adversarial_pct": 100 * raw["top1"],
                "top1_adversarial_pct_paper": paper_number(name, "top1_adv_pct", same_classifier),
                "top1_denoised_pct": 100 * denoised["top1"],
                "top1_denoised_pct_paper": paper_number(name, "top1_denoised_pct", same_classifier and same_denoiser),
            }
        )
    return pd.DataFrame(rows)


def table2(
    clean_accuracy: pd.DataFrame, paper: pd.DataFrame, adversarial_sets: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """Table 2: how each adversarial set is made.

    clean_accuracy: rows of classifiers/<classifier>/accuracy.csv of every attacker and stopping classifier.
    adversarial_sets: the config's section of that name. One row a set:

    adversarial_set, attack
    attacker                            whose gradient is followed
    attacker_top1_val_pct               its top-1 accuracy on the clean validation images, percent
    stopping_classifier                 whose error ends the attack on an image; empty if none does
    stopping_classifier_top1_val_pct    its top-1 accuracy on the clean validation images, percent
    step                                the step size in pixels (epsilon of Eqs. 1 to 3)
    max_steps                           the most steps an image gets
    decay                               mu of Eq. 3; empty for attacks without momentum
    epsilon                             the bound that an attack of Foolbox is given; empty for none
    norm_of                             of noise: the set whose perturbations it takes the L2 norm from, image by image
    denoiser                            what stands before both classifiers while the set is made; empty for none
    round_to_8_bits                     whether every candidate is rounded to whole pixel values
    options                             of an attack of Foolbox: the arguments of its class, JSON; empty for none
    <each accuracy>_paper               empty if the paper used another classifier there

    What a kind of set does not have is empty. Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name, recipe in adversarial_sets.items():
        row: dict[str, Any] = {"adversarial_set": name, "attack": recipe["attack"]}
        for role in ("attacker", "stopping_classifier"):
            classifier, column = recipe.get(role), f"{role}_top1_val_pct"
            row[role] = classifier
            row[column] = row[f"{column}_paper"] = float("nan")
            if classifier is not None:
                row[column] = 100 * _clean_accuracy(clean_accuracy, classifier, "val")["top1"]
                row[f"{column}_paper"] = _paper(paper, column, adversarial_set=name, **{role: classifier})
        for number in ("step", "max_steps", "decay", "epsilon"):
            row[number] = float("nan") if recipe.get(number) is None else float(recipe[number])
        row["norm_of"] = recipe.get("norm_of")
        row["denoiser"] = recipe.get("denoiser")
        row["round_to_8_bits"] = bool(recipe.get("round_to_8_bits"))
        row["options"] = json.dumps(recipe["options"]) if recipe.get("options") else None
        rows.append(row)
    return pd.DataFrame(rows)


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
        train = _clean_accuracy(clean_accuracy, name, "train", "n_layers", "n_parameters")
        rows.append(
            {
                "classifier": name,
                "top1_train_pct": 100 * train["top1"],
                "top1_train_pct_paper": _paper(paper, "top1_train_pct", classifier=name),
                "top1_val_pct": 100 * _clean_accuracy(clean_accuracy, name, "val")["top1"],
                "n_layers": train["n_layers"],
                "n_layers_paper": _paper(paper, "num_layers", classifier=name),
                "n_parameters_millions": train["n_parameters"] / 1e6,
                "n_parameters_millions_paper": _paper(paper, "num_parameters_millions", classifier=name),
            }
        )
    return pd.DataFrame(rows)


def table4(
    mse: pd.DataFrame, paper: pd.DataFrame, adversarial_sets: Sequence[str], denoisers: Sequence[str]
) -> pd.DataFrame:
    """Table 4: the error of each adversarial set, and what each denoiser leaves of it; training split.

    mse: rows of mse/<set>.csv. One row a set and condition, in this order:

    adversarial_set
    denoiser               what the adversaries went through; "none" for the raw ones
    n_images
    mse_train_px2          mean squared error against the clean images, pixels squared
    mse_train_px2_paper

    Raises MissingResultError for a row that the frame lacks.
    """
    rows = []
    for name in adversarial_sets:
        for denoiser in (RAW, *denoisers):
            measured = _mse(mse, name, denoiser, "train")
            paper_column = "mse_adv_px2" if denoiser == RAW else f"mse_{denoiser}_px2"
            rows.append(
                {
                    "adversarial_set": name,
                    "denoiser": denoiser,
                    "n_images": measured["n_images"],
                    "mse_train_px2": measured["mse_px2"],
                    "mse_train_px2_paper": _paper(paper, paper_column, adversarial_set=name),
                }
            )
    return pd.DataFrame(rows)


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
                measured = _accuracy(accuracy, classifier, name, denoiser, "train")
                keys = {"adversarial_set": name, "classifier": classifier, "denoiser": denoiser}
                rows.append(
                    {
                        **keys,
                        "n_images": measured["n_images"],
                        "top1_train_pct": 100 * measured["top1"],
                        "top1_train_pct_paper": _paper(paper, "top1_train_pct", **keys),
                    }
                )
    return pd.DataFrame(rows)


def three_significant(value: float) -> str:
    """`value` with three significant digits: 0.0512, 6.02, 13.4, 1230."""
    text = f"{value:#.3g}"
    return f"{value:.0f}" if text.endswith(".") or (value >= 1000 and "e" in text) else text


def with_interval(value: float, low: float, high: float, *, form: Callable[[float], str]) -> str:
    """`value [low, high]`; empty where there is no value."""
    return "" if isnan(value) else f"{form(value)} [{form(low)}, {form(high)}]"


def _percent(value: float) -> str:
    return f"{value:.2f}"


def _percent_short(value: float) -> str:
    return f"{value:.1f}"


def _beside(ours: float, paper: float, form: Callable[[float], str], paper_form: str) -> str:
    """`ours (paper)`, or ours alone where the paper has no number; empty where we have none either."""
    if isnan(ours):
        return ""
    return form(ours) if isnan(paper) else f"{form(ours)} ({paper:{paper_form}})"


def _cells(table: pd.DataFrame, column: str, form: Callable[[float], str], paper_form: str = "g") -> list[str]:
    pairs = zip(table[column], table[f"{column}_paper"], strict=True)
    return [_beside(ours, paper, form, paper_form) for ours, paper in pairs]


def _labels(names: Iterable[str]) -> list[str]:
    return [label(name) for name in names]


def markdown_table(columns: Sequence[tuple[str, Sequence[str]]], n_text_columns: int = 1) -> str:
    """A table of (head, cells) columns: text columns to the left, then numbers to the right."""
    heads = [head for head, _ in columns]
    body = pd.DataFrame(list(zip(*(cells for _, cells in columns), strict=True)), columns=heads)
    alignment = ["left"] * n_text_columns + ["right"] * (len(columns) - n_text_columns)
    return body.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def _markdown(caption: str, columns: Sequence[tuple[str, Sequence[str]]], n_text_columns: int = 1) -> str:
    table = markdown_table(columns, n_text_columns)
    return f"{caption} In parentheses: the paper's number on TinyImageNet, where it has one.\n\n{table}\n"


def table1_markdown(table: pd.DataFrame) -> str:
    """Table 1 as Markdown: one row a set, mean squared errors in pixels squared, accuracies in percent."""
    classifier, denoiser = label(table["classifier"].iloc[0]), label(table["denoiser"].iloc[0])
    return _markdown(
        "**Table 1.** Mean squared error (MSE) of the adversaries of the validation split against the clean "
        f"images, and top-1 accuracy of {classifier} on them, without and with the denoiser {denoiser}.",
        [
            ("Adversarial set", _labels(table["adversarial_set"])),
            ("MSE, adversary (px²)", _cells(table, "mse_adversarial_px2", three_significant)),
            ("MSE, denoised (px²)", _cells(table, "mse_denoised_px2", three_significant)),
            ("Top-1, adversary (%)", _cells(table, "top1_adversarial_pct", _percent)),
            ("Top-1, denoised (%)", _cells(table, "top1_denoised_pct", _percent)),
        ],
    )


def table2_markdown(table: pd.DataFrame) -> str:
    """Table 2 as Markdown: one row a set, and only what some set has."""

    def names(column: str) -> list[str]:
        return ["" if pd.isna(name) else label(name) for name in table[column]]

    def numbers(column: str) -> list[str]:
        return ["" if isnan(value) else f"{value:g}" for value in table[column]]

    attacked = table["attacker"].notna()
    text = [
        ("Adversarial set", names("adversarial_set")),
        ("Attack", names("attack")),
        ("Attacker", names("attacker")),
        (
            "Stopping classifier",
            [name or ("none" if own else "") for name, own in zip(names("stopping_classifier"), attacked, strict=True)],
        ),
        ("Norm of", names("norm_of")),
        ("Denoiser", names("denoiser")),
        ("Rounded to 8 bits", ["yes" if rounded else "" for rounded in table["round_to_8_bits"]]),
        ("Options", ["" if pd.isna(options) else f"`{options}`" for options in table["options"]]),
    ]
    number = [
        ("Attacker top-1 (%)", _cells(table, "attacker_top1_val_pct", _percent_short)),
        ("Stopping classifier top-1 (%)", _cells(table, "stopping_classifier_top1_val_pct", _percent_short)),
        ("Step (px)", numbers("step")),
        ("Max. steps", numbers("max_steps")),
        ("Decay", numbers("decay")),
        ("Epsilon", numbers("epsilon")),
    ]
    text, number = ([(head, cells) for head, cells in columns if any(cells)] for columns in (text, number))
    return _markdown(
        "**Table 2.** How each adversarial set is made, with each classifier's top-1 accuracy on the clean "
        "validation split.",
        [*text, *number],
        n_text_columns=len(text),
    )


def table3_markdown(table: pd.DataFrame) -> str:
    """Table 3 as Markdown: one row a classifier."""
    return _markdown(
        "**Table 3.** The measured classifiers: top-1 accuracy on the clean training and validation splits, "
        "convolution and linear layers, and parameters.",
        [
            ("Classifier", _labels(table["classifier"])),
            ("Top-1, train (%)", _cells(table, "top1_train_pct", _percent)),
            ("Top-1, val (%)", [_percent(value) for value in table["top1_val_pct"]]),
            ("Layers", _cells(table, "n_layers", "{:.0f}".format)),
            ("Parameters (millions)", _cells(table, "n_parameters_millions", _percent)),
        ],
    )


def table4_markdown(table: pd.DataFrame) -> str:
    """Table 4 as Markdown: one row a set, one column a condition, pixels squared."""
    table = table.assign(cell=_cells(table, "mse_train_px2", three_significant))
    columns = [
        ("Adversary" if denoiser == RAW else label(str(denoiser)), list(rows["cell"]))
        for denoiser, rows in table.groupby("denoiser", sort=False)
    ]
    return _markdown(
        "**Table 4.** Mean squared error (px²) of the adversaries of the training split against the clean "
        "images, before and after each denoiser.",
        [("Adversarial set", _labels(table["adversarial_set"].unique())), *columns],
    )


def table5_markdown(table: pd.DataFrame) -> str:
    """Table 5 as Markdown, as wide as in the paper: one row a set, one column a classifier and condition."""
    return _accuracy_markdown("**Table 5.** Top-1 accuracy (%) of each classifier", table)


def table7_markdown(table: pd.DataFrame) -> str:
    """Table 7 as Markdown, like Table 5."""
    return _accuracy_markdown("**Table 7.** Top-1 accuracy (%) of DenseNet-201 with a changed last layer", table)


def _accuracy_markdown(caption: str, table: pd.DataFrame) -> str:
    table = table.assign(cell=_cells(table, "top1_train_pct", _percent_short, ".1f"))
    columns = [
        (f"{label(str(classifier))} {condition_label(str(denoiser))}", list(rows["cell"]))
        for (classifier, denoiser), rows in table.groupby(["classifier", "denoiser"], sort=False)
    ]
    meanings = ["DN: denoiser"] + [
        f"{CONDITIONS[name].removeprefix('w/ ')}: {label(name)}"
        for name in table["denoiser"].unique()
        if name in CONDITIONS and name != RAW
    ]
    return _markdown(
        f"{caption} on the adversarial sets of the training split ({', '.join(meanings)}).",
        [("Adversarial set", _labels(table["adversarial_set"].unique())), *columns],
    )


@dataclass(frozen=True)
class Table:
    """How a table is made from frames, and how that table reads as Markdown.

    columns: by argument of `build`, the columns that it uses, where the files hold many more.
    """

    build: Callable[..., pd.DataFrame]
    markdown: Callable[[pd.DataFrame], str]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


TABLES = {
    "table1": Table(table1, table1_markdown),
    "table2": Table(table2, table2_markdown),
    "table3": Table(table3, table3_markdown),
    "table4": Table(table4, table4_markdown),
    "table5": Table(table5, table5_markdown),
    "table7": Table(table5, table7_markdown),
}
