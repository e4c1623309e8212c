"""The look of the figures: strokes, markers, fonts, and how a figure becomes a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perturbflow.results.reading import select
from perturbflow.vocabulary import metric_named

STROKES: tuple[tuple[Any, str], ...] = (
    ("-", "o"),
    ((0, (4, 1.6)), "s"),
    ((0, (1, 1.2)), "^"),
    ((0, (5, 1.2, 1, 1.2)), "D"),
    ((0, (2.5, 1.2)), "v"),
    ((0, (6, 1, 1, 1, 1, 1)), "P"),
)
"""Line styles and markers, alike to no other in grey."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.0,
    "lines.markersize": 2.8,
    "lines.markeredgewidth": 0,
    "svg.fonttype": "none",
    "svg.hashsalt": "perturbflow",
}

GREY = "#555555"
RULE = "#cccccc"


class TooManyLinesError(ValueError):
    """More denoisers than the figure has line styles for."""


def save_figure(figure: Figure, path: str | Path, format: str) -> None:
    """Write `figure` as "svg" (text stays text) or "png" (300 dots an inch).

    The same figure gives the same bytes, whatever the day.
    """
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[format]
    with mpl.rc_context(STYLE):
        figure.savefig(path, format=format, dpi=300, metadata=metadata)


def line_of_means(
    distances: pd.DataFrame, metrics: Sequence[str], classifier: str, adversarial_set: str, denoiser: str
) -> pd.DataFrame:
    """The rows of one line, by position: means and intervals of the metrics.

    distances: rows of distances/<classifier>/<set>.csv. Raises MissingResultError for a line or column that they lack.
    """
    values = [f"{metric}_{part}" for metric in metrics for part in ("mean", "ci_low", "ci_high")]
    rows = select(
        distances,
        f"distances/{classifier}/{adversarial_set}.csv",
        ["position", "layer", *values],
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
    )
    return rows.sort_values("position")


def words_of_bands(rows: pd.DataFrame) -> str:
    """What bands are, by the column `interval_covers` of the rows that are drawn.

    Raises MissingResultError where it is not there.
    """
    covered = select(rows, "the file of the intervals", ["interval_covers"])["interval_covers"].iloc[0]
    return f"Bands: 95% intervals; they cover {covered}."


def draw_line(axes: Axes, line: pd.DataFrame, metric: str, look: Mapping[str, Any]) -> None:
    """Draw <metric>_mean by position, with a band from <metric>_ci_low to <metric>_ci_high."""
    axes.plot(line["position"], line[f"{metric}_mean"], **look)
    draw_band(axes, line["position"], line[f"{metric}_ci_low"], line[f"{metric}_ci_high"], look["color"])


def draw_band(axes: Axes, x: Any, low: Any, high: Any, color: str) -> None:
    """Shade between `low` and `high`."""
    axes.fill_between(x, low, high, color=color, alpha=0.13, linewidth=0)


def draw_reference(axes: Axes, value: float, **look: Any) -> None:
    """Draw a thin horizontal line beneath the data."""
    axes.axhline(value, **{"color": GREY, "linewidth": 0.7, "zorder": 1, **look})


def draw_frame_of(axes: Axes, metric: str) -> None:
    """Draw the metric's reference, and let the axis show its span."""
    shown = metric_named(metric)
    if shown.reference is not None:
        draw_reference(axes, shown.reference)
    if shown.span is not None:
        axes.update_datalim([(1, end) for end in shown.span])
        axes.autoscale_view()
