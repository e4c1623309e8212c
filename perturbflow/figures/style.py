"""The look of the figures: colours, strokes, fonts, the wording of the metrics, and how a figure becomes a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PALETTE = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#000000", "#999999")
"""Okabe and Ito's colours, distinct for colour-blind readers, with grey for their yellow, too pale a line on white.
Adversarial sets take them in the config's order;
neighbours are of one family, as the paper's sets are: FGSM blue, i-FGSM orange, mi-FGSM green."""

STROKES: tuple[tuple[Any, str], ...] = (
    ("-", "o"),
    ((0, (4, 1.6)), "s"),
    ((0, (1, 1.2)), "^"),
    ((0, (5, 1.2, 1, 1.2)), "D"),
    ((0, (2.5, 1.2)), "v"),
    ((0, (6, 1, 1, 1, 1, 1)), "P"),
)
"""Line styles and markers, alike to no other in grey."""

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
    """More adversarial sets or denoisers than the figure has colours or line styles for."""


@dataclass(frozen=True)
class Wording:
    """What the figures call a metric.

    title: of a panel. axis: of the axis of its values. long: in the legend's heading. reference: where a line is
    drawn for comparison. span: what the axis shows at least. log: may get a log scale; False where values may be
    negative or are shares of a whole. decimals: of the printed values; None gives two significant digits.
    """

    title: str
    axis: str
    long: str
    reference: float | None = None
    span: tuple[float, float] | None = None
    log: bool = True
    decimals: int | None = None


_WORDINGS = {
    "normalized_euclidean": Wording("NE-D", "mean NE-D", "normalized Euclidean distance (NE-D)"),
    "cosine": Wording("COS-D", "mean COS-D", "cosine distance (COS-D)"),
    "relative_error": Wording("relative error", "mean relative error", "relative error"),
    "along": Wording(
        "part along clean", "mean part along clean map", "part along the clean map", reference=0, log=False
    ),
    "across": Wording("part across clean", "mean part across clean map", "part across the clean map"),
    "along_share": Wording(
        "share along clean", "mean share along clean map", "share along the clean map", span=(0, 1), log=False
    ),
    "norm_change": Wording(
        "change of norm", "mean relative change of norm", "relative change of the norm", reference=0, log=False
    ),
    "angle": Wording("angle", "mean angle (degrees)", "angle to the clean map (degrees)"),
    "gain": Wording("gain", "mean gain", "gain over the layer before", reference=1),
    "linear_cka": Wording("linear CKA", "linear CKA", "linear CKA", span=(0, 1), log=False, decimals=3),
}


def wording_of(metric: str) -> Wording:
    """What the figures call `metric`; one that they do not know is shown by its name."""
    return _WORDINGS.get(metric, Wording(metric, f"mean {metric}", metric))


def set_colors(adversarial_sets: Sequence[str], colors: Mapping[str, str]) -> dict[str, str]:
    """A colour for each set: the one in `colors`, or the palette's next in turn.

    A set keeps its palette colour when others are named. Raises TooManyLinesError when the palette runs out.
    """
    if without := [name for name in adversarial_sets[len(PALETTE) :] if name not in colors]:
        raise TooManyLinesError(
            f"{len(adversarial_sets)} adversarial sets, but {len(PALETTE)} default colours: name a colour of "
            f"{', '.join(without)} under figures.<name>.colors, or fewer sets under figures.<name>.adversarial_sets."
        )
    return {name: colors.get(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(adversarial_sets)}


def save_figure(figure: Figure, path: str | Path, format: str) -> None:
    """Write `figure` as "svg" (text stays text) or "png" (300 dots an inch).

    The same figure gives the same bytes, whatever the day.
    """
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[format]
    with mpl.rc_context(STYLE):
        figure.savefig(path, format=format, dpi=300, metadata=metadata)


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
    wording = wording_of(metric)
    if wording.reference is not None:
        draw_reference(axes, wording.reference)
    if wording.span is not None:
        axes.update_datalim([(1, end) for end in wording.span])
        axes.autoscale_view()
