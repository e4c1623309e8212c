"""Figure 4 of the paper, measured: how perturbations lie to the clean feature maps of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import matplotlib as mpl
import numpy as np
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
from perturbflow.results.bootstrap import Array, by_image, estimate, resampled_means
from perturbflow.results.reading import select
from perturbflow.vocabulary import DECISION_PLANE_METRICS, METRICS, RAW, Labels

_GEOMETRY_NOTE = (
    "Share along the clean logits, their mean taken off: mean and 95% interval, filled: adversaries, open: noise;",
    "a plane is called tangential above a half, radial below.",
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
    controls: Mapping[str, str],
    colors: Mapping[str, str],
    labels: Labels,
) -> Figure:
    """Figure 4 of the paper, measured: how perturbations lie to the clean map, layer by layer, and what they do.

    A column a condition, a line an adversarial set. From the top, by position, the means over the images with their
    95% intervals: the share of the change that lies along the clean map (1: all of it, 0: all lies across), the
    relative change of the norm, the angle in degrees. Beneath, by set, with noise beside the adversary whose norm it
    has: the share along the clean logits with their mean taken off, which is what decision_planes.csv calls a plane by;
    and the change of the margin, which is the logit of the true class minus the largest other: mean, quartiles, and 5th
    and 95th percentile over the images of all trainings. The dashed line is minus the mean margin of the clean images:
    a set whose mean lies below it has a negative mean margin.

    distances: rows of distances/<classifier>/<set>.csv with along_share, norm_change and angle, one a set, condition
    and position; predictions: of predictions/<classifier>/<set>.csv.gz, of one training or of several. controls: by
    control set, the set whose norms it has. colors: of each set. Raises MissingResultError for a line or column that
    they lack.
    """
    conditions = [RAW, *denoisers]
    pairs = [(name, condition) for name in adversarial_sets for condition in conditions]
    lines = {pair: line_of_means(distances, DECISION_PLANE_METRICS, classifier, *pair) for pair in pairs}
    logits = _at_logits(predictions, classifier, pairs)
    looks = _set_looks(adversarial_sets, colors)
    names = {name: labels.adversarial_set(name) for name in _noise_beside(adversarial_sets, controls)}
    sheet = Sheet(
        title=labels.classifier(classifier),
        left=AXIS,
        conditions=[labels.condition(condition) for condition in conditions],
        line=lines[pairs[0]],
        samples={names[name]: look for name, look in looks.items()},
        note=[words_of_bands(distances), *_GEOMETRY_NOTE],
    )
    upright = max(map(text_width, names.values())) + 0.1
    n_rows = len(DECISION_PLANE_METRICS) + 2
    height = sheet.head + n_rows * (_PLOT + GAP) + sheet.words + HEADING - GAP + upright + MARGIN
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
        planes = sheet.row(figure, top, _PLOT, "mean share along\nthe clean logits", titles=True)
        margins = sheet.row(figure, top - GAP - _PLOT, _PLOT, "change of\nthe margin", titles=False)
        for condition, plane, margin in zip(conditions, planes, margins, strict=True):
            of_sets = {name: logits[name, condition] for name in names}
            _draw_planes(plane, of_sets, looks, controls)
            _draw_margins(margin, of_sets, looks)
            for axes, words in ((plane, [""] * len(names)), (margin, [*names.values()])):
                axes.set_xlim(-0.5, len(names) - 0.5)
                axes.set_xticks(range(len(names)), words, rotation=90)
    return figure


def _noise_beside(adversarial_sets: Sequence[str], controls: Mapping[str, str]) -> list[str]:
    """The sets, each control behind the set whose norms it has."""
    return sorted(adversarial_sets, key=lambda name: adversarial_sets.index(controls.get(name, name)))


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


@dataclass(frozen=True)
class _AtLogits:
    """What a set under a condition does at the logits.

    share: along the clean ones, of the centred logits: its mean, and the ends of the 95% interval. margin_change:
    (n_trainings, n_images), NaN where there is none. margin_clean: its mean.
    """

    share: tuple[float, float, float]
    margin_change: Array
    margin_clean: float


def _at_logits(
    predictions: pd.DataFrame, classifier: str, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], _AtLogits]:
    """By set and denoiser."""
    keys = ["adversarial_set", "denoiser"]
    rows = pd.concat(
        select(
            predictions,
            f"predictions/{classifier}/{adversarial_set}.csv.gz",
            ["index", "logits_along_share", "margin", "margin_clean"],
            classifier=classifier,
            adversarial_set=adversarial_set,
            denoiser=denoiser,
        )
        for adversarial_set, denoiser in pairs
    )
    found, shares = by_image(rows, keys, "logits_along_share")
    changes, clean = (
        by_image(rows.assign(value=values), keys, "value")[1]
        for values in (rows["margin"] - rows["margin_clean"], rows["margin_clean"])
    )
    n_images = (~np.isnan(shares)).any(axis=0).sum(axis=0)
    mean = estimate(resampled_means(shares), n_images)
    low, high = mean.interval()
    return {
        pair: _AtLogits((mean.value[at], low[at], high[at]), changes[..., at], float(np.nanmean(clean[..., at])))
        for at, pair in enumerate(found)
    }


def _draw_planes(
    axes: Axes,
    sets: Mapping[str, _AtLogits],
    looks: Mapping[str, Mapping[str, Any]],
    controls: Mapping[str, str],
) -> None:
    """The share along the clean logits of each set, with its interval."""
    draw_reference(axes, 0.5)
    for place, (name, logits) in enumerate(sets.items()):
        mean, low, high = logits.share
        axes.vlines(place, low, high, color=looks[name]["color"], linewidth=0.9)
        _draw_marker(axes, place, mean, looks[name], "white" if name in controls else looks[name]["color"])
    axes.set_ylim(0, 1)


def _draw_margins(axes: Axes, sets: Mapping[str, _AtLogits], looks: Mapping[str, Mapping[str, Any]]) -> None:
    """The spread of each set's change of the margin."""
    draw_reference(axes, 0)
    draw_reference(axes, -fmean(logits.margin_clean for logits in sets.values()), linestyle=(0, (4, 2)))
    for place, (name, logits) in enumerate(sets.items()):
        color = looks[name]["color"]
        low, first, third, high = np.nanquantile(logits.margin_change, [0.05, 0.25, 0.75, 0.95])
        axes.vlines(place, low, high, color=color, linewidth=0.9)
        axes.vlines(place, first, third, color=color, linewidth=3)
        _draw_marker(axes, place, float(np.nanmean(logits.margin_change)), looks[name], "white")


def _draw_marker(axes: Axes, place: int, value: float, look: Mapping[str, Any], fill: str) -> None:
    axes.plot(
        [place],
        [value],
        color=fill,
        marker=look["marker"],
        markersize=4.5,
        markeredgewidth=0.8,
        markeredgecolor=look["color"],
    )
