"""Figure 4 of the paper, measured: how perturbations lie to the clean feature maps of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perturbflow.figures.page import (
    AXIS,
    GAP,
    HEADING,
    MARGIN,
    Sheet,
    text_width,
)
from perturbflow.figures.style import (
    MARKERS,
    STROKES,
    STYLE,
    draw_frame_of,
    draw_line,
    draw_reference,
    line_of_means,
    words_of_bands,
)
from perturbflow.results.reading import select
from perturbflow.vocabulary import DECISION_PLANE_METRICS, METRICS, RAW, Labels

_GEOMETRY_NOTE = (
    "Change of the margin, true logit minus best other, of a set's images: mean (marker), quartiles (thick),",
    "5th to 95th percentile (thin); dashed: minus the mean clean margin.",
)

_PLOT = 1.2


def geometry_figure(
    distances: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    classifier: str,
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    colors: Mapping[str, str],
    labels: Labels,
) -> Figure:
    """Figure 4 of the paper, measured: how perturbations lie to the clean map, layer by layer, and what they do.

    A column a condition, a line an adversarial set. From the top, by position, the means over the images with their
    95% intervals: the share of the change that lies along the clean map (1: all of it, 0: all lies across), the
    relative change of the norm, the angle in degrees. At the bottom, by set, the change of the margin, which is the
    logit of the true class minus the largest other: mean, quartiles, and 5th and 95th percentile over the images. The
    dashed line is minus the mean margin of the clean images: a set whose mean lies below it has a negative mean margin.

    distances: rows of distances/<classifier>/<set>.csv with along_share, norm_change and angle; predictions: of
    predictions/<classifier>/<set>.csv.gz. colors: of each set. Raises MissingResultError for a line or column that they
    lack.
    """
    conditions = [RAW, *denoisers]
    pairs = [(name, condition) for name in adversarial_sets for condition in conditions]
    lines = {pair: line_of_means(distances, DECISION_PLANE_METRICS, classifier, *pair) for pair in pairs}
    margins = {pair: _margins(predictions, classifier, *pair) for pair in pairs}
    looks = _set_looks(adversarial_sets, colors)
    names = {name: labels.adversarial_set(name) for name in adversarial_sets}
    sheet = Sheet(
        title=labels.classifier(classifier),
        left=AXIS,
        conditions=[labels.condition(condition) for condition in conditions],
        line=lines[pairs[0]],
        samples={names[name]: look for name, look in looks.items()},
        note=[words_of_bands(distances), *_GEOMETRY_NOTE],
    )
    upright = max(map(text_width, names.values())) + 0.1
    height = sheet.head + len(DECISION_PLANE_METRICS) * (_PLOT + GAP) + sheet.words + HEADING + _PLOT + upright + MARGIN
    with mpl.rc_context(STYLE):
        figure, top = sheet.figure(height)
        for number, metric in enumerate(DECISION_PLANE_METRICS):
            top -= _PLOT
            row = sheet.row(figure, top, _PLOT, METRICS[metric].short_axis, titles=number == 0)
            for condition, axes in zip(conditions, row, strict=True):
                for name, look in looks.items():
                    draw_line(axes, lines[name, condition], metric, look)
                draw_frame_of(axes, metric)
                sheet.mark_positions(axes, "words" if number == len(DECISION_PLANE_METRICS) - 1 else "none")
            top -= GAP
        top -= sheet.words + HEADING + _PLOT
        row = sheet.row(figure, top, _PLOT, "change of\nthe margin", titles=True)
        for condition, axes in zip(conditions, row, strict=True):
            _draw_margins(axes, {name: margins[name, condition] for name in adversarial_sets}, looks, names)
    return figure


def _set_looks(adversarial_sets: Sequence[str], colors: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each set; the stroke tells sets of one colour apart."""
    strokes = {name: [one for one in adversarial_sets if colors[one] == colors[name]].index(name) for name in colors}
    return {
        name: {
            "color": colors[name],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": STROKES[strokes[name] % len(STROKES)][0],
        }
        for number, name in enumerate(adversarial_sets)
    }


def _margins(predictions: pd.DataFrame, classifier: str, adversarial_set: str, denoiser: str) -> pd.DataFrame:
    return select(
        predictions,
        f"predictions/{classifier}/{adversarial_set}.csv.gz",
        ["margin", "margin_clean"],
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
    )


def _draw_margins(
    axes: Axes,
    margins: Mapping[str, pd.DataFrame],
    looks: Mapping[str, Mapping[str, Any]],
    names: Mapping[str, str],
) -> None:
    """The spread of each set's change of the margin, with the sets' labels, `names`, upright beneath."""
    clean = pd.concat([rows["margin_clean"] for rows in margins.values()])
    draw_reference(axes, 0)
    draw_reference(axes, -clean.mean(), linestyle=(0, (4, 2)))
    for place, (name, rows) in enumerate(margins.items()):
        change = rows["margin"] - rows["margin_clean"]
        color = looks[name]["color"]
        low, first, third, high = change.quantile([0.05, 0.25, 0.75, 0.95])
        axes.vlines(place, low, high, color=color, linewidth=0.9)
        axes.vlines(place, first, third, color=color, linewidth=3)
        axes.plot(
            [place],
            [change.mean()],
            color="white",
            marker=looks[name]["marker"],
            markersize=4.5,
            markeredgewidth=0.8,
            markeredgecolor=color,
        )
    axes.set_xlim(-0.5, len(margins) - 0.5)
    axes.set_xticks(range(len(margins)), [names[name] for name in margins], rotation=90)
