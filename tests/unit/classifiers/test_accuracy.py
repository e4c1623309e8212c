import numpy as np
import pytest
import torch
from torch import nn

from perturbflow.classifiers.accuracy import top1, top1_of_array

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """A classifier with two classes, dark and bright; a denoiser that stretches the range."""

    def forward(self, pixels):
        mean = pixels.mean((1, 2, 3))
        return torch.stack([127.5 - mean, mean - 127.5], 1)


@pytest.mark.parametrize("batch_size", [1, 3, 25, 100])
def test_top1_is_an_exact_fraction(batch_size):
    images = np.zeros((25, 4, 4, 3), np.uint8)
    images[:7] = 200
    labels = np.ones(25, np.int64)
    assert top1_of_array(Brightness(), images, labels, batch_size, CPU) == 7 / 25
    assert top1_of_array(Brightness(), images.astype(np.float32), labels, batch_size, CPU) == 7 / 25
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    assert top1(Brightness(), tensor, torch.from_numpy(labels), batch_size) == 7 / 25
