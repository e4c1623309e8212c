from math import inf

import numpy as np
import pytest
import scipy.stats

from perturbflow.results.bootstrap import Estimate
from perturbflow.results.verdicts import Region, corrected, holm


def estimated(value: float, half_width: float) -> Estimate:
    """With a 95% interval of that half-width, from 21 images."""
    error = half_width / scipy.stats.t.ppf(0.975, 20)
    return Estimate(np.array(value), np.array(0.0), np.array(error), 1, np.array(21))


@pytest.mark.parametrize(
    ("region", "value", "verdict"),
    [
        (Region(low=1), 1.2, "holds"),
        (Region(low=1), 1.05, "undecided"),
        (Region(low=1), 0.95, "undecided"),
        (Region(low=1), 0.8, "fails"),
        (Region(high=1), 0.8, "holds"),
        (Region(high=1), 1.2, "fails"),
        (Region(1, 2), 1.5, "holds"),
        (Region(1, 2), 1.95, "undecided"),
        (Region(1, 2), 2.2, "fails"),
        (Region(1, 2), 0.8, "fails"),
        (Region(1, 1.15), 1.07, "undecided"),
    ],
)
def test_verdicts_and_their_p_values(region: Region, value: float, verdict: str) -> None:
    estimate = estimated(value, 0.1)
    assert region.verdict(estimate) == verdict
    assert (region.p_value(estimate) < 0.05) == (verdict != "undecided")


def test_the_p_value_is_of_the_interval_that_just_reaches_the_bound() -> None:
    estimate = estimated(1.5, 0.2)
    p_value = Region(1, 1.9).p_value(estimate)
    low, high = estimate.interval(1 - p_value)
    assert high == pytest.approx(1.9)
    assert low > 1
    wider = Region(1, 1.9)
    assert wider.p_value(estimate) == pytest.approx(max(Region(low=1).p_value(estimate), estimate.p_value(1.9)))


def test_an_interval_without_width_is_no_verdict() -> None:
    certain = Estimate(np.array(1.0), np.array(0.0), np.array(0.0), 1, np.array(128))
    assert Region(0, 1).verdict(certain) == Region(low=0).verdict(certain) == "undecided"
    assert np.isnan(Region(low=0).p_value(certain))


def test_what_is_not_defined_is_no_verdict() -> None:
    undefined = Estimate(np.array(1.0), np.array(0.0), np.array(np.nan), 1, np.array(128))
    assert Region(low=0).verdict(undefined) == "undecided"
    assert np.isnan(Region(low=0).p_value(undefined))


def test_regions_in_words() -> None:
    assert [str(region) for region in (Region(low=1), Region(high=0.5, closed=True), Region(0, 1))] == [
        "> 1",
        "<= 0.5",
        "in (0, 1)",
    ]
    assert str(Region(-inf, 2)) == "< 2"


def test_holm_against_its_definition() -> None:
    p_values = np.random.default_rng(0).uniform(size=40) ** 4
    p_values[[3, 17]] = np.nan
    known = sorted(value for value in p_values.tolist() if value == value)
    expected, largest = {}, 0.0
    for rank, value in enumerate(known):
        largest = max(largest, (len(known) - rank) * value)
        expected[value] = min(largest, 1.0)
    found = holm(p_values)
    assert np.isnan(found[[3, 17]]).all()
    assert [found[i] for i in range(40) if i not in (3, 17)] == pytest.approx(
        [expected[value] for value in p_values.tolist() if value == value]
    )


def test_holm_holds_the_error_of_all_together() -> None:
    """Of 20 true hypotheses one or more is refused in 5% of studies."""
    p_values = np.random.default_rng(1).uniform(size=(2000, 20))
    wrong = np.mean([(holm(row) < 0.05).any() for row in p_values])
    assert wrong == pytest.approx(0.05, abs=3 * (0.05 * 0.95 / 2000) ** 0.5)


def test_corrected() -> None:
    assert corrected("holds", 0.04) == "holds"
    assert corrected("holds", 0.06) == corrected("holds", np.nan) == "undecided"
