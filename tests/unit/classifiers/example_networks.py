"""The networks of the registry for tests: in full size without memory, and shrunken."""

import functools

import pytest
import torch

from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier

# One without an entry is tested at its full size.
SHRUNKEN = {
    "resnet18": {"blocks": [1, 1, 1, 1], "width": 0.25},
    "resnetv2_50": {"blocks": [1, 1, 1, 1], "width": 0.25},
    "vgg19": {"width": 0.125, "batch_norm": True},
    "senet154": {"blocks": [1, 1, 1, 1], "bottleneck": False},
    "inception_resnet_v2": {"blocks": [1, 1, 1]},
    "densenet201": {"blocks": [2, 2, 2, 2], "width": 0.375},
    "densenet201_conv": {"blocks": [2, 2, 2, 2], "width": 0.375},
    "densenet201_prelu": {"blocks": [2, 2, 2, 2], "width": 0.375},
}
N_TAPS = {
    "resnet18": 8,
    "resnetv2_50": 8,
    "vgg19": 8,
    "senet154": 7,
    "inception_resnet_v2": 14,
    "densenet201": 8,
    "densenet201_conv": 8,
    "densenet201_prelu": 8,
}
# The networks of Section 4 of the paper, whose last layer is another than that of the network they come from.
MODIFIED = ("densenet201_conv", "densenet201_prelu")
CPU = torch.device("cpu")
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


@functools.cache
def full_size(name, input_size=128):
    """The network of the paper with 200 classes; without memory for its weights, so that it costs no time either."""
    with torch.device("meta"):
        return build_classifier(name, 200, input_size).eval()


def shrunken(name, n_classes=10, input_size=64, seed=0, **options):
    torch.manual_seed(seed)
    return build_classifier(name, n_classes, input_size, options=SHRUNKEN.get(name, {}) | options).eval()


@functools.cache
def shared(name):
    """One `shrunken` for all tests that leave it as it is."""
    return shrunken(name)


@functools.cache
def smallest(seed=0, n_classes=5):
    return shrunken("resnet18", n_classes, input_size=32, seed=seed, width=0.125)


def random_pixels(n_images=2, size=64, device=CPU):
    return torch.rand(n_images, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device) * 255


@torch.no_grad()
def observe(classifier, pixels):
    """Positions and maps in the order in which they came by, and the logits."""
    seen = []
    with classifier.observed(lambda position, feature_map: seen.append((position, feature_map.clone()))):
        logits = classifier(pixels)
    return [position for position, _ in seen], [feature_map for _, feature_map in seen], logits


def description(classifier, **options):
    return {
        "architecture": "resnet18",
        "n_classes": classifier.network.num_classes,
        "input_size": classifier.input_size,
        "options": SHRUNKEN["resnet18"] | {"width": 0.125} | options,
    }


def from_file(path, n_classes=5, architecture="resnet18", **options):
    torch.manual_seed(99)
    options = options or SHRUNKEN["resnet18"] | {"width": 0.125}
    return build_classifier(architecture, n_classes, 32, weights=str(path), options=options)
