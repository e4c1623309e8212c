"""Which part of a perturbation, at which layer, does the damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    NUMBERS,
    Sheet,
    inch_text,
    text_width,
)
from perturbflow.figures.style import MARKERS, STROKES, STYLE, draw_band, draw_reference, words_of_bands
from perturbflow.results.reading import MissingResultError, select
from perturbflow.vocabulary import RAW, Labels

_INTERVENTION_NOTE = "At each layer in turn the pass goes on from the clean map plus a part of its perturbation."

_INTERVENTION_ROWS = (("top1", "top-1\naccuracy (%)", 100.0), ("margin", "mean\nmargin", 1.0))
"""What the rows of the intervention figure show, the words at their axes, and the factor to the unit shown."""
_ALONG, _ACROSS, _CLEAN, _PERTURBED = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
_SMALL_PLOT = 0.8


def intervention_figure(
    interventions: pd.DataFrame,
    *,
    classifier: str,
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    labels: Labels,
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
    outcomes = {
        (name, condition): _Outcome.of(interventions, parts, classifier, name, condition)
        for name in adversarial_sets
        for condition in conditions
    }
    looks = _part_looks(parts)
    sheet = Sheet(
        title=labels.classifier(classifier),
        left=HEADING + AXIS,
        conditions=[labels.condition(condition) for condition in conditions],
        line=outcomes[adversarial_sets[0], RAW].parts[parts[0]],
        samples={_part_words(part): look for part, look in looks.items()} | _REFERENCES,
        note=[_INTERVENTION_NOTE, words_of_bands(interventions)],
    )
    names = [labels.adversarial_set(name) for name in adversarial_sets]
    longest = max(text_width(name, size=8, weight="bold") for name in names)
    plot = max(_SMALL_PLOT, (longest - GAP) / 2)
    block = 2 * plot + GAP + NUMBERS + HEADING
    height = sheet.head - HEADING + len(adversarial_sets) * block + sheet.words - NUMBERS
    with mpl.rc_context(STYLE):
        figure, top = sheet.figure(height)
        drawn: dict[str, Axes] = {}
        for number, name in enumerate(adversarial_sets):
            upright = {"rotation": 90, "ha": "center", "va": "center", "weight": "bold", "size": 8}
            inch_text(figure, MARGIN + HEADING / 2, top - plot - GAP / 2, names[number], **upright)
            for value, words, unit in _INTERVENTION_ROWS:
                top -= plot
                row = sheet.row(figure, top, plot, words, titles=value == "top1", sharey=drawn.get(value))
                drawn.setdefault(value, row[0])
                for condition, axes in zip(conditions, row, strict=True):
                    outcomes[name, condition].draw(axes, value, unit, looks)
                    last = number == len(adversarial_sets) - 1
                    sheet.mark_positions(axes, "none" if value == "top1" else "words" if last else "numbers")
                top -= GAP
            top -= NUMBERS + HEADING - GAP
        drawn["top1"].set_ylim(-4, 104)
        drawn["top1"].set_yticks([0, 50, 100])
    return figure


_Part = tuple[str, float]  # part, fraction

_INTERVENTION_COLUMNS = [
    *("position", "layer", "part", "fraction"),
    *("top1", "top1_ci_low", "top1_ci_high", "margin_mean", "margin_ci_low", "margin_ci_high"),
]

_REFERENCES: dict[str, dict[str, Any]] = {
    "clean image": {"color": _CLEAN, "linewidth": 2.5, "alpha": 0.6},
    "perturbed image": {"color": _PERTURBED, "linewidth": 2.5, "alpha": 0.6},
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
            "marker": MARKERS[number % len(MARKERS)],
        }
    return looks


def _parts_of(interventions: pd.DataFrame) -> list[_Part]:
    """All parts that go on from some layer: along, across, fractions of the whole, the least first."""
    inner = interventions[interventions["position"] > 0]
    parts = {(str(part), float(fraction)) for part, fraction in zip(inner["part"], inner["fraction"], strict=True)}
    return sorted(parts, key=lambda part: (part[0] == "whole", part[0] == "across", part[1]))


@dataclass(frozen=True)
class _Outcome:
    """What the classifier says of one set under one condition: by part and position, and at both ends."""

    parts: Mapping[_Part, pd.DataFrame]
    clean: pd.DataFrame
    whole: pd.DataFrame

    @classmethod
    def of(
        cls, interventions: pd.DataFrame, parts: Sequence[_Part], classifier: str, adversarial_set: str, denoiser: str
    ) -> _Outcome:
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
