"""What an image costs a network: two tables, which a test holds to the networks themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

Config = Mapping[str, Any]


@dataclass(frozen=True)
class NetworkCosts:
    """Costs of one image.

    taps: number of observed feature maps. parameters: millions. gflop: billions of floating-point operations of a
    forward pass, those of convolutions and matrix products, a multiply-add being two. saved: millions of values, of
    four bytes, that a pass keeps for the way back. live: millions that are there at once in a pass without a way back.
    """

    taps: int
    parameters: float
    gflop: float
    saved: float
    live: float

    def scaled(self, area: float, width: float) -> NetworkCosts:
        """For images of `area` times the pixels, in a network of `width` times the channels."""
        channels = area * width
        return NetworkCosts(
            self.taps,
            self.parameters * width**2,
            self.gflop * channels * width,
            self.saved * channels,
            self.live * channels,
        )


# At an input size of 128 px, with 200 classes.
CLASSIFIERS = {
    "resnet18": NetworkCosts(8, 11.28, 1.185, 1.816, 0.574),
    "resnetv2_50": NetworkCosts(8, 23.91, 2.670, 6.349, 1.163),
    "vgg19": NetworkCosts(8, 140.39, 12.981, 6.435, 2.146),
    "senet154": NetworkCosts(7, 113.45, 13.519, 29.701, 1.229),
    "inception_resnet_v2": NetworkCosts(14, 54.61, 17.563, 31.124, 2.509),
    "densenet201": NetworkCosts(8, 18.48, 2.802, 16.685, 0.868),
    "densenet201_conv": NetworkCosts(8, 24.24, 2.814, 16.683, 0.868),
    "densenet201_prelu": NetworkCosts(8, 18.48, 2.802, 16.685, 0.868),
}
CLASSIFIERS_INPUT_SIZE = 128

# At an image size of 64 px, of width 64.
DENOISERS = {
    "unet": NetworkCosts(0, 11.03, 6.339, 6.038, 2.110),
    "fusionnet": NetworkCosts(0, 78.52, 13.316, 12.865, 1.454),
    "fusionnet_original": NetworkCosts(0, 62.81, 9.679, 9.488, 0.930),
}
DENOISERS_IMAGE_SIZE, DENOISERS_WIDTH = 64, 64


def _largest(networks: Iterable[NetworkCosts]) -> NetworkCosts:
    """As costly as the costliest in every respect."""
    taps, *costs = map(max, zip(*map(astuple, networks), strict=True))
    return NetworkCosts(int(taps), *costs)


def classifier_costs(settings: Config) -> NetworkCosts:
    """Of an image in a classifier of the config. One that is not of the paper is taken for the largest of those.

    `blocks` and other options that shrink a network, but for its `width`, are passed over.
    """
    network = CLASSIFIERS.get(settings["architecture"])
    width = settings["options"].get("width", 1) if network else 1
    # What timm says of its weights is not asked here; most are for 224 px.
    size = settings["input_size"] or (CLASSIFIERS_INPUT_SIZE if network or settings["weights"] == "none" else 224)
    scaled = (network or _largest(CLASSIFIERS.values())).scaled((size / CLASSIFIERS_INPUT_SIZE) ** 2, width)
    taps = len(settings["taps"]) if settings["taps"] else scaled.taps
    return NetworkCosts(taps, scaled.parameters, scaled.gflop, scaled.saved, scaled.live)


def denoiser_costs(settings: Config, image_size: int) -> NetworkCosts:
    """Of an image in a denoiser of the config. An imported one is taken for the largest, at its usual width."""
    network = DENOISERS.get(settings["architecture"])
    width = settings["width"] / DENOISERS_WIDTH if network else 1
    return (network or _largest(DENOISERS.values())).scaled((image_size / DENOISERS_IMAGE_SIZE) ** 2, width)
