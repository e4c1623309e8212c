import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from perturbflow.figures.decision_planes import geometry_figure
from perturbflow.figures.interventions import intervention_figure
from perturbflow.figures.style import STYLE, save_figure
from perturbflow.results.reading import MissingResultError, read_results
from perturbflow.vocabulary import Labels, set_colors

CLASSIFIER = "vgg19"
SETS = ["fgsm_v1", "own_set", "noise"]
CONTROLS = {"noise": "fgsm_v1"}
BESIDE = ["fgsm_v1", "noise", "own_set"]
NO_LABELS = Labels()
DENOISERS = ["unet"]
METRICS = ["along_share", "norm_change", "angle"]
PARTS = [("along", 1.0), ("across", 1.0), ("whole", 0.5), ("whole", 1.0)]


def layer(position: int) -> str:
    return "1 conv, 1 max pool" if position == 1 else f"{position} blocks"


def distances_frame(
    sets: Sequence[str] = SETS, denoisers: Sequence[str] = DENOISERS, n_positions: int = 3
) -> pd.DataFrame:
    """Rows in the order of the disk: positions fall, so that a figure has to sort them."""
    random = np.random.default_rng(0)
    rows = []
    for adversarial_set in sets:
        for denoiser in ["none", *denoisers]:
            for position in range(n_positions, 0, -1):
                row = {
                    "classifier": CLASSIFIER,
                    "adversarial_set": adversarial_set,
                    "denoiser": denoiser,
                    "position": position,
                    "layer": layer(position),
                }
                for metric in METRICS:
                    mean = random.uniform(0.1, 0.9) * (-1 if metric == "norm_change" else 1)
                    row |= {f"{metric}_mean": mean, f"{metric}_ci_low": mean - 0.1, f"{metric}_ci_high": mean + 0.1}
                rows.append(row)
    return pd.DataFrame(rows).assign(interval_covers="3 trainings and images")


def predictions_frame(
    sets: Sequence[str] = SETS, denoisers: Sequence[str] = DENOISERS, n_trainings: int = 1
) -> pd.DataFrame:
    """Of 21 images a training; the logits of image 4 do not change."""
    random = np.random.default_rng(1)
    clean = random.gamma(4, 2, size=21)
    frames = [
        pd.DataFrame(
            {
                "replicate": replicate,
                "classifier": CLASSIFIER,
                "adversarial_set": adversarial_set,
                "denoiser": denoiser,
                "index": np.arange(21),
                "margin_clean": clean,
                "margin": clean - random.gamma(3, 2, size=21),
                "logits_along_share": np.where(np.arange(21) == 4, np.nan, random.uniform(size=21)),
            }
        )
        for replicate in range(n_trainings)
        for adversarial_set in sets
        for denoiser in ["none", *denoisers]
    ]
    return pd.concat(frames, ignore_index=True)


def interventions_frame(
    sets: Sequence[str] = SETS, denoisers: Sequence[str] = DENOISERS, n_positions: int = 3
) -> pd.DataFrame:
    random = np.random.default_rng(2)
    rows = []
    for adversarial_set in sets:
        for denoiser in ["none", *denoisers]:
            places = [(position, *part) for position in range(n_positions, 0, -1) for part in reversed(PARTS)]
            for position, part, fraction in [*places, (0, "whole", 0.0), (0, "whole", 1.0)]:
                top1, margin = random.uniform(0.2, 0.8), random.uniform(-4, 8)
                rows.append(
                    {
                        "classifier": CLASSIFIER,
                        "adversarial_set": adversarial_set,
                        "denoiser": denoiser,
                        "position": position,
                        "layer": layer(position) if position else "image",
                        "part": part,
                        "fraction": fraction,
                        "top1": top1,
                        "top1_ci_low": top1 - 0.1,
                        "top1_ci_high": top1 + 0.15,
                        "margin_mean": margin,
                        "margin_ci_low": margin - 1,
                        "margin_ci_high": margin + 2,
                    }
                )
    return pd.DataFrame(rows).assign(interval_covers="3 trainings and images")


def draw_geometry(
    distances: pd.DataFrame,
    predictions: pd.DataFrame,
    sets: Sequence[str] = SETS,
    denoisers: Sequence[str] = DENOISERS,
    labels: Labels = NO_LABELS,
    controls: Mapping[str, str] = CONTROLS,
) -> Figure:
    return geometry_figure(
        distances,
        predictions,
        classifier=CLASSIFIER,
        adversarial_sets=sets,
        denoisers=denoisers,
        controls=controls,
        colors=set_colors(sets),
        labels=labels,
    )


def draw_interventions(
    interventions: pd.DataFrame,
    sets: Sequence[str] = SETS,
    denoisers: Sequence[str] = DENOISERS,
    labels: Labels = NO_LABELS,
) -> Figure:
    return intervention_figure(
        interventions, classifier=CLASSIFIER, adversarial_sets=sets, denoisers=denoisers, labels=labels
    )


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def is_reference(line: mpl.lines.Line2D) -> bool:
    return list(line.get_xdata()) == [0, 1] and len(set(line.get_ydata())) == 1


def data_lines(axes: Axes) -> list[mpl.lines.Line2D]:
    return [line for line in axes.lines if not is_reference(line)]


def references(axes: Axes) -> list[float]:
    return [line.get_ydata()[0] for line in axes.lines if is_reference(line)]


def bands(axes: Axes) -> list[np.ndarray]:
    artists = [artist for artist in axes.collections if isinstance(artist, FillBetweenPolyCollection)]
    return [artist.get_paths()[0].vertices[:, 1] for artist in artists]


def test_geometry_plots_the_values_of_the_frame() -> None:
    distances = distances_frame()
    panels = draw_geometry(distances, predictions_frame()).axes
    for number, metric in enumerate(METRICS):
        for column, denoiser in enumerate(["none", "unet"]):
            axes = panels[2 * number + column]
            assert len(data_lines(axes)) == len(SETS)
            for line, band, name in zip(data_lines(axes), bands(axes), SETS, strict=True):
                rows = distances[(distances["adversarial_set"] == name) & (distances["denoiser"] == denoiser)]
                rows = rows.sort_values("position")
                np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
                np.testing.assert_array_equal(line.get_ydata(), rows[f"{metric}_mean"])
                assert band.min() == rows[f"{metric}_ci_low"].min()
                assert band.max() == rows[f"{metric}_ci_high"].max()
            assert references(axes) == ([0] if metric == "norm_change" else [])
        assert panels[2 * number].get_ylim() == panels[2 * number + 1].get_ylim()
    assert panels[0].get_ylim()[0] <= 0
    assert panels[0].get_ylim()[1] >= 1
    assert [axes.get_title(loc="left") for axes in panels[:2]] == ["w/o DN", "w/ UN"]
    (wording,) = panels[4].child_axes
    assert [tick.get_text() for tick in wording.get_xticklabels()] == ["1 conv,\n1 max pool", "2 blocks", "3 blocks"]


def spans(axes: Axes) -> list[np.ndarray]:
    return [artist.get_segments()[0] for artist in axes.collections if isinstance(artist, LineCollection)]


def rows_of(predictions: pd.DataFrame, name: str, denoiser: str) -> pd.DataFrame:
    return predictions[(predictions["adversarial_set"] == name) & (predictions["denoiser"] == denoiser)]


def test_geometry_shows_noise_beside_the_adversary_at_the_centred_logits() -> None:
    predictions = predictions_frame()
    panels = draw_geometry(distances_frame(), predictions).axes[6:8]
    colors = set_colors(SETS)
    for axes, denoiser in zip(panels, ["none", "unet"], strict=True):
        assert references(axes) == [0.5]
        assert axes.get_ylim() == (0, 1)
        for place, name in enumerate(BESIDE):
            share = rows_of(predictions, name, denoiser)["logits_along_share"].dropna()
            (marker,) = data_lines(axes)[place : place + 1]
            assert marker.get_xydata().tolist() == [[place, pytest.approx(share.mean())]]
            assert marker.get_markeredgecolor() == colors[name]
            assert marker.get_color() == ("white" if name == "noise" else colors[name])
            low, high = scipy.stats.t.interval(0.95, len(share) - 1, share.mean(), scipy.stats.sem(share))
            np.testing.assert_allclose(spans(axes)[place], [[place, low], [place, high]], atol=0.02)


def test_geometry_shows_the_spread_of_the_change_of_the_margin() -> None:
    predictions = predictions_frame()
    panels = draw_geometry(distances_frame(), predictions).axes[8:]
    for axes, denoiser in zip(panels, ["none", "unet"], strict=True):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["FGSM v1", "noise", "own_set"]
        assert references(axes) == [0, pytest.approx(-predictions["margin_clean"].mean())]
        for place, name in enumerate(BESIDE):
            rows = rows_of(predictions, name, denoiser)
            change = np.sort(rows["margin"] - rows["margin_clean"])
            assert data_lines(axes)[place].get_xydata().tolist() == [[place, pytest.approx(change.mean())]]
            # With 21 images these percentiles are images themselves.
            np.testing.assert_allclose(spans(axes)[2 * place], [[place, change[1]], [place, change[19]]])
            np.testing.assert_allclose(spans(axes)[2 * place + 1], [[place, change[5]], [place, change[15]]])


def test_geometry_is_of_all_trainings() -> None:
    """The trainings' means are averaged; the interval is mostly that of three of them."""
    predictions = predictions_frame(n_trainings=3)
    axes, margins = draw_geometry(distances_frame(), predictions).axes[6:10:2]
    for place, name in enumerate(BESIDE):
        rows = rows_of(predictions, name, "none")
        means = rows.groupby("replicate")["logits_along_share"].mean()
        assert data_lines(axes)[place].get_ydata() == pytest.approx([means.mean()])
        low, high = spans(axes)[place][:, 1]
        assert (high - low) / 2 > 4.3 * means.std() / 3**0.5
        change = rows["margin"] - rows["margin_clean"]
        assert data_lines(margins)[place].get_ydata() == pytest.approx([change.mean()])
        assert spans(margins)[2 * place][:, 1] == pytest.approx(change.quantile([0.05, 0.95]).tolist())


def test_each_of_many_sets_has_a_look_of_its_own() -> None:
    sets = [f"set{number}" for number in range(20)]
    axes = draw_geometry(distances_frame(sets, []), predictions_frame(sets, []), sets, [], controls={}).axes[0]
    looks = {(line.get_color(), line.get_marker(), str(line._unscaled_dash_pattern)) for line in axes.lines}
    assert len(looks) == 20
    assert len({(line.get_color(), line.get_marker()) for line in axes.lines[:8]}) == 8


@pytest.mark.parametrize(("value", "unit"), [("top1", 100), ("margin", 1)])
def test_interventions_plot_the_values_of_the_frame(value: str, unit: float) -> None:
    interventions = interventions_frame()
    mean = {"top1": "top1", "margin": "margin_mean"}[value]
    panels = draw_interventions(interventions).axes
    for number, name in enumerate(SETS):
        for column, denoiser in enumerate(["none", "unet"]):
            axes = panels[4 * number + (0 if value == "top1" else 2) + column]
            keys = (interventions["adversarial_set"] == name) & (interventions["denoiser"] == denoiser)
            rows = interventions[keys].set_index(["position", "part", "fraction"]).sort_index()
            expected = [rows.loc[(0, "whole", fraction), mean] * unit for fraction in (0.0, 1.0)]
            assert references(axes) == pytest.approx(expected)
            for line, band, part in zip(data_lines(axes), bands(axes), PARTS, strict=True):
                chosen = rows.loc[[(position, *part) for position in (1, 2, 3)]]
                np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
                np.testing.assert_allclose(line.get_ydata(), unit * chosen[mean])
                assert band.min() == pytest.approx(unit * chosen[f"{value}_ci_low"].min())
                assert band.max() == pytest.approx(unit * chosen[f"{value}_ci_high"].max())
            assert axes.get_ylim() == panels[0 if value == "top1" else 2].get_ylim()


def test_the_key_of_interventions_names_every_line() -> None:
    figure = draw_interventions(interventions_frame())
    lines = ["along the clean map", "across the clean map", "0.5 of the whole", "whole"]
    assert [word for word in words(figure) if word in lines] == lines
    assert {"clean image", "perturbed image", "FGSM v1", "own_set", "VGG-19"} <= set(words(figure))
    looks = {(line.get_color(), line.get_marker()) for line in data_lines(figure.axes[0])}
    assert len(looks) == len(PARTS)


def test_missing_rows_and_columns_name_their_file() -> None:
    distances, predictions, interventions = distances_frame(), predictions_frame(), interventions_frame()
    with pytest.raises(MissingResultError, match=r"distances/vgg19/noise\.csv .*denoiser=unet"):
        draw_geometry(distances[:-3], predictions)
    with pytest.raises(MissingResultError, match=r"distances/vgg19/fgsm_v1\.csv has no column angle_mean"):
        draw_geometry(distances.drop(columns="angle_mean"), predictions)
    with pytest.raises(MissingResultError, match=r"predictions/vgg19/noise\.csv\.gz .*denoiser=unet"):
        draw_geometry(distances, predictions[:-21])
    with pytest.raises(MissingResultError, match=r"interventions/vgg19/fgsm_v1\.csv has no column top1_ci_low"):
        draw_interventions(interventions.drop(columns="top1_ci_low"))
    with pytest.raises(MissingResultError, match=r"noise\.csv .* at position 0 .*unet, part=whole, fraction=1;"):
        draw_interventions(interventions[:-1])
    lacking = interventions[(interventions["part"] != "along") | (interventions["adversarial_set"] == "fgsm_v1")]
    with pytest.raises(MissingResultError, match=r"own_set\.csv .* after position 0 .*none, part=along, fraction=1;"):
        draw_interventions(lacking)


def test_the_figures_read_the_files_of_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "predictions" / CLASSIFIER
    folder.mkdir(parents=True)
    for name, rows in predictions_frame().groupby("adversarial_set"):
        rows.drop(columns=["classifier", "adversarial_set"]).to_csv(folder / f"{name}.csv.gz", index=False)
    predictions = read_results([str(folder / f"{name}.csv.gz") for name in SETS])
    from_files, from_frame = (
        draw_geometry(distances_frame(), frame).axes[-1] for frame in (predictions, predictions_frame())
    )
    assert references(from_files) == pytest.approx(references(from_frame))
    assert len(from_files.collections) == len(from_frame.collections)


def test_labels_of_the_study_stand_in_place_of_the_names() -> None:
    labels = Labels(
        {"classifiers": {CLASSIFIER: "Net"}, "adversarial_sets": {"own_set": "PGD"}, "denoisers": {"unet": "Mine"}}
    )
    geometry = draw_geometry(distances_frame(), predictions_frame(), labels=labels)
    interventions = draw_interventions(interventions_frame(), labels=labels)
    for figure in (geometry, interventions):
        assert {"Net", "FGSM v1", "PGD"} <= set(words(figure))
        assert not {"VGG-19", "own_set"} & set(words(figure))
        assert [axes.get_title(loc="left") for axes in figure.axes[:2]] == ["w/o DN", "w/ Mine"]
    assert [tick.get_text() for tick in geometry.axes[-1].get_xticklabels()] == ["FGSM v1", "noise", "PGD"]


def check_layout(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    with mpl.rc_context(STYLE):
        canvas.draw()
    renderer = canvas.get_renderer()
    panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
    around = [text.get_window_extent(renderer) for text in figure.texts]
    for number, panel in enumerate(panels):
        assert not any(panel.overlaps(other) for other in panels[number + 1 :] + around)
    for number, text in enumerate(around):
        assert not any(text.overlaps(other) for other in around[number + 1 :])
    for axes in figure.axes:
        for ticks in [axes.get_xticklabels(), axes.get_yticklabels()] + [
            child.get_xticklabels() for child in axes.child_axes
        ]:
            boxes = [tick.get_window_extent(renderer) for tick in ticks if tick.get_text() and tick.get_visible()]
            assert not any(one.overlaps(next_one) for one, next_one in pairwise(boxes))
    width, height = figure.get_size_inches() * figure.dpi
    for box in panels + around:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    assert all(text.get_fontsize() >= 7 for text in figure.findobj(Text) if text.get_text())


@pytest.mark.parametrize(("n_sets", "n_denoisers", "n_positions"), [(1, 0, 2), (10, 1, 14), (3, 5, 8)])
def test_nothing_overlaps_in_geometry(n_sets: int, n_denoisers: int, n_positions: int) -> None:
    sets = [f"own_adversarial_set{number}" for number in range(n_sets)]
    denoisers = [f"own_denoiser{number}" for number in range(n_denoisers)]
    distances = distances_frame(sets, denoisers, n_positions)
    controls = dict.fromkeys(sets[2:4], sets[0])
    predictions = predictions_frame(sets, denoisers)
    check_layout(draw_geometry(distances, predictions, sets, denoisers, controls=controls))


@pytest.mark.parametrize(("n_sets", "n_denoisers", "n_positions"), [(1, 0, 2), (2, 2, 14), (1, 5, 8)])
def test_nothing_overlaps_in_interventions(n_sets: int, n_denoisers: int, n_positions: int) -> None:
    sets = [f"adversarial_set_of_a_long_name{number}" for number in range(n_sets)]
    denoisers = [f"own_denoiser{number}" for number in range(n_denoisers)]
    check_layout(draw_interventions(interventions_frame(sets, denoisers, n_positions), sets, denoisers))


def test_files_are_the_same_bytes_again_and_svg_text_stays_text(tmp_path: Path) -> None:
    for draw in (
        lambda: draw_geometry(distances_frame(), predictions_frame(), SETS[:1], [], controls={}),
        lambda: draw_interventions(interventions_frame(), SETS[:1], []),
    ):
        for name in ("a", "b"):
            save_figure(draw(), tmp_path / f"{name}.svg", "svg")
        svg = (tmp_path / "a.svg").read_text()
        assert svg == (tmp_path / "b.svg").read_text()
        assert re.search("VGG-19</text>", svg)
