import numpy as np
import pandas as pd
import pytest
import scipy.stats

from perturbflow.results.bootstrap import N_RESAMPLES, Estimate, by_image, estimate, resampled_means


def test_resampled_means_against_a_loop() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=(4, 30, 2, 3))
    values[rng.random(values.shape) < 0.2] = np.nan
    samples = resampled_means(values, seed=5)
    draws = np.random.default_rng(5).integers(30, size=(N_RESAMPLES, 30))
    assert samples.shape == (1 + N_RESAMPLES, 4, 2, 3)
    assert samples[0] == pytest.approx(np.nanmean(values, axis=1))
    for number in (0, 1, 17, N_RESAMPLES - 1):
        for training in range(4):
            expected = np.nanmean(values[training, draws[number]], axis=0)
            assert samples[1 + number, training] == pytest.approx(expected)


def test_resamples_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(2, 37, 2))
    whole = resampled_means(values)
    monkeypatch.setattr("perturbflow.results.bootstrap._N_WEIGHTS_AT_ONCE", 1000)
    assert resampled_means(values) == pytest.approx(whole)


def test_nothing_has_no_interval() -> None:
    for values in (np.full((2, 4, 2), np.nan), np.empty((2, 0, 2))):
        samples = resampled_means(values)
        assert np.isnan(samples).all()
        assert np.isnan(estimate(samples, values.shape[1]).interval()).all()
    one_image = estimate(resampled_means([[3.0]]), 1)
    assert one_image.value == 3
    assert np.isnan(one_image.interval()).all()
    assert np.isnan(one_image.p_value(2))


def naive_interval(values: np.ndarray, draws: np.ndarray) -> tuple[float, float]:
    """Of the mean of (n_trainings, n_images) values, by the words of the module."""
    n_trainings, n_images = values.shape
    means = [sum(row) / n_images for row in values.tolist()]
    resampled = [[sum(row[image] for image in draw) / n_images for draw in draws] for row in values.tolist()]
    of_all = [sum(column) / n_trainings for column in zip(*resampled, strict=True)]
    between_images = np.var(of_all)
    half = 0.0
    if n_trainings > 1:
        alone = [np.var([mine - all_ for mine, all_ in zip(row, of_all, strict=True)]) for row in resampled]
        between_images = max(0.0, between_images - sum(alone) / (n_trainings - 1) / n_trainings)
        half = scipy.stats.t.ppf(0.975, n_trainings - 1) ** 2 * np.var(means, ddof=1) / n_trainings
    half += scipy.stats.t.ppf(0.975, n_images - 1) ** 2 * between_images * n_images / (n_images - 1)
    middle = sum(means) / n_trainings
    return middle - half**0.5, middle + half**0.5


@pytest.mark.parametrize("n_trainings", [1, 2, 5])
def test_intervals_against_a_loop(n_trainings: int) -> None:
    rng = np.random.default_rng(n_trainings)
    values = rng.normal(size=(n_trainings, 1)) + rng.normal(size=20) + rng.exponential(size=(n_trainings, 20))
    draws = np.random.default_rng(0).integers(20, size=(N_RESAMPLES, 20))
    assert estimate(resampled_means(values), 20).interval() == pytest.approx(naive_interval(values, draws))


def test_the_interval_of_one_training_is_student_s_but_for_the_resampling() -> None:
    values = np.random.default_rng(1).normal(size=50)
    low, high = estimate(resampled_means(values[None]), 50).interval()
    expected = scipy.stats.t.interval(0.95, 49, loc=values.mean(), scale=scipy.stats.sem(values))
    assert (low, high) == pytest.approx(expected, abs=0.05 * values.std())


N_SIMULATED = 3000
ERROR = (0.95 * 0.05 / N_SIMULATED) ** 0.5


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perturbflow.results.bootstrap.N_RESAMPLES", 500)


def covered(n_trainings: int, trainings: float, images: float, both: float) -> float:
    """How often the interval of a mean holds the true one, 0.

    trainings, images, both: standard deviations of what all images of a training share, of what an image is in all
    trainings, and of what an image is in one.
    """
    rng = np.random.default_rng(n_trainings)
    values = (
        trainings * rng.normal(size=(n_trainings, 1, N_SIMULATED))
        + images * rng.normal(size=(1, 40, N_SIMULATED))
        + both * rng.normal(size=(n_trainings, 40, N_SIMULATED))
    )
    low, high = estimate(resampled_means(values), 40).interval()
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize(
    ("n_trainings", "trainings", "images", "both"),
    [(1, 0, 1, 0), (2, 0, 1, 0), (3, 0, 1, 0), (2, 1, 0, 0), (3, 1, 0, 0), (5, 1, 0, 0)],
)
def test_intervals_cover_95_percent_of_images_or_trainings(
    n_trainings: int, trainings: float, images: float, both: float
) -> None:
    assert covered(n_trainings, trainings, images, both) == pytest.approx(0.95, abs=3 * ERROR)


@pytest.mark.usefixtures("fewer_resamples")
@pytest.mark.parametrize("n_trainings", [2, 3, 5])
@pytest.mark.parametrize(("trainings", "images", "both"), [(0, 0, 6), (1, 6, 0), (1, 6, 6), (0.3, 6, 6), (2, 6, 6)])
def test_intervals_of_both_are_not_too_narrow(n_trainings: int, trainings: float, images: float, both: float) -> None:
    """Nor much too wide: what one training of its own does to the images is not counted twice."""
    found = covered(n_trainings, trainings, images, both)
    assert 0.95 - 3 * ERROR <= found <= 0.993 - 0.004 * (n_trainings - 2)


def test_a_percentile_bootstrap_of_trainings_would_be_too_narrow() -> None:
    """Why the trainings are not resampled: of three, the interval holds the true mean three times of four at most."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, N_SIMULATED))
    drawn = values[rng.integers(3, size=(500, 3))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    assert ((low <= 0) & (high >= 0)).mean() < 0.77


def test_p_values_are_those_of_the_intervals() -> None:
    one = Estimate(np.array(1.0), np.array(0.2), np.array(0.1), 3, np.array(40))
    for confidence in (0.5, 0.95, 0.9999):
        low, high = one.interval(confidence)
        assert one.p_value(float(low)) == pytest.approx(1 - confidence)
        assert one.p_value(float(high)) == pytest.approx(1 - confidence)
    assert one.p_value(1.0) == 1
    images_alone = Estimate(np.array(1.0), np.array(0.0), np.array(0.1), 1, np.array(40))
    assert images_alone.p_value(0.5) == pytest.approx(2 * scipy.stats.t.sf(5, 39))
    certain = Estimate(np.array(1.0), np.array(0.0), np.array(0.0), 1, np.array(40))
    assert certain.p_value(0.5) == 0


@pytest.mark.parametrize("n_images", range(3, 41))
def test_p_values_of_few_images(n_images: int) -> None:
    """In one training, in three, and in three where the images make no difference."""
    for n_trainings, trainings_error, images_error in [(1, 0, 0.1), (3, 0.2, 0.1), (3, 0.2, 0)]:
        one = Estimate(
            np.array(1.0), np.array(trainings_error), np.array(images_error), n_trainings, np.array(n_images)
        )
        low, _ = one.interval(0.999)
        assert one.p_value(float(low)) == pytest.approx(0.001)


def test_what_is_the_same_in_all_images_does_not_vary() -> None:
    values = np.stack([np.full((2, 30), 0.1), np.random.default_rng(0).normal(size=(2, 30))], axis=-1)
    assert estimate(resampled_means(values), 30).varies.tolist() == [False, True]


def test_by_image() -> None:
    frame = pd.DataFrame({"index": [7, 2, 7], "a": ["x", "x", "y"], "value": [1.0, 2.0, 3.0]})
    keys, values = by_image(frame, ["a"], "value")
    assert keys.tolist() == ["x", "y"]
    np.testing.assert_array_equal(values, [[[2, np.nan], [1, 3]]])


def test_by_image_and_training() -> None:
    """Images that one training lacks, or has no value of, are NaN there."""
    frame = pd.DataFrame(
        {
            "replicate": [0, 0, 2, 2],
            "index": [7, 2, 7, 7],
            "a": pd.Categorical(["x", "x", "x", "y"]),
            "b": [1, 1, 1, 1],
            "value": [1.0, 2.0, 3.0, 4.0],
        }
    )
    keys, values = by_image(frame, ["a", "b"], "value")
    assert keys.tolist() == [("x", 1), ("y", 1)]
    nan = np.nan
    np.testing.assert_array_equal(values, [[[2, nan], [1, nan]], [[nan, nan], [3, 4]]])
