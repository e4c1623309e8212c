"""Tables as Markdown, and numbers as they stand in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan

import pandas as pd


def three_significant(value: float) -> str:
    """`value` with three significant digits: 0.0512, 6.02, 13.4, 1230."""
    text = f"{value:#.3g}"
    return f"{value:.0f}" if text.endswith(".") or (value >= 1000 and "e" in text) else text


def with_interval(value: float, low: float, high: float, *, form: Callable[[float], str]) -> str:
    """`value [low, high]`; empty where there is no value."""
    return "" if isnan(value) else f"{form(value)} [{form(low)}, {form(high)}]"


def percent(value: float) -> str:
    """`value`, a number of percent, with two decimals."""
    return f"{value:.2f}"


def short_percent(value: float) -> str:
    """`value`, a number of percent, with one decimal."""
    return f"{value:.1f}"


def _beside(ours: str, paper: float, paper_form: str) -> str:
    """`ours (paper)`, or ours alone where the paper has no number; empty where we have none either."""
    return ours if isnan(paper) or not ours else f"{ours} ({paper:{paper_form}})"


def cells_beside_paper(
    table: pd.DataFrame, column: str, form: Callable[[float], str], paper_form: str = "g"
) -> list[str]:
    """The cells of a column, `ours (paper)` where the paper has a number, `ours [low, high]` with an interval."""
    if f"{column}_ci_low" in table:
        bounds = (table[f"{column}{end}"] for end in ("", "_ci_low", "_ci_high"))
        cells = [with_interval(*values, form=form) for values in zip(*bounds, strict=True)]
    else:
        cells = ["" if isnan(value) else form(value) for value in table[column]]
    return [_beside(ours, paper, paper_form) for ours, paper in zip(cells, table[f"{column}_paper"], strict=True)]


def note_of_intervals(table: pd.DataFrame) -> str:
    """What a caption says of a table's intervals; nothing where it has none."""
    if "interval_covers" not in table:
        return ""
    return f" In brackets: 95% intervals, which cover {table['interval_covers'].iloc[0]}."


def markdown_table(columns: Sequence[tuple[str, Sequence[str]]], n_text_columns: int = 1) -> str:
    """A table of (head, cells) columns: text columns to the left, then numbers to the right."""
    heads = [head for head, _ in columns]
    body = pd.DataFrame(list(zip(*(cells for _, cells in columns), strict=True)), columns=heads)
    alignment = ["left"] * n_text_columns + ["right"] * (len(columns) - n_text_columns)
    return body.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def captioned_table(caption: str, columns: Sequence[tuple[str, Sequence[str]]], n_text_columns: int = 1) -> str:
    """A table beneath its caption, which tells of the paper's numbers where there are any."""
    if any(cell.endswith(")") for _, cells in columns[n_text_columns:] for cell in cells):
        caption += " In parentheses: the paper's number on TinyImageNet, where it has one."
    return f"{caption}\n\n{markdown_table(columns, n_text_columns)}\n"
