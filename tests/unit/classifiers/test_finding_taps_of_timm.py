"""Families of timm whose stages are tuples, lists or no modules at all; the others are tried by `make test-timm`."""

import pytest

from tests.timm.walk import SMALLEST, check_taps

FAMILIES = [
    *("coat", "crossvit", "efficientformer_v2", "efficientvim", "hrnet", "levit"),
    *("mobilevit", "mvitv2", "pit", "selecsls", "tnt", "twins"),
]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_taps_of_a_family(family):
    check_taps(SMALLEST[family])
