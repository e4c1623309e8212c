"""A benchmark's results, and the table that shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd


@dataclass(frozen=True)
class Result:
    """One comparison.

    stage: of the study. what: is compared. ours and theirs: what was measured, in `unit`; theirs is that of `against`.
    ratio: of the two, ours / theirs of costs, or theirs / ours where it says how many times faster ours is.
    bound: the ratio's, as `<= 1.1` or `>= 1.4`; empty where there is none. None stands for what was not measured.
    """

    stage: str
    what: str
    ours: float | None
    unit: str
    against: str = ""
    theirs: float | None = None
    ratio: float | None = None
    bound: str = ""

    @property
    def holds(self) -> str:
        """`yes` or `no`, empty without a bound, `not measured` without a ratio."""
        if self.ours is None:
            return "not measured"
        if not self.bound or self.ratio is None:
            return ""
        sign, limit = self.bound.split()
        return "yes" if {"<=": self.ratio <= float(limit), ">=": self.ratio >= float(limit)}[sign] else "no"


def table(results: Iterable[Result]) -> str:
    """The results as a table in Markdown."""
    rows = [
        {
            "stage": result.stage,
            "what": result.what,
            "ours": _number(result.ours),
            "unit": result.unit,
            "against": result.against,
            "theirs": _number(result.theirs),
            "ratio": "" if result.ratio is None else f"{result.ratio:.3f}",
            "bound": result.bound,
            "holds": result.holds,
        }
        for result in results
    ]
    return pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def save(results: Sequence[Result], path: Path) -> None:
    """Write results, which `load` reads again."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1), encoding="utf-8")


def load(path: Path) -> list[Result]:
    """Results that `save` wrote."""
    return [Result(**row) for row in json.loads(path.read_text(encoding="utf-8"))]


def record(page: Path, device: str, text: str) -> None:
    """Replace what a page says between its marks for a device. Raises ValueError where it lacks them."""
    begin, end = f"<!-- measured: {device} -->\n", "<!-- end -->"
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{page} has no place for results of {device}: {begin.strip()} ... {end}")
    page.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")
