import numpy as np
import torch
from torch import nn

from perturbflow.denoisers.denoised_set import denoise

CPU = torch.device("cpu")


def test_denoised_images_are_clipped_and_complete():
    images = np.random.default_rng(0).uniform(-100, 400, (7, 4, 6, 3)).astype(np.float32)
    before = images.copy()
    batches = list(denoise(nn.Identity(), images, 3, CPU))
    assert [rows for rows, _ in batches] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    result = np.concatenate([batch.numpy() for _, batch in batches])
    assert result.dtype == np.float32
    assert np.array_equal(result, before.clip(0, 255))
    assert np.array_equal(images, before)
