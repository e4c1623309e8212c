"""Small networks in memory, in double precision, for what the study of the tests does not have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.reference.networks import FeatureMap


class InPixels(nn.Module):
    """A network that takes a batch of images in pixels, or one image as those of the reference do."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim == 3:
            return self(images[None])[0]
        return self.layers(images / 127.5 - 1)


def classifier(seed: int) -> InPixels:
    """From images of 8 x 8 pixels to logits of five classes that are close to one another, so that attacks succeed."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(inplace=True), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 5)]
    return InPixels(*layers).double().eval().requires_grad_(False)


def relative(network: InPixels, seed: int) -> InPixels:
    """A classifier whose numbers are near those of another: what fools that may fool this one, a few steps later."""
    other = classifier(seed)
    for number, numbers in zip(network.parameters(), other.parameters(), strict=True):
        numbers.copy_(0.8 * number + 0.2 * numbers)
    return other


class Denoiser(nn.Module):
    """An image and a small change to it, which leaves 0..255 at places."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network = InPixels(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1))
        self.double().eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        return images + 60 * self.network(images)


class Fork(nn.Module):
    """Gives a tuple, and in it a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(6, 6, 3, padding=1)
        self.other = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.one(features), {"kept": features, "other": self.other(features)}


class Branching(nn.Module):
    """Has all that makes a map hard to observe and to replace.

    A layer that works in place behind the first convolution, maps inside of tuples and mappings, paths around them, and
    a map that is observed behind a norm while further layers read what comes before it, as DenseNet's transitions.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.act = nn.ReLU(inplace=True)
        self.fork = Fork()
        self.transition = nn.Conv2d(6, 4, 1)
        self.norm = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())
        self.dense = nn.Conv2d(4, 4, 3, padding=1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(8, 5)
        for statistic in (self.norm[0].running_mean, self.norm[0].running_var):
            nn.init.uniform_(statistic, 0.1, 0.5)

    def forward(self, images: Tensor) -> Tensor:
        one, others = self.fork(self.act(self.stem(images)))
        transition = self.transition((one + others["other"]).relu() + others["kept"])
        dense = self.dense(self.norm(transition)).relu()
        return self.fc(self.pool(torch.cat([transition, dense], 1)))


BRANCHING_MAPS = [
    FeatureMap("stem", relu=True),
    FeatureMap("act"),
    FeatureMap("fork", element=(0,)),
    FeatureMap("fork", element=(1, "other")),
    FeatureMap("norm", cut="transition"),
    FeatureMap("pool"),
    FeatureMap("fc"),
]
BRANCHING_CUTS = [True, True, False, False, True, True, True]
"""Whether all that the network makes of an image goes through the map."""
