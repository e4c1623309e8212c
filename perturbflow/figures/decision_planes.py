"""How perturbations lie to the clean feature maps of a classifier, and which part of them, at which layer, does harm.

`geometry_figure` measures what Figure 4 of the paper guesses; `intervention_figure` tests it by cause: what the
classifier says when its pass goes on from the clean map and a part of the perturbation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perturbflow.figures.style import (
    GREY,
    MARGIN,
    PALETTE,
    ROW,
    STROKES,
    STYLE,
    WIDTH,
    Key,
    draw_band,
    draw_frame_of,
    draw_line,
    draw_reference,
    inch_axes,
    inch_text,
    name_positions,
    number_positions,
    text_width,
    wrapped,
)
from perturbflow.results.reading import RAW, MissingResultError, condition_label, label, select

_GEOMETRY = {
    "along_share": "mean share along\nthe clean map",
    "norm_change": "mean relative\nchange of the norm",
    "angle": "mean angle to the\nclean map (degrees)",
}
"""The metrics of the geometry figure, from the top, and the words at their axes."""

_GEOMETRY_NOTE = (
    "Bands: 95% intervals of the means.",
    "Change of the margin, true logit minus best other, of a set's images: mean (marker), quartiles (thick),",
    "5th to 95th percentile (thin); dashed: minus the mean clean margin.",
)
_INTERVENTION_NOTE = (
    "At each layer in turn the pass goes on from the clean map plus a part of its perturbation. Bands: 95% intervals.",
)

_INTERVENTION_ROWS = (("top1", "top-1\naccuracy (%)", 100.0), ("margin", "mean\nmargin", 1.0))
"""What the rows of the intervention figure show, the words at their axes, and the factor to the unit shown."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_ALONG, _ACROSS, _CLEAN, _VERSION = "#D55E00", "#0072B2", "#009E73", "#CC79A7"

# Inches.
_AXIS = 0.68  # left of a row: its numbers and two lines of words
_LINE = 0.2  # a line of bold text
_GAP = 0.12  # between panels
_PLOT = 1.2
_SMALL_PLOT = 0.8
_PANEL = 1.4  # least width of a panel
_NUMBERS = 0.28  # position numbers beneath a panel
_PITCH = 0.125  # least distance of two upright words


def geometry_figure(
    distances: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    classifier: str,
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
) -> Figure:
    """Figure 4 of the paper, measured: how perturbations lie to the clean map, layer by layer, and what they do.

    A column a condition, a line an adversarial set. From the top, by position, the means over the images with their
    95% intervals: the share of the change that lies along the clean map (1: all of it, 0: all lies across), the
    relative change of the norm, the angle in degrees. At the bottom, by set, the change of the margin, which is the
    logit of the true class minus the largest other: mean, quartiles, and 5th and 95th percentile over the images. The
    dashed line is minus the mean margin of the clean images: a set whose mean lies below it has a negative mean margin.

    distances: rows of distances/<classifier>/<set>.csv with along_share, norm_change and angle; predictions: of
    predictions/<classifier>/<set>.csv.gz. Raises MissingResultError for a line or column that they lack.
    """
    conditions = [RAW, *denoisers]
    pairs = [(name, condition) for name in adversarial_sets for condition in conditions]
    lines = {pair: _geometry_line(distances, classifier, *pair) for pair in pairs}
    margins = {pair: _margins(predictions, classifier, *pair) for pair in pairs}
    looks = _set_looks(adversarial_sets)
    sheet = _Sheet(
        title=label(classifier),
        left=_AXIS,
        conditions=conditions,
        line=lines[pairs[0]],
        samples={label(name): look for name, look in looks.items()},
        note=_GEOMETRY_NOTE,
    )
    names = max(text_width(label(name)) for name in adversarial_sets) + 0.1
    height = sheet.head + len(_GEOMETRY) * (_PLOT + _GAP) + sheet.words + _LINE + _PLOT + names + MARGIN
    with mpl.rc_context(STYLE):
        figure, top = sheet.figure(height)
        for number, (metric, words) in enumerate(_GEOMETRY.items()):
            top -= _PLOT
            row = sheet.row(figure, top, _PLOT, words, titles=number == 0)
            for condition, axes in zip(conditions, row, strict=True):
                for name, look in looks.items():
                    draw_line(axes, lines[name, condition], metric, look)
                draw_frame_of(axes, metric)
                sheet.mark_positions(axes, "words" if number == len(_GEOMETRY) - 1 else "none")
            top -= _GAP
        top -= sheet.words + _LINE + _PLOT
        row = sheet.row(figure, top, _PLOT, "change of\nthe margin", titles=True)
        for condition, axes in zip(conditions, row, strict=True):
            _draw_margins(axes, {name: margins[name, condition] for name in adversarial_sets}, looks)
    return figure


def intervention_figure(
    interventions: pd.DataFrame,
    *,
    classifier: str,
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
) -> Figure:
    """Which part of the perturbation, at which layer, does the damage.

    Two rows of panels an adversarial set, top-1 accuracy in percent and mean margin (true logit minus best other);
    a column a condition. The lines say what remains when the pass goes on, at each position, from the clean map plus
    the perturbation's part along it, its part across it, or a fraction of the whole; bands are 95% intervals
    (Wilson's for the accuracy). Horizontal lines: the clean image and the perturbed one.

    interventions: rows of interventions/<classifier>/<set>.csv. Raises MissingResultError for a line, one of the two
    horizontal ones, or a column that they lack.
    """
    conditions = [RAW, *denoisers]
    file = f"interventions/{classifier}/{adversarial_sets[0]}.csv"
    parts = _parts_of(select(interventions, file, _INTERVENTION_COLUMNS, classifier=classifier))
    versions = {
        (name, condition): _Version.of(interventions, parts, classifier, name, condition)
        for name in adversarial_sets
        for condition in conditions
    }
    looks = _part_looks(parts)
    sheet = _Sheet(
        title=label(classifier),
        left=_LINE + _AXIS,
        conditions=conditions,
        line=versions[adversarial_sets[0], RAW].parts[parts[0]],
        samples={_part_words(part): look for part, look in looks.items()} | _REFERENCES,
        note=_INTERVENTION_NOTE,
    )
    names = [text_width(label(name), size=8, weight="bold") for name in adversarial_sets]
    plot = max(_SMALL_PLOT, (max(names) - _GAP) / 2)
    block = 2 * plot + _GAP + _NUMBERS + _LINE
    height = sheet.head - _LINE + len(adversarial_sets) * block + sheet.words - _NUMBERS
    with mpl.rc_context(STYLE):
        figure, top = sheet.figure(height)
        drawn: dict[str, Axes] = {}
        for number, name in enumerate(adversarial_sets):
            upright = {"rotation": 90, "ha": "center", "va": "center", "weight": "bold", "size": 8}
            inch_text(figure, MARGIN + _LINE / 2, top - plot - _GAP / 2, label(name), **upright)
            for value, words, unit in _INTERVENTION_ROWS:
                top -= plot
                row = sheet.row(figure, top, plot, words, titles=value == "top1", sharey=drawn.get(value))
                drawn.setdefault(value, row[0])
                for condition, axes in zip(conditions, row, strict=True):
                    versions[name, condition].draw(axes, value, unit, looks)
                    last = number == len(adversarial_sets) - 1
                    sheet.mark_positions(axes, "none" if value == "top1" else "words" if last else "numbers")
                top -= _GAP
            top -= _NUMBERS + _LINE - _GAP
        drawn["top1"].set_ylim(-4, 104)
        drawn["top1"].set_yticks([0, 50, 100])
    return figure


@dataclass(frozen=True)
class _Sheet:
    """A figure whose columns are conditions and whose rows share their axes; sizes in inches.

    left: from the figure's edge to the panels. line: rows with the positions and layers. samples: of the key.
    """

    title: str
    left: float
    conditions: Sequence[str]
    line: pd.DataFrame
    samples: Mapping[str, Mapping[str, Any]]
    note: Sequence[str]

    @property
    def panel(self) -> float:
        """Width of a panel: its share of the figure, or what positions, samples and title need."""
        n_columns = len(self.conditions)
        share = (WIDTH - self.left - MARGIN + _GAP) / n_columns - _GAP
        titles = max(text_width(condition_label(name), size=8, weight="bold") for name in self.conditions)
        return max(share, _PANEL, _PITCH * len(self.line), _PITCH * len(self.samples), titles)

    @property
    def pitch(self) -> float:
        """Between two positions."""
        return self.panel / len(self.line)

    @property
    def layers(self) -> list[str]:
        return wrapped([str(layer) for layer in self.line["layer"]], self.pitch)

    @property
    def width(self) -> float:
        return self.left + len(self.conditions) * (self.panel + _GAP) - _GAP + MARGIN

    @property
    def key(self) -> Key:
        return Key(self.samples, self.width - 2 * MARGIN)

    @property
    def head(self) -> float:
        """Height above the first row of panels."""
        return _LINE + self.key.height + ROW * len(self.note) + MARGIN + _LINE

    @property
    def words(self) -> float:
        """Height of numbers and words beneath a row of panels."""
        return _NUMBERS + max(map(text_width, self.layers)) + _GAP

    def figure(self, height: float) -> tuple[Figure, float]:
        """A figure with title, key and note, and the top of its first row of panels."""
        figure = Figure(figsize=(self.width, height))
        inch_text(figure, MARGIN, height - _LINE / 2, self.title, weight="bold", size=8)
        y = height - _LINE
        self.key.draw(figure, MARGIN, y)
        y -= self.key.height
        for words in self.note:
            inch_text(figure, MARGIN, y - ROW / 2, words, color=GREY)
            y -= ROW
        return figure, height - self.head

    def row(
        self,
        figure: Figure,
        bottom: float,
        height: float,
        words: str,
        *,
        titles: bool,
        sharey: Axes | None = None,
    ) -> list[Axes]:
        """A row of panels with `words` at its axis and, if wanted, the conditions above."""
        row: list[Axes] = []
        for number, condition in enumerate(self.conditions):
            left = self.left + number * (self.panel + _GAP)
            axes = inch_axes(figure, left, bottom, self.panel, height, sharey=row[0] if row else sharey)
            axes.tick_params(labelleft=not row)
            if titles:
                axes.set_title(condition_label(condition))
            row.append(axes)
        middle = bottom + height / 2
        inch_text(
            figure, self.left - _AXIS + 0.14, middle, words, rotation=90, ha="center", va="center", linespacing=1.0
        )
        return row

    def mark_positions(self, axes: Axes, marks: str) -> None:
        """Say what the positions are: with their "numbers", numbers and "words", or "none" of both."""
        positions = list(self.line["position"])
        axes.set_xlim(positions[0] - 0.5, positions[-1] + 0.5)
        if marks == "words":
            name_positions(axes, positions, self.layers, self.pitch)
        else:
            number_positions(axes, positions, self.pitch)
            axes.tick_params(labelbottom=marks == "numbers")


def _set_looks(adversarial_sets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each set; the stroke changes where these start anew."""
    return {
        name: {
            "color": PALETTE[number % len(PALETTE)],
            "marker": _MARKERS[number % len(_MARKERS)],
            "linestyle": STROKES[number // len(PALETTE) % len(STROKES)][0],
        }
        for number, name in enumerate(adversarial_sets)
    }


def _geometry_line(distances: pd.DataFrame, classifier: str, adversarial_set: str, denoiser: str) -> pd.DataFrame:
    values = [f"{metric}_{part}" for metric in _GEOMETRY for part in ("mean", "ci_low", "ci_high")]
    rows = select(
        distances,
        f"distances/{classifier}/{adversarial_set}.csv",
        ["position", "layer", *values],
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
    )
    return rows.sort_values("position")


def _margins(predictions: pd.DataFrame, classifier: str, adversarial_set: str, denoiser: str) -> pd.DataFrame:
    return select(
        predictions,
        f"predictions/{classifier}/{adversarial_set}.csv.gz",
        ["margin", "margin_clean"],
        classifier=classifier,
        adversarial_set=adversarial_set,
        denoiser=denoiser,
    )


def _draw_margins(axes: Axes, margins: Mapping[str, pd.DataFrame], looks: Mapping[str, Mapping[str, Any]]) -> None:
    """The spread of each set's change of the margin, with the sets' names upright beneath."""
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
    axes.set_xticks(range(len(margins)), [label(name) for name in margins], rotation=90)


_Part = tuple[str, float]  # part, fraction

_INTERVENTION_COLUMNS = [
    *("position", "layer", "part", "fraction"),
    *("top1", "top1_ci_low", "top1_ci_high", "margin_mean", "margin_ci_low", "margin_ci_high"),
]

_REFERENCES: dict[str, dict[str, Any]] = {
    "clean image": {"color": _CLEAN, "linewidth": 2.5, "alpha": 0.6},
    "perturbed image": {"color": _VERSION, "linewidth": 2.5, "alpha": 0.6},
}


def _part_words(part: _Part) -> str:
    name, fraction = part
    if name != "whole":
        return f"{name} the clean map"
    return "whole" if fraction == 1 else f"{fraction:g} of the whole"


def _part_looks(parts: Sequence[_Part]) -> dict[_Part, dict[str, Any]]:
    """Colours for along and across; the whole in grey, the darker the more of it."""
    looks: dict[_Part, dict[str, Any]] = {}
    for number, (name, fraction) in enumerate(parts):
        color = {"along": _ALONG, "across": _ACROSS}.get(name, str(0.7 * (1 - fraction)))
        stroke = STROKES[0] if name != "whole" or fraction == 1 else STROKES[number % len(STROKES)]
        looks[name, fraction] = {
            "color": color,
            "linestyle": stroke[0],
            "marker": _MARKERS[number % len(_MARKERS)],
        }
    return looks


def _parts_of(interventions: pd.DataFrame) -> list[_Part]:
    """All parts that go on from some layer: along, across, fractions of the whole, the least first."""
    inner = interventions[interventions["position"] > 0]
    parts = {(str(part), float(fraction)) for part, fraction in zip(inner["part"], inner["fraction"], strict=True)}
    return sorted(parts, key=lambda part: (part[0] == "whole", part[0] == "across", part[1]))


@dataclass(frozen=True)
class _Version:
    """What the classifier says of one set under one condition: by part and position, and at both ends."""

    parts: Mapping[_Part, pd.DataFrame]
    clean: pd.DataFrame
    whole: pd.DataFrame

    @classmethod
    def of(
        cls, interventions: pd.DataFrame, parts: Sequence[_Part], classifier: str, adversarial_set: str, denoiser: str
    ) -> _Version:
        file = f"interventions/{classifier}/{adversarial_set}.csv"
        rows = select(
            interventions,
            file,
            _INTERVENTION_COLUMNS,
            classifier=classifier,
            adversarial_set=adversarial_set,
            denoiser=denoiser,
        ).sort_values("position")

        def part(at_image: bool, name: str, fraction: float) -> pd.DataFrame:
            chosen = rows[
                ((rows["position"] == 0) == at_image) & (rows["part"] == name) & (rows["fraction"] == fraction)
            ]
            if chosen.empty:
                where = "at position 0" if at_image else "after position 0"
                raise MissingResultError(
                    f"{file} has no row {where} with denoiser={denoiser}, part={name}, fraction={fraction:g}; "
                    "delete it and run the rule that makes it."
                )
            return chosen

        return cls({key: part(False, *key) for key in parts}, part(True, "whole", 0.0), part(True, "whole", 1.0))

    def draw(self, axes: Axes, value: str, unit: float, looks: Mapping[_Part, Mapping[str, Any]]) -> None:
        """Draw "top1" or "margin", times `unit`."""
        mean = {"top1": "top1", "margin": "margin_mean"}[value]
        for end, look in zip((self.clean, self.whole), _REFERENCES.values(), strict=True):
            draw_reference(axes, unit * end[mean].iloc[0], **look)
        for part, line in self.parts.items():
            axes.plot(line["position"], unit * line[mean], **looks[part])
            draw_band(
                axes,
                line["position"],
                unit * line[f"{value}_ci_low"],
                unit * line[f"{value}_ci_high"],
                looks[part]["color"],
            )
