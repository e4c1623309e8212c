"""A figure's page, measured in inches: axes, texts, samples of lines, positions of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from math import ceil
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from perturbflow.figures.style import GREY, STYLE

# Inches.
WIDTH = 7.0
MARGIN = 0.06
LINE = 0.113  # height of a line of text at 7 points
ROW = 0.138  # height of a line of text in a legend
SAMPLE = 0.3  # length of a line's sample


@cache
def text_width(words: str, size: float = 7, weight: str = "normal") -> float:
    """Width in inches of the longest line of `words`."""
    font = FontProperties(family=STYLE["font.family"], weight=weight)
    lines = [line for line in words.split("\n") if line.strip()]
    return max((float(TextPath((0, 0), line, size=size, prop=font).get_extents().x1) / 72 for line in lines), default=0)


def number_positions(axes: Axes, positions: Sequence[int], pitch: float) -> None:
    """Number the positions, `pitch` inches apart; numbers that would touch are upright."""
    axes.set_xticks(positions)
    if _touch(positions, pitch):
        axes.tick_params(axis="x", labelrotation=90)


def name_positions(axes: Axes, positions: Sequence[int], words: Sequence[str], pitch: float) -> None:
    """Number the positions, `pitch` inches apart, with `words` upright beneath.

    Where not even one line of words fits between two positions, only every second, third, ... is named, the last
    among them.
    """
    step = ceil(LINE / pitch)
    named = slice((len(positions) - 1) % step, None, step)
    positions, words = positions[named], words[named]
    number_positions(axes, positions, pitch)
    below = axes.secondary_xaxis("bottom")
    below.set_xticks(positions, words, rotation=90, multialignment="right", linespacing=1.0)
    below.tick_params(length=0, pad=19 if _touch(positions, pitch) else 15.5, labelcolor=GREY)
    below.spines["bottom"].set_visible(False)


def wrapped(layers: Sequence[str], pitch: float) -> list[str]:
    """The wording of layers, broken after commas into as many lines as fit upright between neighbours.

    pitch: inches between two layers.
    """
    parts = [layer.split(", ") for layer in layers]
    words = []
    for number, own in enumerate(parts):
        beside = parts[max(0, number - 1) : number] + parts[number + 1 : number + 2]
        room = 2 * pitch / LINE - 1 if all(len(other) == 1 for other in beside) else pitch / LINE
        words.append(_in_lines(own, max(1, int(room))))
    return words


def _in_lines(parts: Sequence[str], n_lines: int) -> str:
    """`parts` in at most `n_lines`, the longest as short as can be."""
    ways = (
        ",\n".join(", ".join(parts[start:end]) for start, end in pairwise((0, *breaks, len(parts))))
        for breaks in combinations(range(1, len(parts)), min(n_lines, len(parts)) - 1)
    )
    return min(ways, key=text_width)


def _touch(positions: Sequence[int], pitch: float) -> bool:
    return text_width(str(max(positions))) + 0.05 > pitch


def inch_axes(figure: Figure, left: float, bottom: float, width: float, height: float, **settings: Any) -> Axes:
    """Axes at (left, bottom) inches from the figure's bottom left corner."""
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, height / up), **settings)


def inch_text(figure: Figure, x: float, y: float, words: str, **style: Any) -> None:
    """Text whose line is centred at (x, y) inches from the figure's bottom left corner."""
    figure.text(x, y, words, transform=figure.dpi_scale_trans, **{"va": "center_baseline", **style})


def inch_stroke(figure: Figure, x: Sequence[float], y: float, **style: Any) -> None:
    """A horizontal stroke through the points x at height y, in inches."""
    figure.add_artist(Line2D(list(x), [y] * len(x), transform=figure.dpi_scale_trans, **style))


def inch_sample(figure: Figure, left: float, y: float, length: float, look: Mapping[str, Any]) -> None:
    """A sample of a line, with its marker in the middle."""
    inch_stroke(figure, [left, left + length / 2, left + length], y, **look, markevery=[1])


class Key:
    """Samples of lines with their names, row by row in a given width; sizes in inches."""

    def __init__(self, looks: Mapping[str, Mapping[str, Any]], width: float) -> None:
        self._rows: list[list[tuple[float, str, Mapping[str, Any]]]] = []
        right = width
        for words, look in looks.items():
            entry = SAMPLE + 0.05 + text_width(words)
            if right + entry > width:
                self._rows.append([])
                right = 0.0
            self._rows[-1].append((right, words, look))
            right += entry + 0.18

    @property
    def height(self) -> float:
        return ROW * len(self._rows)

    def draw(self, figure: Figure, left: float, top: float) -> None:
        """Draw it with its top left corner at (left, top) inches from the figure's bottom left corner."""
        for number, row in enumerate(self._rows):
            y = top - ROW * (number + 0.5)
            for start, words, look in row:
                inch_sample(figure, left + start, y, SAMPLE, look)
                inch_text(figure, left + start + SAMPLE + 0.05, y, words)


# Inches.
AXIS = 0.68  # left of a row: its numbers and two lines of words
HEADING = 0.2  # a line of bold text
GAP = 0.12  # between panels
_PANEL = 1.4  # least width of a panel
NUMBERS = 0.28  # position numbers beneath a panel
_PITCH = 0.125  # least distance of two upright words


@dataclass(frozen=True)
class Sheet:
    """A figure whose columns are conditions and whose rows share their axes; sizes in inches.

    conditions: what they are called. left: from the figure's edge to the panels. line: rows with the positions and
    layers. samples: of the key.
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
        share = (WIDTH - self.left - MARGIN + GAP) / n_columns - GAP
        titles = max(text_width(condition, size=8, weight="bold") for condition in self.conditions)
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
        return self.left + len(self.conditions) * (self.panel + GAP) - GAP + MARGIN

    @property
    def key(self) -> Key:
        return Key(self.samples, self.width - 2 * MARGIN)

    @property
    def head(self) -> float:
        """Height above the first row of panels."""
        return HEADING + self.key.height + ROW * len(self.note) + MARGIN + HEADING

    @property
    def words(self) -> float:
        """Height of numbers and words beneath a row of panels."""
        return NUMBERS + max(map(text_width, self.layers)) + GAP

    def figure(self, height: float) -> tuple[Figure, float]:
        """A figure with title, key and note, and the top of its first row of panels."""
        figure = Figure(figsize=(self.width, height))
        inch_text(figure, MARGIN, height - HEADING / 2, self.title, weight="bold", size=8)
        y = height - HEADING
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
            left = self.left + number * (self.panel + GAP)
            axes = inch_axes(figure, left, bottom, self.panel, height, sharey=row[0] if row else sharey)
            axes.tick_params(labelleft=not row)
            if titles:
                axes.set_title(condition)
            row.append(axes)
        middle = bottom + height / 2
        inch_text(
            figure, self.left - AXIS + 0.14, middle, words, rotation=90, ha="center", va="center", linespacing=1.0
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
