"""Figures 2 and 3 of the paper: the mean distance between feature maps, layer by layer.

A panel a classifier, a line an adversarial set and denoiser. The legend is a table: beside each line's sample
it prints the distance at the last observed position of every classifier, the numbers that the paper prints in
its panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter

from perturbflow.results import RAW, condition_label, label, select

PALETTE = ("#56B4E9", "#0072B2", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#000000", "#F0E442")
"""Okabe and Ito's colours, distinct for colour-blind readers. Adversarial sets take them in the config's order;
neighbours are of one family, as the paper's sets are: FGSM blue, i-FGSM orange, mi-FGSM green."""

STROKES: tuple[tuple[Any, str], ...] = (
    ("-", "o"),
    ((0, (4, 1.6)), "s"),
    ((0, (1, 1.2)), "^"),
    ((0, (5, 1.2, 1, 1.2)), "D"),
    ((0, (2.5, 1.2)), "v"),
    ((0, (6, 1, 1, 1, 1, 1)), "P"),
)
"""Line style and marker of each condition: the raw adversary, then the denoisers in the config's order."""

METRICS = {
    "normalized_euclidean": ("NE-D", "normalized Euclidean distance (NE-D)"),
    "cosine": ("COS-D", "cosine distance (COS-D)"),
}
"""Short and long wording of each metric; others are shown by their name."""

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

_GREY = "#555555"

# Inches.
_WIDTH = 7.0
_PLOT_HEIGHT = 1.6
_AROUND_PLOT = 0.52  # a panel's title, its position numbers and the gap to the next panel
_CHARACTER = 0.058  # width of an average character at 7 points
_MARGIN = 0.06
_PANELS_A_ROW = 2


class TooManyLinesError(ValueError):
    """More adversarial sets or denoisers than the figure has colours or line styles for."""


def set_colors(adversarial_sets: Sequence[str], colors: Mapping[str, str]) -> dict[str, str]:
    """A colour for each set: the one in `colors`, or the palette's next in turn.

    A set keeps its palette colour when others are named. Raises TooManyLinesError when the palette runs out.
    """
    if without := [name for name in adversarial_sets[len(PALETTE) :] if name not in colors]:
        raise TooManyLinesError(
            f"{len(adversarial_sets)} adversarial sets, but {len(PALETTE)} default colours: name a colour of "
            f"{', '.join(without)} under figures.<name>.colors."
        )
    return {name: colors.get(name, PALETTE[number % len(PALETTE)]) for number, name in enumerate(adversarial_sets)}


def _strokes(conditions: Sequence[str]) -> dict[str, tuple[Any, str]]:
    if len(conditions) > len(STROKES):
        raise TooManyLinesError(
            f"{len(conditions) - 1} denoisers, but line styles for {len(STROKES) - 1}: name fewer under denoisers."
        )
    return dict(zip(conditions, STROKES, strict=False))


def propagation_figure(
    distances: pd.DataFrame,
    *,
    metric: str,
    scale: str,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    colors: Mapping[str, str] | None = None,
) -> Figure:
    """Figure 2 (metric "normalized_euclidean") or 3 ("cosine"): mean distance at each observed position.

    distances: rows of distances/<classifier>/<set>.csv, with classifier, adversarial_set, denoiser, position,
    layer, <metric>_mean, <metric>_ci_low and <metric>_ci_high. scale: of the distance axis, "log" (one range
    for all panels) or "linear" (a range a panel, since classifiers differ by orders of magnitude). Bands are
    the 95% intervals of the means. colors: colours of some or all sets, in place of the palette's.

    Raises MissingResultError for a line that the frame lacks, TooManyLinesError when lines run out of looks.
    """
    conditions = [RAW, *denoisers]
    looks = {
        (name, condition): {"color": color, "linestyle": stroke, "marker": marker}
        for name, color in set_colors(adversarial_sets, colors or {}).items()
        for condition, (stroke, marker) in _strokes(conditions).items()
    }
    lines = {
        (classifier, *line): _line(distances, metric, classifier, *line) for classifier in classifiers for line in looks
    }
    firsts = [lines[classifier, *next(iter(looks))] for classifier in classifiers]
    last = {look: [lines[classifier, *look][f"{metric}_mean"].iloc[-1] for classifier in classifiers] for look in looks}
    short, long = METRICS.get(metric, (metric, metric))
    legend = _Legend(f"{long} at the last position", looks, last)
    with mpl.rc_context(STYLE):
        figure, panels = _layout([_wording(first) for first in firsts], legend, scale)
        for number, (classifier, axes) in enumerate(zip(classifiers, panels, strict=True)):
            for line, look in looks.items():
                _draw_line(axes, lines[classifier, *line], metric, look)
            axes.set_title(f"{_letter(number)}  {label(classifier)}")
            _name_positions(axes, list(firsts[number]["position"]), _wording(firsts[number]))
        for axes in panels[::_PANELS_A_ROW]:
            axes.set_ylabel(f"mean {short}")
    return figure


def save_figure(figure: Figure, path: str | Path, format: str) -> None:
    """Write `figure` as "svg" (text stays text) or "png" (300 dots an inch).

    The same figure gives the same bytes, whatever the day.
    """
    metadata = {"svg": {"Date": None}, "png": {"Software": None}}[format]
    with mpl.rc_context(STYLE):
        figure.savefig(path, format=format, dpi=300, metadata=metadata)


def _line(distances: pd.DataFrame, metric: str, classifier: str, adversarial_set: str, denoiser: str) -> pd.DataFrame:
    columns = ["position", "layer", *(f"{metric}_{part}" for part in ("mean", "ci_low", "ci_high"))]
    rows = select(
        distances,
        f"distances/{classifier}/{adversarial_set}.csv",
        columns,
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
    )
    return rows.sort_values("position")


def _letter(number: int) -> str:
    return chr(ord("a") + number)


def _wording(line: pd.DataFrame) -> list[str]:
    """The layers of a line, each part on a line of its own."""
    return [str(layer).replace(", ", ",\n") for layer in line["layer"]]


@dataclass(frozen=True)
class _Legend:
    """A table whose rows hold a line's name, a sample of it, and its last values; sizes in inches."""

    heading: str
    looks: Mapping[tuple[str, str], Mapping[str, Any]]
    last: Mapping[tuple[str, str], Sequence[float]]
    row: float = 0.138
    column: float = 0.4
    sample: float = 0.3

    @property
    def n_columns(self) -> int:
        return len(next(iter(self.last.values())))

    @property
    def sample_left(self) -> float:
        return 0.04 + _CHARACTER * max(len(label(name)) for name, _ in self.looks)

    @property
    def first_column(self) -> float:
        conditions = max(len(condition_label(condition)) for _, condition in self.looks)
        return self.sample_left + self.sample + 0.06 + _CHARACTER * conditions

    @property
    def width(self) -> float:
        return max(self.first_column + self.column * self.n_columns, _CHARACTER * len(self.heading))

    @property
    def height(self) -> float:
        n_sets = len({name for name, _ in self.looks})
        return self.row * (len(self.looks) + 0.4 * n_sets + 2.5)

    def draw(self, figure: Figure, left: float, top: float) -> None:
        """Draw it with its top left corner at (left, top) inches from the figure's bottom left corner."""
        inches = figure.dpi_scale_trans
        rights = [left + self.width - self.column * n - 0.03 for n in reversed(range(self.n_columns))]

        def text(x: float, y: float, words: str, **style: Any) -> None:
            figure.text(x, y, words, va="center_baseline", transform=inches, **style)

        def stroke(x: Sequence[float], y: float, **style: Any) -> None:
            figure.add_artist(Line2D(x, [y] * len(x), transform=inches, **style))

        y = top - self.row / 2
        text(left, y, self.heading, color=_GREY)
        y -= 1.1 * self.row
        for number, right in enumerate(rights):
            text(right, y, _letter(number), ha="right", weight="bold", size=8)
        for (name, condition), look in self.looks.items():
            y -= self.row
            if condition == RAW:
                y -= 0.4 * self.row
                stroke([left, left + self.width], y + 0.7 * self.row, color="#cccccc", linewidth=0.5)
                text(left, y, label(name))
            start = left + self.sample_left
            stroke([start, start + self.sample / 2, start + self.sample], y, **look, markevery=[1])
            text(start + self.sample + 0.06, y, condition_label(condition))
            for right, value in zip(rights, self.last[name, condition], strict=True):
                text(right, y, _two_significant(value), ha="right")


def _two_significant(value: float) -> str:
    """12, 0.54, 0.0012, 3.4e-5: at most six characters for a distance."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 100:
        return f"{value:#.2g}".rstrip(".")
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _layout(wording: Sequence[Sequence[str]], legend: _Legend, scale: str) -> tuple[Figure, list[Axes]]:
    """Panels two a row; the legend takes the free place of the last row, or a row of its own if too large."""
    n_columns = min(len(wording), _PANELS_A_ROW)
    n_rows = -(-len(wording) // _PANELS_A_ROW)
    letters = [max(len(part) for layer in layers for part in layer.split("\n")) for layers in wording]
    heights = [
        _PLOT_HEIGHT + _AROUND_PLOT + _CHARACTER * max(letters[_PANELS_A_ROW * row :][:_PANELS_A_ROW])
        for row in range(n_rows)
    ]
    width = max(_WIDTH, legend.width + 2 * _MARGIN)
    half = width / _PANELS_A_ROW - 2 * _MARGIN
    shares_row = len(wording) % _PANELS_A_ROW > 0 and legend.width < half and legend.height + _MARGIN < heights[-1]
    below = 0.0 if shares_row else legend.height + 3 * _MARGIN
    height = below + sum(heights)
    figure = Figure(figsize=(width, height))
    engine = ConstrainedLayoutEngine(
        rect=(0, below / height, n_columns / _PANELS_A_ROW, 1 - below / height), hspace=0.02
    )
    figure.set_layout_engine(engine)
    grid = figure.add_gridspec(n_rows, n_columns)
    panels: list[Axes] = []
    for number in range(len(wording)):
        share = panels[0] if panels and scale == "log" else None
        panels.append(figure.add_subplot(grid[divmod(number, _PANELS_A_ROW)], sharey=share, yscale=scale))
    if shares_row:
        legend.draw(figure, width - half, heights[-1] - _MARGIN)
    else:
        legend.draw(figure, (width - legend.width) / 2, below - _MARGIN)
    return figure, panels


def _draw_line(axes: Axes, line: pd.DataFrame, metric: str, look: Mapping[str, Any]) -> None:
    axes.plot(line["position"], line[f"{metric}_mean"], **look)
    axes.fill_between(
        line["position"],
        line[f"{metric}_ci_low"],
        line[f"{metric}_ci_high"],
        color=look["color"],
        alpha=0.13,
        linewidth=0,
    )


def _name_positions(axes: Axes, positions: Sequence[int], wording: Sequence[str]) -> None:
    """Number the positions, with what the layer is in upright words beneath."""
    axes.set_xticks(positions)
    axes.yaxis.set_minor_formatter(NullFormatter())
    words = axes.secondary_xaxis("bottom")
    words.set_xticks(positions, wording, rotation=90, multialignment="right", linespacing=1.0)
    words.tick_params(length=0, pad=15.5, labelcolor=_GREY)
    words.spines["bottom"].set_visible(False)
