"""How a figure is drawn from the files of a run, and becomes files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from matplotlib.figure import Figure

from perturbflow.figures.style import save_figure
from perturbflow.files.whole import whole_file
from perturbflow.results.reading import read_results
from perturbflow.vocabulary import Labels


def write_figure(
    draw: Callable[..., Figure],
    inputs: Mapping[str, str | Iterable[str]],
    settings: Mapping[str, Any],
    labels: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str],
) -> None:
    """Draw a figure and write it.

    inputs: files of each frame that `draw` takes, by the name of the argument. settings: its other arguments. labels:
    those that the study's config gives, as `Labels` takes them. files: by format, "svg" or "png".
    """
    frames = {name: read_results(paths) for name, paths in inputs.items()}
    figure = draw(**frames, **settings, labels=Labels(labels))
    for format, path in files.items():
        with whole_file(path) as temporary:
            save_figure(figure, temporary, format)
