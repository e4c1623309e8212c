"""Figures 2, 3, 5 and 6 of the paper: a metric of the feature maps, layer by layer.

A panel a classifier and metric, a line an adversarial set and denoiser. The legend is a table: beside each line's
sample it prints the value at the last observed position in every panel, the numbers that the paper prints in
its panels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import floor, isnan, log10
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from perturbflow.figures.page import (
    MARGIN,
    ROW,
    SAMPLE,
    WIDTH,
    inch_sample,
    inch_stroke,
    inch_text,
    name_positions,
    text_width,
    wrapped,
)
from perturbflow.figures.style import (
    GREY,
    RULE,
    STROKES,
    STYLE,
    TooManyLinesError,
    draw_frame_of,
    draw_line,
    line_of_means,
    words_of_bands,
)
from perturbflow.vocabulary import RAW, Labels, metric_named

# Inches.
_PLOT_HEIGHT = 1.6
_TALL_PLOT_HEIGHT = 2.2  # of more lines than _FEW_LINES
_AROUND_PLOT = 0.52  # a panel's title, its position numbers and the gap to the next panel
_AROUND_PLOTS = 0.55  # what a row's axes leave of the width, a panel
_TITLE = 0.2  # the figure's
_PANELS_A_ROW = 2
_FEW_LINES = 16
_WIDEST_BESIDE = 3.7  # a legend beside a panel


def _strokes(conditions: Sequence[str]) -> dict[str, tuple[Any, str]]:
    if len(conditions) > len(STROKES):
        raise TooManyLinesError(
            f"{len(conditions) - 1} denoisers, but line styles for {len(STROKES) - 1}: name fewer under "
            "figures.<name>.denoisers."
        )
    return dict(zip(conditions, STROKES, strict=False))


def propagation_figure(
    distances: pd.DataFrame,
    *,
    metrics: Sequence[str],
    scale: str,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    colors: Mapping[str, str],
    labels: Labels,
) -> Figure:
    """Each metric at each observed position of each classifier: mean over the images and its 95% interval.

    Figure 2 (metrics ["normalized_euclidean"]) and 3 (["cosine"]) of the paper have a panel a classifier; 5 and 6
    (both metrics) a panel a metric of one classifier.

    distances: rows of distances/<classifier>/<set>.csv, with classifier, adversarial_set, denoiser, position,
    layer, and <metric>_mean, <metric>_ci_low and <metric>_ci_high of each metric. colors: of each
    set.

    scale: of the axes of values, "log" (one range for all panels of a metric) or "linear" (a range a panel, since
    classifiers differ by orders of magnitude). With "log", a metric that may be negative, and shares and linear CKA,
    which lie in 0..1, stay linear; a metric with means of zero gets a scale that is linear from zero to the power
    of ten below the least other mean, and logarithmic from there ("symlog").

    Raises MissingResultError for a line or column that the frame lacks, TooManyLinesError when strokes run out.
    """
    looks = {
        (name, condition): {"color": colors[name], "linestyle": stroke, "marker": marker}
        for name in adversarial_sets
        for condition, (stroke, marker) in _strokes([RAW, *denoisers]).items()
    }
    panels = [
        _Panel(classifier, metric, {look: line_of_means(distances, metrics, classifier, *look) for look in looks})
        for classifier in classifiers
        for metric in metrics
    ]
    heading = metric_named(metrics[0]).long if len(metrics) == 1 else "values"
    last = {look: [panel.printed_last(look) for panel in panels] for look in looks}
    legend = _Legend(f"{heading} at the last position", looks, last, labels, words_of_bands(distances))
    title = labels.classifier(classifiers[0]) if len(classifiers) == 1 else ""
    scales = {metric: _scale([panel for panel in panels if panel.metric == metric], scale) for metric in metrics}
    with mpl.rc_context(STYLE):
        figure, grid = _layout(panels, legend, title)
        for number, (panel, axes) in enumerate(zip(panels, grid, strict=True)):
            first = next(axes for axes, other in zip(grid, panels, strict=True) if other.metric == panel.metric)
            if axes is not first and scales[panel.metric]["value"] != "linear":
                axes.sharey(first)
            panel.draw(axes, looks, scales[panel.metric])
            axes.set_title(f"{_letter(number)}  {panel.title(labels, len(classifiers), len(metrics))}")
            if number % _PANELS_A_ROW == 0 or len(metrics) > 1:
                axes.set_ylabel(metric_named(panel.metric).axis)
        for axes in grid:
            _number_short_range(axes)
    return figure


def _letter(number: int) -> str:
    """a to z, then aa, ab and so on."""
    letter = chr(ord("a") + number % 26)
    return letter if number < 26 else _letter(number // 26 - 1) + letter


_Look = tuple[str, str]  # adversarial set, condition


@dataclass(frozen=True)
class _Panel:
    """A metric of a classifier: the line of each set and condition, with the columns of all metrics."""

    classifier: str
    metric: str
    lines: Mapping[_Look, pd.DataFrame]

    @property
    def first(self) -> pd.DataFrame:
        return next(iter(self.lines.values()))

    @property
    def pitch(self) -> float:
        """Inches between two positions."""
        return (WIDTH / _PANELS_A_ROW - _AROUND_PLOTS) / len(self.first)

    @property
    def words(self) -> list[str]:
        return wrapped([str(layer) for layer in self.first["layer"]], self.pitch)

    @property
    def means(self) -> pd.Series[float]:
        return pd.concat([line[f"{self.metric}_mean"] for line in self.lines.values()])

    def title(self, labels: Labels, n_classifiers: int, n_metrics: int) -> str:
        """What tells it from the other panels."""
        classifier, metric = labels.classifier(self.classifier), metric_named(self.metric)
        if n_metrics == 1:
            return classifier if n_classifiers > 1 else metric.long
        return metric.title if n_classifiers == 1 else f"{classifier}, {metric.title}"

    def printed_last(self, look: _Look) -> str:
        value = float(self.lines[look][f"{self.metric}_mean"].iloc[-1])
        return _printed(value, metric_named(self.metric).decimals)

    def draw(self, axes: Axes, looks: Mapping[_Look, Mapping[str, Any]], scale: Mapping[str, Any]) -> None:
        axes.set_yscale(**scale)
        axes.yaxis.set_minor_formatter(NullFormatter())
        for line, look in looks.items():
            draw_line(axes, self.lines[line], self.metric, look)
        draw_frame_of(axes, self.metric)
        if scale["value"] == "symlog":
            axes.set_ylim(bottom=0)
        name_positions(axes, list(self.first["position"]), self.words, self.pitch)


def _scale(panels: Sequence[_Panel], scale: str) -> dict[str, Any]:
    """The scale of a metric's panels, in matplotlib's words."""
    means = pd.concat([panel.means for panel in panels])
    if scale == "linear" or not metric_named(panels[0].metric).log or (means < 0).any() or not (means > 0).any():
        return {"value": "linear"}
    if (means == 0).any():
        return {"value": "symlog", "linthresh": 10.0 ** floor(log10(means[means > 0].min())), "linscale": 0.5}
    return {"value": "log"}


def _number_short_range(axes: Axes) -> None:
    """Plain numbers, and more than the powers of ten, on a log axis that spans fewer than two of them."""
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log" and high / low < 100:
        axes.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5)) if high / low > 6 else MaxNLocator(8, steps=[1, 2, 5, 10])
        )
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("e-0", "e-")))


def _printed(value: float, decimals: int | None) -> str:
    """12, 0.54, 0.0012, 3.4e-5: two significant digits, or so many decimals; a dash for what is undefined."""
    if isnan(value):
        return "\N{EN DASH}"
    if decimals is not None:
        words = f"{value:.{decimals}f}"
    elif value == 0:
        words = "0"
    elif 1e-3 <= abs(value) < 100:
        words = f"{value:#.2g}".rstrip(".")
    else:
        mantissa, exponent = f"{value:.1e}".split("e")
        words = f"{mantissa}e{int(exponent)}"
    return words.replace("-", "\N{MINUS SIGN}")


@dataclass(frozen=True)
class _Legend:
    """A table whose rows hold a line's name, a sample of it, and its last values, in blocks side by side; and a note.

    Sizes in inches.
    """

    heading: str
    looks: Mapping[_Look, Mapping[str, Any]]
    last: Mapping[_Look, Sequence[str]]
    labels: Labels
    note: str
    n_blocks: int = 1
    gap: float = 0.3

    @property
    def blocks(self) -> list[list[_Look]]:
        names = list(dict.fromkeys(name for name, _ in self.looks))
        size = -(-len(names) // self.n_blocks)
        parts = [names[start : start + size] for start in range(0, len(names), size)]
        return [[look for look in self.looks if look[0] in part] for part in parts]

    @property
    def n_columns(self) -> int:
        return len(next(iter(self.last.values())))

    @property
    def column(self) -> float:
        return 0.09 + max(text_width(value) for values in self.last.values() for value in values)

    @property
    def sample_left(self) -> float:
        return 0.06 + max(text_width(self.labels.adversarial_set(name)) for name, _ in self.looks)

    @property
    def first_column(self) -> float:
        conditions = max(text_width(self.labels.condition(condition)) for _, condition in self.looks)
        return self.sample_left + SAMPLE + 0.12 + conditions

    @property
    def block(self) -> float:
        return self.first_column + self.column * self.n_columns

    @property
    def width(self) -> float:
        words = max(map(text_width, (self.heading, self.note)))
        return max(self.n_blocks * (self.block + self.gap) - self.gap, words)

    @property
    def height(self) -> float:
        return ROW * (4 + max(len(block) + 0.4 * len({name for name, _ in block}) for block in self.blocks))

    def in_width(self, width: float) -> _Legend:
        """The same in as many blocks as fit in `width`, and no more than there are sets."""
        n_sets = len({name for name, _ in self.looks})
        return replace(self, n_blocks=max(1, min(n_sets, int((width + self.gap) / (self.block + self.gap)))))

    def draw(self, figure: Figure, left: float, top: float) -> None:
        """Draw it with its top left corner at (left, top) inches from the figure's bottom left corner."""
        inch_text(figure, left, top - ROW / 2, self.heading, color=GREY)
        for number, block in enumerate(self.blocks):
            self._draw_block(figure, block, left + number * (self.block + self.gap), top - 1.6 * ROW)
        inch_text(figure, left, top - self.height + ROW / 2, self.note, color=GREY)

    def _draw_block(self, figure: Figure, block: Sequence[_Look], left: float, y: float) -> None:
        rights = [left + self.block - self.column * n for n in reversed(range(self.n_columns))]
        for number, right in enumerate(rights):
            inch_text(figure, right, y, _letter(number), ha="right", weight="bold", size=8)
        for name, condition in block:
            y -= ROW
            if condition == RAW:
                y -= 0.4 * ROW
                inch_stroke(figure, [left, left + self.block], y + 0.7 * ROW, color=RULE, linewidth=0.5)
                inch_text(figure, left, y, self.labels.adversarial_set(name))
            start = left + self.sample_left
            inch_sample(figure, start, y, SAMPLE, self.looks[name, condition])
            inch_text(figure, start + SAMPLE + 0.06, y, self.labels.condition(condition))
            for right, value in zip(rights, self.last[name, condition], strict=True):
                inch_text(figure, right, y, value, ha="right")


@dataclass(frozen=True)
class _Sheet:
    """Where the legend lies, and how far the panels reach; inches from the bottom left corner.

    below: height beneath the last row of panels. n_columns: of panels, in the width from 0 to `panels`.
    """

    legend: _Legend
    left: float
    top: float
    below: float
    n_columns: int
    panels: float
    width: float


def _sheet(legend: _Legend, n_panels: int, last_row: float) -> _Sheet:
    """The legend in the free place beside the last panel, or beneath the panels where that takes less height."""
    n_columns = min(n_panels, _PANELS_A_ROW)
    blocks = legend.in_width(WIDTH - 2 * MARGIN)
    has_place = n_panels % _PANELS_A_ROW > 0 and legend.width <= _WIDEST_BESIDE
    if has_place and legend.height - last_row < blocks.height:
        column = max(WIDTH / _PANELS_A_ROW, legend.width + 3 * MARGIN)
        left = (_PANELS_A_ROW - 1) * column + 2 * MARGIN
        below = max(0.0, legend.height + 2 * MARGIN - last_row)
        return _Sheet(
            legend, left, below + last_row - MARGIN, below, n_columns, n_columns * column, _PANELS_A_ROW * column
        )
    width = max(WIDTH, blocks.width + 2 * MARGIN)
    below = blocks.height + 3 * MARGIN
    return _Sheet(blocks, (width - blocks.width) / 2, below - MARGIN, below, n_columns, width, width)


def _layout(panels: Sequence[_Panel], legend: _Legend, title: str) -> tuple[Figure, list[Axes]]:
    """Panels two a row under the title, and the legend."""
    words = [max(text_width(layer) for layer in panel.words) for panel in panels]
    plot = _PLOT_HEIGHT if len(panels[0].lines) <= _FEW_LINES else _TALL_PLOT_HEIGHT
    heights = [
        plot + _AROUND_PLOT + max(words[start : start + _PANELS_A_ROW])
        for start in range(0, len(panels), _PANELS_A_ROW)
    ]
    sheet = _sheet(legend, len(panels), heights[-1])
    height = sheet.below + sum(heights) + (_TITLE if title else 0)
    figure = Figure(figsize=(sheet.width, height))
    if title:
        inch_text(figure, MARGIN, height - _TITLE / 2, title, weight="bold", size=8)
    rect = (0, sheet.below / height, sheet.panels / sheet.width, sum(heights) / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=rect, hspace=0.02))
    grid = figure.add_gridspec(len(heights), sheet.n_columns)
    drawn = [figure.add_subplot(grid[divmod(number, sheet.n_columns)]) for number in range(len(panels))]
    sheet.legend.draw(figure, sheet.left, sheet.top)
    return figure, drawn
