"""A table: how it is made from frames, how it reads as Markdown, and how it becomes files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from perturbflow.files.whole import whole_file
from perturbflow.results.reading import read_results
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
) -> None:
    """Make a table and write it as CSV and as Markdown.

    inputs: files of each frame that the table's function takes, by the name of the argument. settings: its other
    arguments. labels: those that the study's config gives, as `Labels` takes them.
    """
    frames = {name: read_results(paths, table.columns.get(name)) for name, paths in inputs.items()}
    result = table.build(**frames, **settings)
    with whole_file(csv) as temporary:
        result.to_csv(temporary, index=False, float_format="%.6g")
    with whole_file(markdown) as temporary:
        temporary.write_text(table.markdown(result, Labels(labels)), encoding="utf-8")
