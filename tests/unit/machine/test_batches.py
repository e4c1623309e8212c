import numpy as np
import torch

from perturbflow.machine.batches import pixels_of

CPU = torch.device("cpu")


def test_pixels_keep_their_values_and_lie_channels_last():
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), np.uint8)
    for given in (images, images.astype(np.float32), images[::2], images[:, ::-1]):
        pixels = pixels_of(given, CPU)
        assert pixels.dtype == torch.float32
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(pixels.numpy(), given.transpose(0, 3, 1, 2))
