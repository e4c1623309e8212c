"""Rows of a run's frames, and the paper's numbers beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from perturbflow.results.reading import MissingResultError, select

SET_AND_CONDITION = ["adversarial_set", "denoiser"]
"""What tells the images of a frame with a row an image apart, beside their index."""


def _one(frame: pd.DataFrame, file: str, columns: Sequence[str], **keys: str) -> pd.Series[Any]:
    rows = select(frame, file, columns, **keys)
    if len(rows) > 1:
        wanted = ", ".join(f"{column}={value}" for column, value in keys.items())
        raise MissingResultError(f"{file} has {len(rows)} rows with {wanted}, not one; delete it and run again.")
    return rows.iloc[0]


def mse_row(mse: pd.DataFrame, adversarial_set: str, denoiser: str, split: str) -> pd.Series[Any]:
    """The row of mse/<set>.csv. Raises MissingResultError where there is not exactly one."""
    return _one(
        mse,
        f"mse/{adversarial_set}.csv",
        ["mse_px2", "n_images"],
        adversarial_set=adversarial_set,
        denoiser=denoiser,
        split=split,
    )


def accuracy_row(
    accuracy: pd.DataFrame, classifier: str, adversarial_set: str, denoiser: str, split: str
) -> pd.Series[Any]:
    """The row of accuracy/<classifier>/<set>.csv. Raises MissingResultError where there is not exactly one."""
    return _one(
        accuracy,
        f"accuracy/{classifier}/{adversarial_set}.csv",
        ["top1", "n_images"],
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
        split=split,
    )


def clean_accuracy_row(clean_accuracy: pd.DataFrame, classifier: str, split: str, *columns: str) -> pd.Series[Any]:
    """The row of classifiers/<classifier>/accuracy.csv, which has `columns`.

    Raises MissingResultError where there is not exactly one.
    """
    return _one(
        clean_accuracy,
        f"classifiers/{classifier}/accuracy.csv",
        ["top1", *columns],
        classifier=classifier,
        split=split,
    )


def with_bounds(name: str, row: pd.Series[Any], column: str, unit: float = 1.0) -> dict[str, float]:
    """A number of a row as `name`, and the bounds of its interval, if the row has one, as `name`_ci_low, _ci_high.

    Rows of one replicate have none; what varies in them are the images alone. unit: in which the column is given.
    """
    ends = [end for end in ("", "_ci_low", "_ci_high") if f"{column}{end}" in row]
    return {f"{name}{end}": unit * row[f"{column}{end}"] for end in ends}


def what_covers(row: pd.Series[Any]) -> dict[str, str]:
    """`interval_covers` of a row that has an interval."""
    return {"interval_covers": row["interval_covers"]} if "interval_covers" in row else {}


SPLIT_WORDS = {"train": "training", "val": "validation"}


def split_of(table: pd.DataFrame, column: str) -> str:
    """The split that a table is of, from the name of its column, in which `{}` stands for it."""
    return next(split for split in SPLIT_WORDS if column.format(split) in table)


def paper_number(paper: pd.DataFrame, column: str, **keys: str) -> float:
    """The paper's number, NaN where it has none."""
    if column not in paper:
        return float("nan")
    chosen = pd.Series(True, index=paper.index)
    for key, value in keys.items():
        chosen &= paper[key] == value
    return float(paper.loc[chosen, column].iloc[0]) if chosen.any() else float("nan")


def rows_of_classifier(frame: pd.DataFrame, file: str, columns: list[str], classifier: str) -> pd.DataFrame:
    """A classifier's rows of a frame with a row an image; file: where they are from, with {} for the classifier."""
    needed = [*SET_AND_CONDITION, "index", *columns]
    return select(frame, file.format(classifier), needed, classifier=classifier)


def refuse_missing(found: Mapping[Any, Any], file: str, sets: Sequence[str], condition: str) -> None:
    """Raises MissingResultError for the first set without rows under a condition; file: with {} for the set."""
    for name in sets:
        if (name, condition) not in found:
            raise MissingResultError(
                f"{file.format(name)} has no row with denoiser={condition}; delete it and run the rule that makes it."
            )
