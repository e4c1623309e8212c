"""A classifier behind a denoiser, as an attacker sees the defence who knows it."""

from __future__ import annotations

from torch import Tensor, nn


class Defended(nn.Module):
    """A denoiser and then a classifier: what the defence says about pixels.

    forward: (B, 3, H, W) pixels in 0..255 -> logits (B, n_classes), by way of the denoised image, clipped to 0..255 as
    in the denoised sets. Both networks are frozen and put into evaluation mode, in place.
    """

    def __init__(self, denoiser: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.classifier = classifier
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of the denoised and clipped pixels."""
        logits: Tensor = self.classifier(self.denoiser(pixels).clamp(0, 255))
        return logits
