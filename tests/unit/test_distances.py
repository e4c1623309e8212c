"""NE-D and COS-D against exact integer arithmetic on the same single-precision maps."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from perturbflow.distances import METRICS, cosine, normalized_euclidean

# 2^-SCALE divides every non-zero value of the maps used here, so that value * 2^SCALE is a whole number.
SCALE = 80


def exact(clean, other):
    """NE-D and COS-D of two vectors: sums in whole numbers, the rest with 60 digits."""
    a, b = ([int(value) for value in vector.double().numpy() * 2.0**SCALE] for vector in (clean, other))
    assert [value / 2**SCALE for value in a[:100]] == clean[:100].tolist()
    with localcontext(prec=60):
        aa, bb, ab, dd = (
            Decimal(sum(x * y for x, y in zip(left, right, strict=True)))
            for left, right in ((a, a), (b, b), (a, b), *[([x - y for x, y in zip(a, b, strict=True)],) * 2])
        )
        euclidean = dd.sqrt() / 2**SCALE / len(a)
        return float(euclidean), float(1 - ab / (aa * bb).sqrt())


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


def distances(clean, other):
    return normalized_euclidean(clean, other), cosine(clean, other)


COSINE_DISTANCES = [1e-10, 1e-9, 1e-7, 1e-5, 1e-3, 0.1, 0.5, 1.0, 1.5, 1.999, 2 - 1e-7, 2.0]


@pytest.mark.parametrize("factor", [1.0, 1.0001, 0.5, 300.0])
@pytest.mark.parametrize("cosine_distance", COSINE_DISTANCES)
def test_nine_digits_from_nearly_parallel_to_opposite(cosine_distance, factor):
    clean = rectified(3000, seed=1)
    other = turned(clean, cosine_distance, factor, seed=2)
    euclidean, angular = exact(clean, other)
    assert angular == pytest.approx(cosine_distance, rel=0.01)
    measured = distances(clean[None], other[None])
    assert float(measured[0]) == pytest.approx(euclidean, rel=1e-12)
    assert float(measured[1]) == pytest.approx(angular, rel=1e-9, abs=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nine_digits_on_large_maps(memory_format):
    """64 x 64 x 64 as in the first layers; a float32 `1 - cosine_similarity` has no right digit left there."""
    clean = rectified(64**3, seed=3)
    others = [turned(clean, cosine_distance, 1.0001, seed=4) for cosine_distance in (1e-10, 1e-6)]
    expected = np.array([exact(clean, other) for other in others])
    shape = (64, 64, 64)
    clean_maps = torch.stack([clean.reshape(shape)] * 2).to(memory_format=memory_format)
    other_maps = torch.stack([other.reshape(shape) for other in others]).to(memory_format=memory_format)
    euclidean, angular = distances(clean_maps, other_maps)
    assert euclidean.numpy() == pytest.approx(expected[:, 0], rel=1e-12)
    assert angular.numpy() == pytest.approx(expected[:, 1], rel=1e-9, abs=0)

    naive = 1 - torch.cosine_similarity(clean[None], others[0][None])
    assert abs(float(naive) / expected[0, 1] - 1) > 0.5


def test_a_longer_map_in_the_same_direction():
    clean = rectified(4096, seed=5)[None]
    euclidean, angular = distances(clean, 2 * clean)
    assert float(angular) == pytest.approx(0, abs=1e-15)
    assert float(euclidean) == pytest.approx(float(clean.double().norm()) / 4096, rel=1e-12)
    rounded = (1.0001 * clean).float()
    _, expected = exact(clean[0], rounded[0])
    assert 0 < expected < 1e-14
    assert float(distances(clean, rounded)[1]) == pytest.approx(expected, rel=1e-9, abs=0)


def test_equal_maps_are_at_distance_zero():
    maps = torch.randn(4, 8, 5, 5)
    for distance in distances(maps, maps.clone()):
        assert distance.tolist() == [0, 0, 0, 0]


def test_opposite_maps():
    maps = torch.randn(100, 8, 5, 5)
    euclidean, angular = distances(maps, -2 * maps)
    assert angular.max() <= 2
    assert angular.numpy() == pytest.approx(2, rel=1e-15)
    assert euclidean.numpy() == pytest.approx(3 * maps.double().flatten(1).norm(dim=1).numpy() / 200, rel=1e-12)


def test_maps_that_are_zero_have_no_direction():
    zero, some = torch.zeros(1, 4, 2, 2), torch.ones(1, 4, 2, 2)
    assert [float(value) for value in distances(zero, zero)] == [0, 0]
    assert [float(value) for value in distances(zero, some)] == [0.25, 1]
    assert [float(value) for value in distances(some, zero)] == [0.25, 1]


def test_values_that_are_no_numbers_stay_visible():
    broken = torch.tensor([[1.0, float("nan")], [1.0, float("inf")], [3.0, 4.0]])
    for distance in distances(torch.ones(3, 2), broken):
        assert distance.isfinite().tolist() == [False, False, True]


def test_very_small_and_very_large_maps():
    maps = rectified(500, seed=6)
    other = turned(maps, 1e-4, 1.0, seed=7)
    expected = float(distances(maps[None], other[None])[1])
    for factor in (2.0**-100, 2.0**100):
        assert float(distances(factor * maps[None], factor * other[None])[1]) == pytest.approx(expected, rel=1e-12)


def test_each_image_by_itself_and_the_same_both_ways():
    clean, other = torch.randn(5, 3, 4, 4), torch.randn(5, 3, 4, 4)
    for metric in METRICS.values():
        together = metric(clean, other)
        assert together.dtype == torch.float64 and together.shape == (5,)
        alone = [float(metric(clean[i : i + 1], other[i : i + 1])) for i in range(5)]
        assert together.numpy() == pytest.approx(alone, rel=1e-12)
        assert together.numpy() == pytest.approx(metric(other, clean).numpy(), rel=1e-12)


def test_ne_d_is_divided_by_the_elements_of_one_map():
    clean, other = torch.zeros(2, 3, 4, 5), torch.full((2, 3, 4, 5), 2.0)
    assert normalized_euclidean(clean, other).numpy() == pytest.approx(2 * 60**0.5 / 60)
