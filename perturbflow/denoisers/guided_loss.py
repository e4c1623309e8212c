"""The guided denoiser's loss: what a classifier makes of the image, instead of its pixels (Liao et al. 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from perturbflow.classifiers.building import load_classifier
from perturbflow.classifiers.classifier import Classifier


class GuidedLoss:
    """Mean absolute difference between a classifier's outputs for the denoised and for the clean images.

    compared: `logits` (Liao et al.'s LGD) or `features` (FGD), the map of the last tap before them.
    The classifier must be frozen and in evaluation mode.
    """

    def __init__(self, guide: Classifier, compared: str) -> None:
        self.guide = guide
        self.position = len(guide.taps) - {"logits": 1, "features": 2}[compared]

    def __call__(self, denoised: Tensor, clean: Tensor) -> Tensor:
        """The loss of (B, 3, H, W) pixels in 0..255, a number."""
        with torch.no_grad():
            expected = self._map(clean)
        return F.l1_loss(self._map(denoised), expected)

    def _map(self, pixels: Tensor) -> Tensor:
        maps = []

        def receive(position: int, feature_map: Tensor) -> None:
            if position == self.position:
                # A copy, since layers that work in place may overwrite the map.
                maps.append(feature_map.clone())

        with self.guide.observed(receive):
            self.guide(pixels)
        return maps[0]


def loss_of_guide(checkpoint: str, compared: str, device: torch.device) -> GuidedLoss:
    """The loss by the classifier in a checkpoint, on the device. compared: as for GuidedLoss."""
    return GuidedLoss(load_classifier(checkpoint, device), compared)
