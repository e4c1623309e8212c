import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from perturbflow.figures import (
    PALETTE,
    STYLE,
    TooManyLinesError,
    propagation_figure,
    save_figure,
    set_colors,
)
from perturbflow.results import MissingResultError

CLASSIFIERS = ["vgg19", "resnetv2_50", "own_classifier"]
SETS = ["fgsm_v1", "own_set"]
DENOISERS = ["fusionnet", "unet"]
CONDITIONS = ["none", *DENOISERS]


def distances_frame(classifiers: Sequence[str] = CLASSIFIERS, n_positions: int = 3) -> pd.DataFrame:
    """Rows in the order of the disk: positions fall, so that a figure has to sort them."""
    rows = []
    for name_number, classifier in enumerate(classifiers):
        for set_number, adversarial_set in enumerate(SETS):
            for condition_number, denoiser in enumerate(CONDITIONS):
                for position in range(n_positions, 0, -1):
                    mean = 10.0 ** (position - 4 - name_number) * (1 + set_number + 0.1 * condition_number)
                    row = {
                        "classifier": classifier,
                        "adversarial_set": adversarial_set,
                        "denoiser": denoiser,
                        "position": position,
                        "layer": "1 conv, 1 max pool" if position == 1 else f"{position} blocks",
                    }
                    for metric, factor in [("normalized_euclidean", 1.0), ("cosine", 0.5)]:
                        row[f"{metric}_mean"] = factor * mean
                        row[f"{metric}_ci_low"] = factor * mean * 0.9
                        row[f"{metric}_ci_high"] = factor * mean * 1.1
                    rows.append(row)
    return pd.DataFrame(rows)


def draw(
    distances: pd.DataFrame,
    metric: str = "cosine",
    scale: str = "log",
    classifiers: Sequence[str] = CLASSIFIERS,
    colors: dict[str, str] | None = None,
) -> Figure:
    return propagation_figure(
        distances,
        metric=metric,
        scale=scale,
        classifiers=classifiers,
        adversarial_sets=SETS,
        denoisers=DENOISERS,
        colors=colors,
    )


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("metric", ["normalized_euclidean", "cosine"])
def test_every_panel_plots_the_values_of_the_frame(metric: str) -> None:
    distances = distances_frame()
    figure = draw(distances, metric)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "a  VGG-19",
        "b  ResNet V2-50",
        "c  own_classifier",
    ]
    for classifier, axes in zip(CLASSIFIERS, figure.axes, strict=True):
        assert len(axes.lines) == len(SETS) * len(CONDITIONS)
        bands = [artist for artist in axes.collections if isinstance(artist, FillBetweenPolyCollection)]
        assert len(bands) == len(axes.lines)
        expected = [(name, denoiser) for name in SETS for denoiser in CONDITIONS]
        for line, band, (name, denoiser) in zip(axes.lines, bands, expected, strict=True):
            keys = (distances[["classifier", "adversarial_set", "denoiser"]] == [classifier, name, denoiser]).all(
                axis=1
            )
            rows = distances[keys].sort_values("position")
            np.testing.assert_array_equal(line.get_xdata(), rows["position"])
            np.testing.assert_array_equal(line.get_ydata(), rows[f"{metric}_mean"])
            heights = band.get_paths()[0].vertices[:, 1]
            assert heights.min() == rows[f"{metric}_ci_low"].min()
            assert heights.max() == rows[f"{metric}_ci_high"].max()


def test_colour_says_the_set_and_stroke_says_the_denoiser() -> None:
    lines = draw(distances_frame()).axes[0].lines
    colors = [line.get_color() for line in lines]
    assert colors == [PALETTE[0]] * 3 + [PALETTE[1]] * 3
    strokes = [(str(line.get_linestyle()), str(line.get_marker())) for line in lines]
    assert strokes[:3] == strokes[3:]
    assert len(set(strokes[:3])) == 3
    assert len({marker for _, marker in strokes[:3]}) == 3


def test_colors_of_the_config_win() -> None:
    figure = draw(distances_frame(), colors={"own_set": "black"})
    assert [to_hex(line.get_color()) for line in figure.axes[0].lines] == [PALETTE[0].lower()] * 3 + ["#000000"] * 3
    drawn = [artist for artist in figure.artists if isinstance(artist, Line2D) and artist.get_marker() != "None"]
    assert [to_hex(line.get_color()) for line in drawn] == [PALETTE[0].lower()] * 3 + ["#000000"] * 3


def test_the_legend_prints_the_last_distance_of_every_line() -> None:
    figure = draw(distances_frame(), "normalized_euclidean")
    printed = words(figure)
    assert "normalized Euclidean distance (NE-D) at the last position" in printed
    start = printed.index("own_set")
    assert printed[start : start + 5] == ["own_set", "w/o DN", "0.20", "0.020", "0.0020"]
    assert printed[-4:] == ["w/ UN", "0.22", "0.022", "0.0022"]


def test_positions_carry_the_wording_of_the_layer() -> None:
    axes = draw(distances_frame()).axes[0]
    assert axes.get_xticks().tolist() == [1, 2, 3]
    (wording,) = axes.child_axes
    assert [tick.get_text() for tick in wording.get_xticklabels()] == ["1 conv,\n1 max pool", "2 blocks", "3 blocks"]


@pytest.mark.parametrize(("scale", "shared"), [("log", True), ("linear", False)])
def test_scale(scale: str, shared: bool) -> None:
    first, second, *_ = draw(distances_frame(), scale=scale).axes
    assert first.get_yscale() == scale
    assert (first.get_ylim() == second.get_ylim()) is shared


@pytest.mark.filterwarnings("error")
def test_zero_distances_can_be_drawn_on_a_log_scale(tmp_path: Path) -> None:
    distances = distances_frame()
    untouched = distances["adversarial_set"] == "own_set"
    distances.loc[untouched, ["cosine_mean", "cosine_ci_low", "cosine_ci_high"]] = 0.0
    figure = draw(distances)
    save_figure(figure, tmp_path / "x.png", "png")
    assert words(figure)[-3:] == ["0", "0", "0"]


@pytest.mark.parametrize("n_classifiers", [1, 2, 3, 6, 15])
def test_nothing_overlaps_and_print_is_legible(n_classifiers: int) -> None:
    classifiers = [f"classifier{number}" for number in range(n_classifiers)]
    figure = draw(distances_frame(classifiers), classifiers=classifiers)
    canvas = FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        canvas.draw()
    renderer = canvas.get_renderer()
    panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
    legend = [text.get_window_extent(renderer) for text in figure.texts]
    for number, panel in enumerate(panels):
        assert not any(panel.overlaps(other) for other in panels[number + 1 :] + legend)
    width, height = figure.get_size_inches() * figure.dpi
    for box in panels + legend:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(Text) if text.get_text())
    assert width / figure.dpi >= 7


def test_files_are_the_same_bytes_again_and_svg_text_stays_text(tmp_path: Path) -> None:
    for extension in ("svg", "png"):
        for name in ("a", "b"):
            save_figure(draw(distances_frame()), tmp_path / f"{name}.{extension}", extension)
        assert (tmp_path / f"a.{extension}").read_bytes() == (tmp_path / f"b.{extension}").read_bytes()
    svg = (tmp_path / "a.svg").read_text()
    assert "ResNet V2-50</text>" in svg
    assert not re.search("<dc:date>", svg)


def test_a_missing_line_names_its_file() -> None:
    distances = distances_frame()
    lacking = distances[~((distances["classifier"] == "vgg19") & (distances["denoiser"] == "unet"))]
    with pytest.raises(MissingResultError, match=r"distances/vgg19/fgsm_v1\.csv .*denoiser=unet"):
        draw(lacking)
    with pytest.raises(MissingResultError, match="has no column cosine_ci_low"):
        draw(distances.drop(columns="cosine_ci_low"))


def test_more_sets_than_colours_ask_for_colours() -> None:
    names = [f"set{number}" for number in range(len(PALETTE) + 1)]
    with pytest.raises(TooManyLinesError, match=r"name a colour of set8 under figures"):
        set_colors(names, {})
    assert set_colors(names, {"set8": "grey"})["set8"] == "grey"
    with pytest.raises(TooManyLinesError, match="6 denoisers"):
        propagation_figure(
            distances_frame(),
            metric="cosine",
            scale="log",
            classifiers=CLASSIFIERS,
            adversarial_sets=SETS,
            denoisers=[f"denoiser{number}" for number in range(6)],
        )
