"""The denoisers: networks from pixels to pixels of the same size (Section 2.3 of the paper)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from perturbflow.machine.import_paths import load_object


def _conv(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """U-Net as the winners of the NIPS 2017 defence challenge used it (Liao et al. 2018, their DUNET).

    Five levels of 1, 2, 4, 4, 4 times `width` channels with 2, 3, 3, 3, 3 convolutions; the first of each level but
    the top halves the size; on the way up bilinear doubling, concatenation with the way down, convolutions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(
            self._level(3 if level == 0 else channels[level - 1], channels[level], n_convs, 1 if level == 0 else 2)
            for level, n_convs in enumerate([2, 3, 3, 3, 3])
        )
        self.up = nn.ModuleList(
            self._level(channels[level + 1] + channels[level], channels[level], n_convs, 1)
            for level, n_convs in reversed(list(enumerate([2, 3, 3, 3])))
        )
        self.last = nn.Conv2d(width, 3, 1)

    @staticmethod
    def _level(channels_in: int, channels_out: int, n_convs: int, stride: int) -> nn.Sequential:
        first = _conv(channels_in, channels_out, stride)
        return nn.Sequential(first, *(_conv(channels_out, channels_out) for _ in range(n_convs - 1)))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W), H and W multiples of 16."""
        on_the_way_down = []
        features = images
        for level in self.down:
            features = level(features)
            on_the_way_down.append(features)
        on_the_way_down.pop()
        for level in self.up:
            features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
            features = level(torch.cat([features, on_the_way_down.pop()], dim=1))
        output: Tensor = self.last(features)
        return output


class _FusionLevel(nn.Module):
    """A level of FusionNet: convolution, residual block of three convolutions, convolution.

    A ReLU follows the third convolution too, before the sum.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = _conv(channels_in, channels_out)
        self.residual = nn.Sequential(*(_conv(channels_out, channels_out) for _ in range(3)))
        self.last = _conv(channels_out, channels_out)

    def forward(self, features: Tensor) -> Tensor:
        features = self.first(features)
        output: Tensor = self.last(features + self.residual(features))
        return output


class _SummingAutoencoder(nn.Module):
    """What both FusionNets do with their parts: four levels down, a bridge, and four up, joined by sums."""

    down: nn.ModuleList
    bridge: nn.Module
    grow: nn.ModuleList
    up: nn.ModuleList
    last: nn.Conv2d

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W), H and W multiples of 16."""
        on_the_way_down = []
        features = images
        for level in self.down:
            features = level(features)
            on_the_way_down.append(features)
            features = F.max_pool2d(features, 2)
        features = self.bridge(features)
        for grow, level in zip(self.grow, self.up, strict=True):
            features = level(grow(features) + on_the_way_down.pop())
        output: Tensor = self.last(features)
        return output


class FusionNet(_SummingAutoencoder):
    """FusionNet after Quan et al. (2016): an encoder and decoder of residual levels, joined by sums.

    Levels of 1, 2, 4, 8 times `width` channels and a bridge of 16 times; all convolutions 3x3, each but the last
    followed by batch normalisation and ReLU; max pooling down, transposed convolution up; each level of the decoder
    adds the encoder's map of the same size. A level's residual block has three convolutions, as in their paper;
    `FusionNetOriginal` is what their code builds. The output is linear, for pixels in place of probabilities.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            _FusionLevel(channels_in, channels_out)
            for channels_in, channels_out in zip([3, *channels[:-1]], channels, strict=True)
        )
        self.bridge = _FusionLevel(8 * width, 16 * width)
        self.grow = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(2 * channels_out, channels_out, 3, 2, padding=1, output_padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
            )
            for channels_out in reversed(channels)
        )
        self.up = nn.ModuleList(_FusionLevel(count, count) for count in reversed(channels))
        self.last = nn.Conv2d(width, 3, 3, padding=1)


DROPOUT = 0.25
"""The share of the values that `FusionNetOriginal` drops in training, that of its authors' code."""


def _relu_conv(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3 convolution with bias, ReLU."""
    return nn.Sequential(nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(inplace=True))


class _OriginalResidual(nn.Module):
    """Batch normalisation, convolution, ReLU, and the three once more, added to what came in."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(channels),
            *_relu_conv(channels, channels),
            nn.BatchNorm2d(channels),
            *_relu_conv(channels, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = features + self.residual(features)
        return output


class FusionNetOriginal(_SummingAutoencoder):
    """FusionNet as its authors' code builds it (Quan et al. 2016; Model.py of github.com/tmquan/FusionNet).

    Levels of 1, 2, 4, 8 times `width` channels and a bridge of 16 times. Way down: convolution, residual block of two
    convolutions, convolution, dropout, whose output is pooled and goes to the other side. The bridge has its dropout
    before the last convolution. Way up: a convolution to the level's channels, a transposed one that doubles the
    size, the sum with the other side, dropout, residual block, convolution. All are 3x3 with bias and ReLU but the
    last, 1x1. Normalisation stands inside the residual blocks alone.

    Two things differ. The last layer is linear where theirs ends in a sigmoid, for the probability of a membrane: a
    sigmoid reaches black and white only in the limit, and has no zero for a residual denoiser to start at. And batch
    normalisation is per channel, with its running statistics in evaluation: theirs takes those of the batch there too,
    by which an image's output would depend on the others.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 8 * width]
        self.down = nn.ModuleList(
            nn.Sequential(
                _relu_conv(channels_in, channels_out),
                _OriginalResidual(channels_out),
                _relu_conv(channels_out, channels_out),
                nn.Dropout(DROPOUT),
            )
            for channels_in, channels_out in zip([3, *channels[:-1]], channels, strict=True)
        )
        self.bridge = nn.Sequential(
            _relu_conv(8 * width, 16 * width),
            _OriginalResidual(16 * width),
            nn.Dropout(DROPOUT),
            _relu_conv(16 * width, 16 * width),
        )
        self.grow = nn.ModuleList(
            nn.Sequential(
                _relu_conv(2 * count, count),
                nn.ConvTranspose2d(count, count, 3, 2, padding=1, output_padding=1),
                nn.ReLU(inplace=True),
            )
            for count in reversed(channels)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.Dropout(DROPOUT), _OriginalResidual(count), _relu_conv(count, count))
            for count in reversed(channels)
        )
        self.last = nn.Conv2d(width, 3, 1)


# Each takes the width and has a convolution `last` that makes its output.
DENOISERS: dict[str, Callable[[int], nn.Module]] = {
    "unet": UNet,
    "fusionnet": FusionNet,
    "fusionnet_original": FusionNetOriginal,
}


class Denoiser(nn.Module):
    """A network that takes pixels and gives pixels.

    forward: float (B, 3, H, W) in 0..255 -> the same, not clipped; H and W are multiples of 16. With `residual` the
    network's output is added to its input and starts at zero, so that training starts from doing nothing to the image.
    """

    def __init__(self, network: nn.Module, residual: bool) -> None:
        super().__init__()
        self.network = network
        self.residual = residual
        if residual:
            last: Any = network.last
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        """Denoised pixels (B, 3, H, W). Raises ValueError where H or W is not a multiple of 16."""
        if any(size % 16 for size in pixels.shape[-2:]):
            height, width = pixels.shape[-2:]
            raise ValueError(
                f"a denoiser halves its images four times, so that {height} x {width} pixels do not fit; "
                "set data.image_size to a multiple of 16"
            )
        output: Tensor = self.network(pixels / 127.5 - 1)
        return pixels + 127.5 * output if self.residual else 127.5 * (output + 1)


class ImportedDenoiser(nn.Module):
    """Somebody's own network, from pixels in 0..255 to pixels, (B, 3, H, W)."""

    def __init__(self, network: nn.Module, path: str) -> None:
        super().__init__()
        self.network = network
        self.path = path

    def forward(self, pixels: Tensor) -> Tensor:
        """Denoised pixels (B, 3, H, W). Raises ValueError where the network gives another shape."""
        output: Tensor = self.network(pixels)
        if output.shape != pixels.shape:
            raise ValueError(
                f"denoiser {self.path} turns images of shape {tuple(pixels.shape)} into {tuple(output.shape)}; "
                "it must keep the shape"
            )
        return output


def build_denoiser(
    architecture: str, width: int = 64, residual: bool = True, options: Mapping[str, Any] | None = None
) -> Denoiser | ImportedDenoiser:
    """A denoiser of the registry, or one that is imported from `package.module:name` and made with `options`.

    width: number of channels of the first level. width and residual are for the registry's alone.
    Raises ValueError for an unknown architecture and for an import that does not give a torch module.
    """
    if ":" in architecture:
        network = load_object(architecture)(**(options or {}))
        if not isinstance(network, nn.Module):
            raise ValueError(f"denoiser {architecture} gives {type(network).__name__}, not a torch.nn.Module")
        return ImportedDenoiser(network, architecture)
    if architecture not in DENOISERS:
        raise ValueError(
            f"unknown denoiser {architecture}; known: {', '.join(DENOISERS)}, or `package.module:name` for your own"
        )
    return Denoiser(DENOISERS[architecture](width), residual)


def save_denoiser(path: Path, denoiser: Denoiser | ImportedDenoiser, description: Mapping[str, Any]) -> None:
    """Write a checkpoint. description: the arguments of `build_denoiser`, and anything else."""
    with path.open("wb") as file:  # for equal bytes, as save_classifier says
        torch.save({**description, "network": denoiser.network.state_dict()}, file)


def load_denoiser(path: str | Path, device: torch.device) -> Denoiser | ImportedDenoiser:
    """A denoiser from its checkpoint, in evaluation mode and frozen."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    denoiser = build_denoiser(
        checkpoint["architecture"], checkpoint["width"], checkpoint["residual"], checkpoint.get("options")
    )
    denoiser.network.load_state_dict(checkpoint["network"])
    denoiser.requires_grad_(False)
    return denoiser.eval().to(device).to(memory_format=torch.channels_last)
