import numpy as np
import pandas as pd
import pytest

from perturbflow.results.bootstrap import N_RESAMPLES, by_image, interval, resampled_means


def test_resampled_means_against_a_loop() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(30, 2, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    samples = resampled_means(values, seed=5)
    draws = np.random.default_rng(5).integers(30, size=(N_RESAMPLES, 30))
    assert samples.shape == (1 + N_RESAMPLES, 2, 3)
    assert samples[0] == pytest.approx(np.nanmean(values, axis=0))
    for number in (0, 1, 17, N_RESAMPLES - 1):
        assert samples[1 + number] == pytest.approx(np.nanmean(values[draws[number]], axis=0))
    low, high = interval(samples)
    assert low == pytest.approx(np.percentile(samples[1:], 2.5, axis=0))
    assert high == pytest.approx(np.percentile(samples[1:], 97.5, axis=0))


def test_resamples_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(37, 2))
    whole = resampled_means(values)
    monkeypatch.setattr("perturbflow.results.bootstrap._N_WEIGHTS_AT_ONCE", 1000)
    assert resampled_means(values) == pytest.approx(whole)


def test_resampled_means_of_nothing() -> None:
    assert np.isnan(resampled_means(np.full((4, 2), np.nan))).all()
    assert np.isnan(resampled_means(np.empty((0, 2)))).all()


def test_interval_covers_the_true_mean() -> None:
    """Of 400 samples of 60 skewed values, about 95% of the intervals hold the true mean, 1."""
    samples = resampled_means(np.random.default_rng(2).exponential(size=(60, 400)))
    low, high = interval(samples)
    assert 0.90 <= ((low < 1) & (high > 1)).mean() <= 0.98


def test_by_image() -> None:
    frame = pd.DataFrame({"index": [7, 2, 7], "a": ["x", "x", "y"], "value": [1.0, 2.0, 3.0]})
    matrix = by_image(frame, ["a"], "value")
    assert matrix.index.tolist() == [2, 7]
    assert matrix["x"].tolist() == [2, 1]
    assert matrix["y"].isna().tolist() == [True, False]
