"""Every family of timm gets its taps: `make test-timm`, five minutes on one core."""

import pytest
import timm

from tests.timm.walk import SMALLEST, check_taps


def test_every_family_of_timm_is_tried():
    families = {family: timm.list_models(module=family) for family in timm.list_modules()}
    assert {family: name for family, name in SMALLEST.items() if name not in families.get(family, [])} == {}
    assert set(SMALLEST) == set(families)


@pytest.mark.parametrize("name", SMALLEST.values(), ids=SMALLEST)
def test_taps_of_a_family(name):
    check_taps(name)
