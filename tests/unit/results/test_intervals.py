import numpy as np
import pytest
import scipy.stats

from perturbflow.results.intervals import summary


@pytest.mark.parametrize("n", [2, 5, 1000])
def test_the_interval_is_student_s(n):
    values = np.random.default_rng(n).lognormal(size=n)
    low, high = scipy.stats.t.interval(0.95, n - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert summary(values) == pytest.approx(
        {"mean": values.mean(), "std": values.std(ddof=1), "ci_low": low, "ci_high": high}
    )
    wider = summary(values, confidence=0.99)
    assert wider["ci_low"] < low and wider["ci_high"] > high


def test_one_image_has_no_interval():
    row = summary(np.array([0.25]))
    assert row["mean"] == 0.25
    assert np.isnan([row["std"], row["ci_low"], row["ci_high"]]).all()


def test_undefined_values_are_left_out():
    values = np.array([0.5, np.nan, 0.25, 1.0, np.nan])
    assert summary(values) == summary(np.array([0.5, 0.25, 1.0]))
    assert np.isnan(list(summary(np.full(3, np.nan)).values())).all()
