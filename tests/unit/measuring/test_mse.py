import tracemalloc

import numpy as np
import pytest

from perturbflow.measuring import mse
from perturbflow.measuring.mse import mean_squared_errors


@pytest.mark.parametrize("batch_size", [1, 3, 256])
def test_mean_squared_errors_keep_small_errors_of_large_values(batch_size):
    clean = np.full((7, 8, 8, 3), 250, np.uint8)
    # 2^-10 is exact beside 250 in single precision; its square would not be.
    images = clean.astype(np.float32) + np.float32(2**-10)
    assert mean_squared_errors(images, clean, batch_size).tolist() == [2.0**-20] * 7

    generator = np.random.default_rng(0)
    clean = generator.integers(0, 256, (7, 8, 8, 3), np.uint8)
    images = (clean + generator.normal(0, 0.3, clean.shape)).astype(np.float32)
    expected = [np.mean((a.astype(np.float64) - b) ** 2) for a, b in zip(images, clean, strict=True)]
    assert mean_squared_errors(images, clean, batch_size) == pytest.approx(expected, rel=1e-12)
    assert mean_squared_errors(clean.astype(np.float32), clean, batch_size).tolist() == [0] * 7


def test_mean_squared_errors_of_large_images_take_no_more_memory():
    def peak(size):
        clean = np.zeros((2**25 // size**2, size, size, 3), np.uint8)
        tracemalloc.start()
        try:
            mean_squared_errors(clean, clean)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(256) < 1.1 * peak(64) < 6 * mse.BYTES_AT_ONCE
