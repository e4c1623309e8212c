from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import growth
from benchmarks.growth import SIZES, STAGES, Curve, Stage, Study, curves_of, draw, memory_rows, rows
from perturbflow.files.images import open_images, read_columns

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("growth"), replace(SIZES["cpu"], counts=(8, 16), few=4), CPU)
    study.write()
    return study


@pytest.fixture(autouse=True)
def no_extra_rounds(monkeypatch):
    monkeypatch.setattr(growth, "SHORT", 0)


def straight(slope=0.002, intercept=0.5, counts=(1000, 2000, 4000, 8000), few=64):
    seconds = [intercept + slope * count for count in counts]
    return Curve(counts, seconds, few, intercept + slope * few, 3.0, 0.4)


# ------------------------------------------------------------------------------------------------ the line


def test_of_a_straight_line_slope_and_intercept_are_found_and_nothing_deviates():
    of_stage = straight()
    assert of_stage.line == pytest.approx((0.002, 0.5))
    assert of_stage.deviation == pytest.approx(0, abs=1e-9)
    assert of_stage.fixed == pytest.approx(0.5)
    assert of_stage.intercept_error == pytest.approx(0, abs=1e-6)


def test_a_cost_that_grows_with_the_square_deviates():
    counts = np.array([1000, 2000, 4000, 8000])
    assert Curve(counts, 1e-6 * counts**2, 64, 0.1, 0.1, 0.1).deviation > 0.2


def test_the_rows_say_what_an_image_costs_and_what_the_intercept_is():
    first = STAGES[0].title
    image, intercept, once, first_calls = rows({first: straight()})
    assert image.ours == pytest.approx(2.0)
    assert image.unit == "ms"
    assert image.holds == "yes"
    assert (intercept.ours, intercept.theirs, once.ours) == pytest.approx((0.5, 0.5, 0.4))
    assert first_calls.ours == pytest.approx(3.0 - 0.628)


def test_memory_that_grows_is_not_let_through():
    same, grown = memory_rows({"same": {10: 100.0, 20: 101.0}, "grown": {10: 100.0, 20: 110.0}})
    assert (same.holds, grown.holds) == ("yes", "no")


# ------------------------------------------------------------------------------------------------ the stages


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.title)
def test_every_stage_runs_for_each_number_of_images(study, stage):
    of_stage = curves_of([stage], study, rounds=1)[stage.title]
    assert of_stage.counts == (8, 16)
    assert all(seconds > 0 for seconds in (*of_stage.seconds, of_stage.few_seconds, of_stage.once))


def nothing(*arguments):
    """A stage that takes no time."""


def test_the_fastest_round_counts(study, monkeypatch):
    first, rounds = [9], [[5, 20, 40, 2], [6, 10, 30, 1]]
    clock = iter([reading for seconds in (first, *rounds) for one in seconds for reading in (0, one)])
    monkeypatch.setattr(growth.time, "perf_counter", lambda: next(clock))
    of_stages = curves_of([Stage("stage", nothing, nothing, "nothing")], study, rounds=2)
    assert of_stages == {"stage": Curve((8, 16), [10, 30], 4, 5, 9, 1)}


def test_a_short_stage_gets_more_rounds(study, monkeypatch):
    runs = []
    monkeypatch.setattr(growth, "SHORT", 1)
    monkeypatch.setattr(growth, "MOST_ROUNDS", 4)
    curves_of([Stage("stage", lambda study, n_images: runs.append(n_images), nothing, "nothing")], study, rounds=1)
    assert runs == [4, *(4 * [4, 8, 16])]


def test_the_attacks_work_on_images_that_are_not_misclassified_and_fool_some(study):
    for attack in ("ifgsm", "fgsm"):
        study.attack(attack, 16)
        steps, succeeded, already = read_columns(
            study.file(f"of_{attack}", 16), "steps", "succeeded", "already_misclassified"
        )
        assert not already.any()
        assert succeeded.any()
        assert steps.min() >= 1


def test_denoising_writes_all_images(study):
    study.denoise(16)
    assert open_images(study.file("denoised", 16)).shape == (16, 32, 32, 3)


# ------------------------------------------------------------------------------------------------ the figure


def test_the_figure_has_a_panel_for_each_stage_and_one_for_memory():
    curves = {stage.title: straight() for stage in STAGES}
    figure = draw(curves, {"measuring distances": {1000: 500.0, 8000: 502.0}})
    assert [axes.get_title(loc="left") for axes in figure.axes] == [*curves, "peak memory"]
    assert {axes.get_ylabel() for axes in figure.axes} == {"seconds", "MiB"}
    assert {axes.get_xlabel() for axes in figure.axes} == {"images"}
