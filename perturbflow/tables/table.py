"""A table: how it is made from frames, how it reads as Markdown, and how it becomes files."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from perturbflow.files.whole import whole_file
from perturbflow.results.reading import read_results
from perturbflow.results.warnings import StudyWarning
from perturbflow.vocabulary import Labels


@dataclass(frozen=True)
class Table:
    """How a table is made from frames, and how that table reads as Markdown.

    columns: by argument of `build`, the columns that it uses, where the files hold many more.
    """

    build: Callable[..., pd.DataFrame]
    markdown: Callable[[pd.DataFrame, Labels], str]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


def write_table(
    table: Table,
    inputs: Mapping[str, str | Iterable[str]],
    settings: Mapping[str, Any],
    labels: Mapping[str, Mapping[str, str]],
    csv: str,
    markdown: str,
    warnings: Sequence[StudyWarning] = (),
) -> None:
    """Make a table and write it as CSV and as Markdown.

    inputs: files of each frame that the table's function takes, by the name of the argument. settings: its other
    arguments. labels: those that the study's config gives, as `Labels` takes them. warnings: those that touch rows of
    the table stand in a last column, and beneath it in Markdown.
    """
    frames = {name: read_results(paths, table.columns.get(name)) for name, paths in inputs.items()}
    result = table.build(**frames, **settings)
    text = table.markdown(result, Labels(labels)) + _notes(result, warnings, Labels(labels))
    with whole_file(csv) as temporary:
        with_warnings(result, warnings).to_csv(temporary, index=False, float_format="%.6g")
    with whole_file(markdown) as temporary:
        temporary.write_text(text, encoding="utf-8")


SUBJECTS = {"classifier": ("classifier", "attacker", "stopping_classifier"), "adversarial_set": ("adversarial_set",)}
"""The columns of tables that name what a warning is about."""


def with_warnings(table: pd.DataFrame, warnings: Sequence[StudyWarning]) -> pd.DataFrame:
    """A table with a column `warnings`: those about the classifiers and sets that a row names, each after a name."""

    def about(row: Mapping[Hashable, Any]) -> str:
        found = [
            f"{one.name}: {one.text}"
            for one in warnings
            if one.name in [row.get(column) for column in SUBJECTS.get(one.about, ())]
        ]
        return "; ".join(dict.fromkeys(found))

    return table.assign(warnings=[about(row) for row in table.to_dict("records")])


def _notes(table: pd.DataFrame, warnings: Sequence[StudyWarning], labels: Labels) -> str:
    """The warnings about what a table names, as Markdown; all of them where it names nothing by itself."""
    label = {"classifier": labels.classifier, "adversarial_set": labels.adversarial_set}
    names_any = any(column in table for columns in SUBJECTS.values() for column in columns)
    lines = []
    for one in warnings:
        columns = [column for column in SUBJECTS.get(one.about, ()) if column in table]
        if not names_any or table[columns].isin([one.name]).any(axis=None):
            lines.append(f"- {label[one.about](one.name)}: {one.text}.")
    return "\n".join(["\nTo be minded:\n", *dict.fromkeys(lines), ""]) if lines else ""
