"""The metrics against exact integer arithmetic on the same single-precision maps, and their identities."""

from decimal import Decimal, localcontext
from itertools import permutations

import numpy as np
import pytest
import scipy.stats
import torch

from perturbflow.measuring import metrics
from perturbflow.measuring.metrics import (
    ALL_METRICS,
    METRICS,
    SET_METRICS,
    Change,
    Maps,
    blocks,
    gain,
    gram_matrix,
    linear_cka,
    part_along,
)


def measured(name, clean, other):
    return METRICS[name](Change(Maps(clean), Maps(other)))


# 2^-SCALE divides every non-zero value of the maps used here, so that value * 2^SCALE is a whole number.
SCALE = 80


def exact(clean, other):
    """Every metric of two vectors: sums in whole numbers, the rest with 60 digits."""
    a, b = ([int(value) for value in vector.double().numpy() * 2.0**SCALE] for vector in (clean, other))
    assert [value / 2**SCALE for value in a[:100]] == clean[:100].tolist()
    d = [y - x for x, y in zip(a, b, strict=True)]
    with localcontext(prec=60):
        aa, bb, ab, dd = (
            Decimal(sum(x * y for x, y in zip(left, right, strict=True)))
            for left, right in ((a, a), (b, b), (a, b), (d, d))
        )
        cos = ab / (aa * bb).sqrt()
        # The chord between the unit vectors, or of the one to the other's opposite: the smaller has all its digits.
        chords = [float(max(2 - 2 * cos, Decimal(0)).sqrt()), float(max(2 + 2 * cos, Decimal(0)).sqrt())]
        degrees = 2 * np.degrees(np.arcsin(min(chords) / 2))
        return {
            "normalized_euclidean": float(dd.sqrt() / 2**SCALE / len(a)),
            "cosine": float(1 - cos),
            "relative_error": float((dd / aa).sqrt()),
            "along": float(ab / aa - 1),
            "across": float(max(bb / aa - (ab / aa) ** 2, Decimal(0)).sqrt()),
            "along_share": float((ab - aa) ** 2 / aa / dd) if dd else np.nan,
            "norm_change": float((bb / aa).sqrt() - 1),
            "angle": degrees if chords[0] <= chords[1] else 180 - degrees,
        }


def turned(clean, cosine_distance, factor, seed):
    """A map at about that COS-D of `clean`, (n,), and `factor` times as long, in single precision."""
    generator = np.random.default_rng(seed)
    a = clean.double().numpy()
    aside = generator.standard_normal(a.shape)
    aside -= aside @ a / (a @ a) * a
    aside *= np.linalg.norm(a) / np.linalg.norm(aside)
    cos = 1 - cosine_distance
    return torch.from_numpy(factor * (cos * a + np.sqrt(max(0.0, 1 - cos**2)) * aside)).float()


def rectified(n, seed):
    """A map as after a ReLU: half of it zero."""
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).relu()


COSINE_DISTANCES = [1e-10, 1e-9, 1e-7, 1e-5, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.999, 2 - 1e-7, 2.0]


@pytest.mark.parametrize("factor", [1.0, 1.0001, 0.5, 300.0])
@pytest.mark.parametrize("cosine_distance", COSINE_DISTANCES)
def test_nine_digits_from_nearly_parallel_to_opposite(cosine_distance, factor):
    clean = rectified(3000, seed=1)
    other = turned(clean, cosine_distance, factor, seed=2)
    expected = exact(clean, other)
    assert expected["cosine"] == pytest.approx(cosine_distance, rel=0.01)
    assert set(expected) == set(METRICS)
    for name in METRICS:
        # A part of the change is known to the rounding of the whole change.
        whole = {"along_share": 1, **dict.fromkeys(("along", "across", "norm_change"), expected["relative_error"])}
        rounding = 1e-15 * whole.get(name, 0)
        value = float(measured(name, clean[None], other[None]))
        assert value == pytest.approx(expected[name], rel=1e-9, abs=rounding), name


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nine_digits_on_large_maps(memory_format):
    """64 x 64 x 64 as in the first layers; a float32 `1 - cosine_similarity` has no right digit left there."""
    clean = rectified(64**3, seed=3)
    others = [turned(clean, cosine_distance, 1.0001, seed=4) for cosine_distance in (1e-10, 1e-6)]
    expected = [exact(clean, other) for other in others]
    shape = (64, 64, 64)
    clean_maps = torch.stack([clean.reshape(shape)] * 2).to(memory_format=memory_format)
    other_maps = torch.stack([other.reshape(shape) for other in others]).to(memory_format=memory_format)
    for name in METRICS:
        values = measured(name, clean_maps, other_maps)
        assert values.dtype == torch.float64
        assert values.tolist() == pytest.approx([of_map[name] for of_map in expected], rel=1e-9, abs=0), name

    naive = 1 - torch.cosine_similarity(clean[None], others[0][None])
    assert abs(float(naive) / expected[0]["cosine"] - 1) > 0.5


def test_a_longer_map_in_the_same_direction():
    clean = rectified(4096, seed=5)[None]
    lengths = float(clean.double().norm())
    for factor in (2.0, 0.25):
        expected = {
            "normalized_euclidean": abs(factor - 1) * lengths / 4096,
            "cosine": 0,
            "relative_error": abs(factor - 1),
            "along": factor - 1,
            "across": 0,
            "along_share": 1,
            "norm_change": factor - 1,
            "angle": 0,
        }
        values = {name: float(measured(name, clean, factor * clean)) for name in METRICS}
        assert values == pytest.approx(expected, rel=1e-12, abs=1e-14)
    rounded = (1.0001 * clean).float()
    expected = exact(clean[0], rounded[0])
    assert 0 < expected["cosine"] < 1e-14
    for name in ("cosine", "across", "angle"):
        assert float(measured(name, clean, rounded)) == pytest.approx(expected[name], rel=1e-9, abs=0), name


def test_a_change_across_the_clean_map():
    clean = torch.zeros(3, 8, 5, 5)
    clean[:, :4] = torch.rand(3, 4, 5, 5) + 0.1
    change = torch.zeros(3, 8, 5, 5)
    change[:, 4:] = torch.randn(3, 4, 5, 5)
    ratio = change.double().flatten(1).norm(dim=1) / clean.double().flatten(1).norm(dim=1)
    other = clean + change
    assert measured("along", clean, other).tolist() == measured("along_share", clean, other).tolist() == [0, 0, 0]
    assert measured("across", clean, other).numpy() == pytest.approx(ratio.numpy(), rel=1e-14)
    assert measured("angle", clean, other).numpy() == pytest.approx(np.degrees(np.arctan(ratio.numpy())), rel=1e-13)
    assert measured("norm_change", clean, other).numpy() == pytest.approx(np.hypot(1, ratio.numpy()) - 1, rel=1e-13)


@pytest.mark.parametrize("size", [1e-6, 1e-2, 1.0, 100.0])
def test_along_and_across_make_up_the_change(size):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(50, 6, 4, 4, generator=generator)
    other = clean + size * torch.randn(50, 6, 4, 4, generator=generator)
    lengths = measured("along", clean, other).square() + measured("across", clean, other).square()
    torch.testing.assert_close(lengths, measured("relative_error", clean, other).square(), rtol=1e-13, atol=0)
    shares = measured("along", clean, other).square() / measured("relative_error", clean, other).square()
    torch.testing.assert_close(measured("along_share", clean, other), shares, rtol=1e-11, atol=0)
    torch.testing.assert_close(
        (1 + measured("norm_change", clean, other)).square(),
        (1 + measured("along", clean, other)).square() + measured("across", clean, other).square(),
        rtol=1e-13,
        atol=0,
    )
    torch.testing.assert_close(
        measured("angle", clean, other),
        torch.rad2deg(torch.atan2(measured("across", clean, other), 1 + measured("along", clean, other))),
        rtol=1e-9,
        atol=0,
    )

    difference = other.double() - clean.double()
    part = part_along(clean, difference)
    lengths = clean.double().flatten(1).norm(dim=1)
    torch.testing.assert_close(
        (part / clean.double()).flatten(1).amax(1), measured("along", clean, other), rtol=1e-9, atol=0
    )
    torch.testing.assert_close(
        (difference - part).flatten(1).norm(dim=1), measured("across", clean, other) * lengths, rtol=1e-12, atol=0
    )
    assert part_along(torch.zeros(2, 3), torch.ones(2, 3)).tolist() == [[0, 0, 0]] * 2


def test_equal_maps_have_not_changed():
    maps = torch.randn(4, 8, 5, 5)
    for name in METRICS:
        values = measured(name, maps, maps.clone())
        assert values.isnan().all() if name == "along_share" else values.tolist() == [0, 0, 0, 0], name


def test_opposite_maps():
    maps = torch.randn(100, 8, 5, 5)
    assert measured("cosine", maps, -2 * maps).max() <= 2
    assert measured("cosine", maps, -2 * maps).numpy() == pytest.approx(2, rel=1e-15)
    assert measured("angle", maps, -2 * maps).numpy() == pytest.approx(180, rel=1e-15)
    assert measured("norm_change", maps, -2 * maps).numpy() == pytest.approx(1, rel=1e-14)
    assert measured("along", maps, -2 * maps).numpy() == pytest.approx(-3, rel=1e-14)
    euclidean = measured("normalized_euclidean", maps, -2 * maps)
    assert euclidean.numpy() == pytest.approx(3 * maps.double().flatten(1).norm(dim=1).numpy() / 200, rel=1e-12)


# Of a map of zeros and another such map, of zeros and ones, of ones and zeros.
OF_ZEROS = {
    "normalized_euclidean": [0, 0.25, 0.25],
    "cosine": [0, 1, 1],
    "relative_error": [0, np.nan, 1],
    "along": [np.nan, np.nan, -1],
    "across": [np.nan, np.nan, 0],
    "along_share": [np.nan, np.nan, 1],
    "norm_change": [np.nan, np.nan, -1],
    "angle": [np.nan, np.nan, np.nan],
}


@pytest.mark.parametrize("name", METRICS)
def test_maps_that_are_zero(name):
    zero, some = torch.zeros(4, 2, 2), torch.ones(4, 2, 2)
    values = measured(name, torch.stack([zero, zero, some]), torch.stack([zero, some, zero]))
    assert values.tolist() == pytest.approx(OF_ZEROS[name], nan_ok=True)


@pytest.mark.parametrize("name", METRICS)
def test_values_that_are_no_numbers_stay_visible(name):
    broken = torch.tensor([[1.0, float("nan")], [1.0, float("inf")], [3.0, 4.0]])
    assert measured(name, torch.ones(3, 2), broken).isfinite().tolist() == [False, False, True]
    assert measured(name, broken, torch.ones(3, 2)).isfinite().tolist() == [False, False, True]


@pytest.mark.parametrize("name", METRICS)
def test_very_small_and_very_large_maps(name):
    maps = rectified(500, seed=6)
    other = turned(maps, 1e-4, 1.0, seed=7)
    expected = float(measured(name, maps[None], other[None]))
    for factor in (2.0**-100, 2.0**100):
        scaled = float(measured(name, factor * maps[None], factor * other[None]))
        assert scaled == pytest.approx(expected * (factor if name == "normalized_euclidean" else 1), rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_each_image_by_itself(name):
    clean, other = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    together = measured(name, clean, other)
    assert together.dtype == torch.float64 and together.shape == (5,)
    alone = [float(measured(name, clean[i : i + 1], other[i : i + 1])) for i in range(5)]
    assert together.numpy() == pytest.approx(alone, rel=1e-12)
    if name in ("normalized_euclidean", "cosine", "angle"):
        assert together.numpy() == pytest.approx(measured(name, other, clean).numpy(), rel=1e-12)


def test_ne_d_is_divided_by_the_elements_of_one_map():
    clean, other = torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 2.0)
    assert measured("normalized_euclidean", clean, other).numpy() == pytest.approx(2 * 60**0.5 / 60)


def test_gain_is_a_ratio_where_there_is_something_to_gain():
    here = torch.tensor([0.3, 0.0, 0.3, 0.0, torch.nan, 0.3], dtype=torch.float64)
    before = torch.tensor([0.1, 0.1, 0.0, 0.0, 0.1, torch.nan], dtype=torch.float64)
    assert gain(here, before).tolist() == pytest.approx([3, 0, *[np.nan] * 4], nan_ok=True)


def test_a_metric_is_a_function_and_its_name(monkeypatch):
    for registry in ("METRICS", "TAP_TO_TAP", "SET_METRICS"):
        monkeypatch.setattr(metrics, registry, {})

    @metrics.metric
    def largest(change):
        return change.difference.flatten(1).abs().amax(1)

    @metrics.tap_to_tap
    def growth(here, before):
        return here - before

    def average(combine_blocks):
        return 0.0, 0.0, 0.0

    @metrics.set_metric(average)
    def nothing(clean, other):
        return (clean - other).sum()[None]

    assert {"largest": largest} == metrics.METRICS
    assert {"growth": growth} == metrics.TAP_TO_TAP
    assert {"nothing": (nothing, average)} == metrics.SET_METRICS


def test_the_metrics_of_the_registry():
    assert sorted(ALL_METRICS) == sorted([*METRICS, "gain", "linear_cka"]) and len(set(ALL_METRICS)) == 10


def hsic(gram, other):
    """The unbiased estimate as the U-statistic that defines it: over all ordered choices of four images."""
    n = len(gram)
    terms = [gram[i, j] * (other[i, j] + other[q, r] - 2 * other[i, q]) for i, j, q, r in permutations(range(n), 4)]
    return np.mean(terms)


def naive_cka(clean, other):
    """From lists of maps (n, n_elements), block by block."""
    pairs = [
        [(a @ a.T, b @ b.T) for a, b in zip(left, right, strict=True)]
        for left, right in ((clean, other), (clean, clean), (other, other))
    ]
    of_both, of_clean, of_other = (np.mean([hsic(*grams) for grams in pair]) for pair in pairs)
    return of_both / np.sqrt(of_clean * of_other)


def cka(clean, other):
    """Of lists of maps (n, n_elements), block by block."""
    combine_blocks = [
        linear_cka(*(gram_matrix(torch.from_numpy(maps), 2**10) for maps in pair))
        for pair in zip(clean, other, strict=True)
    ]
    return SET_METRICS["linear_cka"].combine_blocks(torch.stack(combine_blocks))


@pytest.fixture(scope="module")
def related_maps():
    """Three blocks of maps of 5, 5 and 7 images, rectified, and others that have to do with them."""
    generator = np.random.default_rng(0)
    clean = [generator.standard_normal((n, 12)).clip(0, None) for n in (5, 5, 7)]
    mix = generator.standard_normal((12, 9))
    return clean, [(maps @ mix + 2 * generator.standard_normal((len(maps), 9))).clip(0, None) for maps in clean]


def test_cka_is_that_of_the_u_statistics_and_its_interval_the_jackknife_s(related_maps):
    clean, other = related_maps
    value, low, high = cka(clean, other)
    assert value == pytest.approx(naive_cka(clean, other), rel=1e-10)
    assert 0.1 < value < 0.95
    without_one = [naive_cka(clean[:i] + clean[i + 1 :], other[:i] + other[i + 1 :]) for i in range(3)]
    error = np.sqrt(2 / 3 * np.sum((np.array(without_one) - np.mean(without_one)) ** 2))
    assert (low, high) == pytest.approx(scipy.stats.t.interval(0.95, 2, loc=value, scale=error), rel=1e-9)


def test_cka_of_a_map_with_itself_turned_scaled_or_shifted_is_1(related_maps):
    clean, other = related_maps
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))
    for same in (clean, [maps @ turn for maps in clean], [-3 * maps for maps in clean], [maps + 5 for maps in clean]):
        assert cka(clean, same) == pytest.approx((1, 1, 1), rel=1e-9)
    expected = cka(clean, other)
    assert expected[1] < expected[0] < expected[2]
    assert cka([maps @ turn * 0.1 + 7 for maps in clean], other) == pytest.approx(expected, rel=1e-9)
    assert cka(other, clean) == pytest.approx(expected, rel=1e-9)


def test_cka_of_unrelated_maps_is_near_0_in_however_many_dimensions():
    generator = np.random.default_rng(2)
    clean, other = (generator.standard_normal((20, 32, 2000)) for _ in range(2))
    value, low, high = cka(list(clean), list(other))
    assert abs(value) < 0.2 and low < 0 < high
    # The estimate that divides by (n - 1)^2 is near 1: maps of more dimensions than images all look alike to it.
    centred = [maps - maps.mean(1, keepdims=True) for maps in (clean, other)]
    a, b = (maps @ maps.transpose(0, 2, 1) for maps in centred)
    assert (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) > 0.9


def test_cka_needs_four_images_and_its_interval_two_blocks(related_maps):
    clean, other = related_maps
    assert np.isnan(cka([clean[0][:3]], [other[0][:3]])).all()
    value, *interval = cka(clean[:1], other[:1])
    assert value == pytest.approx(naive_cka(clean[:1], other[:1]), rel=1e-10)
    assert np.isnan(interval).all()
    assert np.isnan(cka(clean, [np.zeros_like(maps) for maps in other])).all()


@pytest.mark.parametrize(
    "n_images, sizes",
    [(1, [1]), (4, [4]), (32, [32]), (33, [17, 16]), (64, [32, 32]), (66, [22, 22, 22]), (100, [25, 25, 25, 25])],
)
def test_blocks_are_equally_large_and_of_at_most_32_images(n_images, sizes):
    of_images = blocks(n_images)
    assert [rows.stop - rows.start for rows in of_images] == sizes
    assert [row for rows in of_images for row in range(n_images)[rows]] == list(range(n_images))


def test_blocks_of_one_size_make_a_steadier_cka_than_a_small_last_one():
    """Of 68 images, a last block of four would weigh as much as one of 32."""
    generator = np.random.default_rng(3)
    small_last = [slice(0, 32), slice(32, 64), slice(64, 68)]
    clean = generator.standard_normal((100, 68, 20))
    pairs = list(zip(clean, clean + 2 * generator.standard_normal(clean.shape), strict=True))
    spread = {
        name: np.std([cka([a[rows] for rows in cut], [b[rows] for rows in cut])[0] for a, b in pairs])
        for name, cut in {"equal": blocks(68), "small last": small_last}.items()
    }
    assert spread["equal"] < 0.6 * spread["small last"]


@pytest.mark.parametrize("elements_at_once", [1, 64, 10**6])
def test_gram_matrices_are_exact_to_double_precision(elements_at_once):
    maps = torch.randn(7, 500) + 100
    expected = maps.double().numpy() @ maps.double().numpy().T
    gram = gram_matrix(maps, elements_at_once)
    assert gram.dtype == torch.float64
    np.testing.assert_allclose(gram.numpy(), expected, rtol=1e-14)
