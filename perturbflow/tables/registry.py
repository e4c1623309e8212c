"""From result files to a table's two files: what the scripts of the tables share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perturbflow.files.whole import whole_file
from perturbflow.results.reading import read_results
from perturbflow.tables.rows import Table


def write_table(
    table: Table,
    inputs: Mapping[str, str | Iterable[str]],
    settings: Mapping[str, Any],
    csv: str,
    markdown: str,
) -> None:
    """Make a table and write it as CSV and as Markdown.

    inputs: files of each frame that the table's function takes, by the name of the argument. settings: its other
    arguments; `script` and `code`, which the rule's params hold beside them, are left out.
    """
    frames = {name: read_results(paths, table.columns.get(name)) for name, paths in inputs.items()}
    result = table.build(
        **frames, **{name: value for name, value in settings.items() if name not in ("script", "code")}
    )
    with whole_file(csv) as temporary:
        result.to_csv(temporary, index=False, float_format="%.6g")
    with whole_file(markdown) as temporary:
        temporary.write_text(table.markdown(result), encoding="utf-8")
