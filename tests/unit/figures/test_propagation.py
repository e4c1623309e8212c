import re
from collections.abc import Sequence
from itertools import pairwise
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

from perturbflow.figures.page import LINE, wrapped
from perturbflow.figures.propagation import propagation_figure
from perturbflow.figures.style import STYLE, TooManyLinesError, save_figure
from perturbflow.results.reading import MissingResultError
from perturbflow.vocabulary import OTHER_COLORS, SET_COLORS, Labels, metric_named, set_colors

CLASSIFIERS = ["vgg19", "resnetv2_50", "own_classifier"]
SETS = ["fgsm_v1", "own_set"]
NO_LABELS = Labels()
DENOISERS = ["fusionnet", "unet"]
CONDITIONS = ["none", *DENOISERS]


FACTORS = {"normalized_euclidean": 1.0, "cosine": 0.5, "norm_change": -0.3, "gain": 2.0, "linear_cka": 0.1}


def distances_frame(
    classifiers: Sequence[str] = CLASSIFIERS,
    sets: Sequence[str] = SETS,
    denoisers: Sequence[str] = DENOISERS,
    n_positions: int = 3,
) -> pd.DataFrame:
    """Rows in the order of the disk: positions fall, so that a figure has to sort them."""
    rows = []
    for name_number, classifier in enumerate(classifiers):
        for set_number, adversarial_set in enumerate(sets):
            for condition_number, denoiser in enumerate(["none", *denoisers]):
                for position in range(n_positions, 0, -1):
                    mean = 10.0 ** (min(position, 3) - 4 - name_number)
                    mean *= 1 + set_number + 0.1 * condition_number
                    row = {
                        "classifier": classifier,
                        "adversarial_set": adversarial_set,
                        "denoiser": denoiser,
                        "position": position,
                        "layer": "1 conv, 1 max pool" if position == 1 else f"{position} blocks",
                    }
                    for metric, factor in FACTORS.items():
                        row[f"{metric}_mean"] = factor * mean
                        row[f"{metric}_ci_low"] = factor * mean - 0.1 * abs(factor) * mean
                        row[f"{metric}_ci_high"] = factor * mean + 0.1 * abs(factor) * mean
                    rows.append(row)
    return pd.DataFrame(rows).assign(interval_covers="3 trainings and images")


def draw(
    distances: pd.DataFrame,
    metrics: Sequence[str] = ("cosine",),
    scale: str = "log",
    classifiers: Sequence[str] = CLASSIFIERS,
    sets: Sequence[str] = SETS,
    denoisers: Sequence[str] = DENOISERS,
    colors: dict[str, str] | None = None,
    labels: Labels = NO_LABELS,
) -> Figure:
    return propagation_figure(
        distances,
        metrics=metrics,
        scale=scale,
        classifiers=classifiers,
        adversarial_sets=sets,
        denoisers=denoisers,
        colors=set_colors(sets) | (colors or {}),
        labels=labels,
    )


NOTE = "Bands: 95% intervals; they cover 3 trainings and images."


def words(figure: Figure) -> list[str]:
    """All but the note of the bands, which is the last."""
    *others, note = [text.get_text() for text in figure.texts]
    assert note == NOTE
    return others


@pytest.mark.parametrize("metric", ["normalized_euclidean", "cosine"])
def test_every_panel_plots_the_values_of_the_frame(metric: str) -> None:
    distances = distances_frame()
    figure = draw(distances, [metric])
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
    assert colors == [SET_COLORS["fgsm_v1"]] * 3 + [OTHER_COLORS[0]] * 3
    strokes = [(str(line.get_linestyle()), str(line.get_marker())) for line in lines]
    assert strokes[:3] == strokes[3:]
    assert len(set(strokes[:3])) == 3
    assert len({marker for _, marker in strokes[:3]}) == 3


def test_lines_and_samples_have_the_colours_given() -> None:
    figure = draw(distances_frame(), colors={"own_set": "black"})
    expected = [SET_COLORS["fgsm_v1"].lower()] * 3 + ["#000000"] * 3
    assert [to_hex(line.get_color()) for line in figure.axes[0].lines] == expected
    drawn = [artist for artist in figure.artists if isinstance(artist, Line2D) and artist.get_marker() != "None"]
    assert [to_hex(line.get_color()) for line in drawn] == expected


def test_the_legend_prints_the_last_distance_of_every_line() -> None:
    figure = draw(distances_frame(), ["normalized_euclidean"])
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
def test_zeros_are_drawn_beneath_the_log_scale(tmp_path: Path) -> None:
    distances = distances_frame()
    untouched = distances["adversarial_set"] == "own_set"
    distances.loc[untouched, ["cosine_mean", "cosine_ci_low", "cosine_ci_high"]] = 0.0
    figure = draw(distances, classifiers=CLASSIFIERS[:2])
    save_figure(figure, tmp_path / "x.svg", "svg")
    assert words(figure)[-2:] == ["0", "0"]
    for axes in figure.axes:
        assert axes.get_yscale() == "symlog"
        assert axes.get_ylim() == figure.axes[0].get_ylim()
        assert axes.get_ylim()[0] == 0
    least = distances.loc[~untouched, "cosine_mean"].min()
    zero, linear, log = figure.axes[0].transData.transform([(1, 0), (1, least / 10), (1, least)])[:, 1]
    assert zero < linear < log


@pytest.mark.filterwarnings("error")
def test_distances_that_are_all_zero_or_undefined_can_be_drawn(tmp_path: Path) -> None:
    for value, printed in [(0.0, "0"), (np.nan, "\N{EN DASH}")]:
        distances = distances_frame()
        distances[["cosine_mean", "cosine_ci_low", "cosine_ci_high"]] = value
        figure = draw(distances, classifiers=CLASSIFIERS[:1])
        save_figure(figure, tmp_path / "x.svg", "svg")
        assert words(figure)[-1] == printed


def test_one_classifier_has_a_panel_a_metric() -> None:
    figure = draw(distances_frame(), ["normalized_euclidean", "cosine"], classifiers=["vgg19"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a  NE-D", "b  COS-D"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["mean NE-D", "mean COS-D"]
    printed = words(figure)
    assert {"VGG-19", "values at the last position"} <= set(printed)
    start = printed.index("FGSM v1")
    assert printed[start : start + 7] == ["FGSM v1", "w/o DN", "0.10", "0.050", "w/ FN", "0.11", "0.055"]
    for axes, metric in zip(figure.axes, ["normalized_euclidean", "cosine"], strict=True):
        frame = distances_frame(["vgg19"])
        rows = frame[(frame["adversarial_set"] == "own_set") & (frame["denoiser"] == "unet")].sort_values("position")
        np.testing.assert_array_equal(axes.lines[-1].get_ydata(), rows[f"{metric}_mean"])


def test_several_classifiers_and_metrics_share_a_range_by_metric() -> None:
    figure = draw(distances_frame(), ["gain", "cosine"], classifiers=["vgg19", "own_classifier"])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["a  VGG-19, gain", "b  VGG-19, COS-D", "c  own_classifier, gain", "d  own_classifier, COS-D"]
    ranges = [axes.get_ylim() for axes in figure.axes]
    assert ranges[0] == ranges[2] != ranges[1] == ranges[3]


def test_metrics_that_may_be_negative_and_shares_stay_linear() -> None:
    figure = draw(distances_frame(), ["norm_change", "gain", "linear_cka"], classifiers=["vgg19"])
    signed, gain, share = figure.axes
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "linear"]
    for axes, reference in [(signed, 0), (gain, 1)]:
        (line,) = [line for line in axes.lines if len(set(line.get_ydata())) == 1 and len(line.get_xdata()) == 2]
        assert line.get_ydata()[0] == reference
    assert share.get_ylim()[0] <= 0
    assert share.get_ylim()[1] >= 1
    start = words(figure).index("FGSM v1")
    assert words(figure)[start + 2 : start + 5] == ["\N{MINUS SIGN}0.030", "0.20", "0.010"]


def test_a_metric_that_happens_to_be_negative_stays_linear() -> None:
    distances = distances_frame()
    distances.loc[0, "cosine_mean"] = -1e-9
    assert {axes.get_yscale() for axes in draw(distances).axes} == {"linear"}


def test_a_short_log_range_is_numbered_plainly() -> None:
    distances = distances_frame(["vgg19"], n_positions=1)
    distances[["gain_mean", "gain_ci_low", "gain_ci_high"]] *= 500
    axes = draw(distances, ["gain"], classifiers=["vgg19"]).axes[0]
    low, high = axes.get_ylim()
    assert high / low < 10
    shown = [tick for tick in axes.get_yticks() if low <= tick <= high]
    assert len(shown) >= 2
    assert [axes.yaxis.get_major_formatter()(tick) for tick in shown] == [f"{tick:g}" for tick in shown]


def test_a_metric_that_the_vocabulary_lacks_is_shown_by_its_name() -> None:
    distances = distances_frame().rename(columns=lambda column: column.replace("gain", "own_metric"))
    figure = draw(distances, ["own_metric"], classifiers=["vgg19"])
    assert metric_named("own_metric").axis == figure.axes[0].get_ylabel() == "mean own_metric"


def test_labels_of_the_study_stand_in_place_of_the_names() -> None:
    labels = Labels(
        {"classifiers": {"vgg19": "Net"}, "adversarial_sets": {"own_set": "PGD"}, "denoisers": {"unet": "Mine"}}
    )
    figure = draw(distances_frame(), labels=labels)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a  Net", "b  ResNet V2-50", "c  own_classifier"]
    printed = words(figure)
    assert [word for word in printed if word in ("FGSM v1", "own_set", "PGD")] == ["FGSM v1", "PGD"]
    assert [word for word in printed if word.startswith("w/")] == ["w/o DN", "w/ FN", "w/ Mine"] * 2
    assert "Net" in words(draw(distances_frame(), classifiers=["vgg19"], labels=labels))


LAYERS = ["1 conv", "1 max pool, 1 mixed_b", "1 conv, 1 max pool, 6 dense layers", "1 FC"]


def test_layers_are_broken_after_commas_where_there_is_room() -> None:
    assert wrapped(LAYERS, LINE) == LAYERS
    assert wrapped(LAYERS, 3 * LINE) == [layer.replace(", ", ",\n") for layer in LAYERS]
    assert wrapped(LAYERS[2:], 1.5 * LINE) == ["1 conv, 1 max pool,\n6 dense layers", "1 FC"]
    for pitch in np.linspace(0.05, 0.6, 12):
        n_lines = [words.count("\n") + 1 for words in wrapped(LAYERS, pitch)]
        for one, next_one in pairwise(n_lines):
            assert one + next_one == 2 or (one + next_one) / 2 * LINE <= pitch + 1e-9


@pytest.mark.parametrize(
    ("n_classifiers", "n_metrics", "n_sets", "n_denoisers", "n_positions"),
    [
        (1, 1, 2, 2, 3),
        (1, 1, 8, 3, 14),
        (1, 1, 1, 0, 40),
        (1, 2, 5, 2, 14),
        (2, 1, 2, 2, 2),
        (3, 2, 1, 4, 2),
        (3, 1, 5, 4, 8),
        (5, 1, 1, 0, 2),
    ],
)
def test_nothing_overlaps_and_print_is_legible(
    n_classifiers: int, n_metrics: int, n_sets: int, n_denoisers: int, n_positions: int
) -> None:
    classifiers = [f"classifier{number}" for number in range(n_classifiers)]
    sets = [f"own_set{number}" for number in range(n_sets)]
    denoisers = ["fusionnet", "unet", "lgd", "fgd"][:n_denoisers]
    metrics = ["normalized_euclidean", "norm_change"][:n_metrics]
    frame = distances_frame(classifiers, sets, denoisers, n_positions)
    figure = draw(frame, metrics, classifiers=classifiers, sets=sets, denoisers=denoisers)
    canvas = FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        canvas.draw()
    renderer = canvas.get_renderer()
    panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
    legend = [text.get_window_extent(renderer) for text in figure.texts]
    for number, panel in enumerate(panels):
        assert not any(panel.overlaps(other) for other in panels[number + 1 :] + legend)
    for number, text in enumerate(legend):
        assert not any(text.overlaps(other) for other in legend[number + 1 :])
    for axes in figure.axes:
        for ticks in (axes.get_xticklabels(), axes.get_yticklabels(), axes.child_axes[0].get_xticklabels()):
            boxes = [tick.get_window_extent(renderer) for tick in ticks if tick.get_text()]
            assert not any(one.overlaps(next_one) for one, next_one in pairwise(boxes))
    width, height = figure.get_size_inches() * figure.dpi
    for box in panels + legend:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(Text) if text.get_text())
    assert width / figure.dpi >= 7


def test_files_are_the_same_bytes_again_and_svg_text_stays_text(tmp_path: Path) -> None:
    for extension in ("svg", "png"):
        for name in ("a", "b"):
            save_figure(draw(distances_frame(), classifiers=CLASSIFIERS[1:2]), tmp_path / name, extension)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
        if extension == "svg":
            svg = (tmp_path / "a").read_text()
            assert "ResNet V2-50</text>" in svg
            assert not re.search("<dc:date>", svg)


def test_a_missing_line_names_its_file() -> None:
    distances = distances_frame()
    lacking = distances[~((distances["classifier"] == "vgg19") & (distances["denoiser"] == "unet"))]
    with pytest.raises(MissingResultError, match=r"distances/vgg19/fgsm_v1\.csv .*denoiser=unet"):
        draw(lacking)
    with pytest.raises(MissingResultError, match="has no column cosine_ci_low"):
        draw(distances.drop(columns="cosine_ci_low"))


def test_more_denoisers_than_strokes_are_refused() -> None:
    with pytest.raises(TooManyLinesError, match=r"6 denoisers.*figures\.<name>\.denoisers"):
        draw(distances_frame(), denoisers=[f"denoiser{number}" for number in range(6)])
