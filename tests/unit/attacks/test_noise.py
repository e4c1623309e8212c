"""Noise controls: the norm of the adversary, the range of pixels, and whom the random numbers belong to."""

import sys
from subprocess import run

import numpy as np
import pytest

from perturbflow.attacks import noise
from perturbflow.attacks.noise import CONTROLS, control_blocks, gaussian_noise, sign_noise

SHAPE = (12, 8, 8, 3)


def distances(images, clean):
    return np.linalg.norm((images.astype(np.float64) - clean).reshape(len(clean), -1), axis=1)


def of_size(size, clean, seed=5):
    """Images near the clean ones, within 0..255."""
    change = np.random.default_rng(seed).uniform(-size, size, clean.shape)
    return (clean + change).clip(0, 255).astype(np.float32)


@pytest.fixture
def clean():
    pixels = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    pixels[1] = 0
    pixels[2] = 255
    pixels[3] = np.where(pixels[3] > 127, 255, 0)
    pixels[4] = 127
    return pixels


@pytest.mark.parametrize("size", [0.1, 0.255, 3.0, 40.0, 250.0])
@pytest.mark.parametrize("name", CONTROLS)
def test_norm_and_range(name, size, clean):
    adversarial = of_size(size, clean)
    before = clean.copy(), adversarial.copy()
    images = CONTROLS[name](clean, adversarial, np.random.default_rng(1))
    assert images.dtype == np.float32 and images.shape == SHAPE
    assert images.min() >= 0 and images.max() <= 255
    np.testing.assert_allclose(distances(images, clean), distances(adversarial, clean), rtol=1e-5)
    assert (clean == before[0]).all() and (adversarial == before[1]).all()


@pytest.mark.parametrize("name", CONTROLS)
def test_norm_of_the_farthest_images(name, clean):
    """Nothing but the opposite corner of 0..255 is so far away."""
    farthest = np.where(clean > 127, 0, 255).astype(np.float32)
    images = CONTROLS[name](clean, farthest, np.random.default_rng(1))
    np.testing.assert_allclose(images, farthest, rtol=0, atol=1e-6)
    assert images.min() >= 0 and images.max() <= 255


@pytest.mark.parametrize("value", [100, 200])
def test_norm_where_rounding_changes_all_components_alike(value):
    """0.3 is not a float32 beside 200: every component of sign noise would be off by the same 2e-5."""
    clean = np.full(SHAPE, value, np.uint8)
    adversarial = clean.astype(np.float32)
    adversarial[:, 0, 0, 0] += np.float32(0.3 * np.sqrt(clean[0].size))
    images = sign_noise(clean, adversarial, np.random.default_rng(1))
    np.testing.assert_allclose(distances(images, clean), distances(adversarial, clean), rtol=1e-6)


def test_sign_noise_is_equally_large_everywhere(clean):
    adversarial = of_size(40.0, clean)
    images = sign_noise(clean, adversarial, np.random.default_rng(1)).astype(np.float64)
    size = distances(adversarial, clean) / np.sqrt(clean[0].size)
    np.testing.assert_allclose(np.abs(images - clean), np.broadcast_to(size[:, None, None, None], SHAPE), rtol=1e-4)
    # Signs are random where both fit, and turned round where only one does.
    up = images > clean
    roomy = (clean > 40) & (clean < 215)
    assert 0.45 < up[roomy].mean() < 0.55
    assert up[clean == 0].all() and not up[clean == 255].any()


def naive_gaussian(clean, adversarial, direction):
    """One image: the length of each component by bisection over the scale, without the algebra."""
    norm = np.sqrt(sum((float(a) - float(c)) ** 2 for a, c in zip(adversarial.flat, clean.flat, strict=True)))

    def moved(scale):
        values = []
        for pixel, share in zip(clean.flat, direction.flat, strict=True):
            pixel = float(pixel)
            candidates = [pixel + scale * share, pixel - scale * share]
            fitting = [value for value in candidates if 0 <= value <= 255]
            values.append(fitting[0] if fitting else (255.0 if 255 - pixel >= pixel else 0.0))
        return np.array(values).reshape(clean.shape)

    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        if np.linalg.norm(moved(middle) - clean) < norm:
            low = middle
        else:
            high = middle
    return moved(high)


@pytest.mark.parametrize("size", [3.0, 100.0, 250.0])
def test_gaussian_noise_equals_a_search_for_the_scale(size, clean):
    rows = [0, 1, 3, 5]
    adversarial = of_size(size, clean)
    images = gaussian_noise(clean[rows], adversarial[rows], np.random.default_rng(1))
    direction = np.random.default_rng(1).standard_normal((len(rows), *SHAPE[1:]))
    for image, row, one in zip(images, rows, direction, strict=True):
        # A pixel of exactly 127 fits a large change on neither side; which side it goes to is then the larger one.
        np.testing.assert_allclose(image, naive_gaussian(clean[row], adversarial[row], one), rtol=0, atol=1e-3)


def test_gaussian_noise_is_normally_distributed():
    clean = np.full((1, 40, 40, 3), 128, np.uint8)
    images = gaussian_noise(clean, of_size(4.0, clean), np.random.default_rng(1)).astype(np.float64)
    change = (images - clean).ravel()
    change /= change.std()
    assert abs(change.mean()) < 0.06
    assert abs((change**4).mean() - 3) < 0.4
    assert abs((change**3).mean()) < 0.2


@pytest.mark.parametrize("name", CONTROLS)
def test_without_a_perturbation_nothing_changes(name, clean):
    adversarial = of_size(3.0, clean)
    adversarial[::2] = clean[::2]
    images = CONTROLS[name](clean, adversarial, np.random.default_rng(1))
    assert (images[::2] == clean[::2]).all()
    assert (images[1::2] != clean[1::2]).any((1, 2, 3)).all()


@pytest.mark.parametrize("name", CONTROLS)
def test_refuses_adversaries_out_of_range(name, clean):
    with pytest.raises(ValueError, match=r"farther from its clean image than any image in 0\.\.255"):
        CONTROLS[name](clean, clean + np.float32(256), np.random.default_rng(1))


def of_set(name, clean, index, adversarial, seed=3, split="train"):
    images = np.full(adversarial.shape, np.nan, np.float32)
    for rows, block in control_blocks(name, clean, index, adversarial, seed, split):
        assert np.isnan(images[rows]).all()
        images[rows] = block
    assert not np.isnan(images).any()
    return images


@pytest.mark.parametrize("name", CONTROLS)
def test_a_whole_set(name, clean, monkeypatch):
    adversarial, index = of_size(3.0, clean), np.arange(len(clean))
    images = of_set(name, clean, index, adversarial)
    np.testing.assert_allclose(distances(images, clean), distances(adversarial, clean), rtol=1e-5)

    # The noise of an image depends on nothing but its row, the seed, the split and the name.
    for size in (1, 5):
        monkeypatch.setattr(noise, "IMAGES_PER_BLOCK", size)
        assert (of_set(name, clean, index, adversarial) == images).all()
    some = np.array([7, 2, 11])
    assert (of_set(name, clean, some, adversarial[some]) == images[some]).all()
    for other in ({"seed": 4}, {"split": "val"}):
        assert (of_set(name, clean, index, adversarial, **other) != images)[4:].any((1, 2, 3)).all()
    assert len(np.unique(np.sign(images[5:] - clean[5:]).reshape(len(images) - 5, -1), axis=0)) == len(images) - 5


def test_no_images_give_no_blocks(clean):
    nothing = np.zeros((0, *SHAPE[1:]), np.float32)
    assert list(control_blocks("sign_noise", clean, np.zeros(0, np.int64), nothing, 0, "train")) == []


def test_needs_no_torch(repository):
    code = "import sys, perturbflow.attacks.noise; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0
