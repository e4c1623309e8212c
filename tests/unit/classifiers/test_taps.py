import collections

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from perturbflow.classifiers.classifier import Classifier
from perturbflow.classifiers.taps import Tap, element_at, module_at, with_element
from perturbflow.measuring.interventions import intervene
from perturbflow.measuring.propagation import distance_frames, layer_distances
from tests.unit.classifiers.example_networks import observe, random_pixels

CPU = torch.device("cpu")
Named = collections.namedtuple("Named", ["features", "rest"])


class Mapping(collections.OrderedDict):
    """As of Hugging Face: a mapping of a type of its own."""


# ------------------------------------------------------------------------------------------------ elements


@pytest.mark.parametrize(
    ("output", "path", "element", "changed"),
    [
        (1, "stem", 1, 9),
        ([1, 2], "stage4[1]", 2, [1, 9]),
        ((1, (2, 3)), "parts.0[1][0]", 2, (1, (9, 3))),
        ({"out": 1, "aux": [2]}, "body[aux][0]", 2, {"out": 1, "aux": [9]}),
        ({0: 1, 1: 2}, "pyramid[1]", 2, {0: 1, 1: 9}),
        (Named([1, 2], 3), ".[0][1]", 2, Named([1, 9], 3)),
        (Mapping(logits=1, states=(2, 3)), "model[states][1]", 3, Mapping(logits=1, states=(2, 9))),
    ],
)
def test_an_element_is_taken_out_and_put_in(output, path, element, changed):
    before = repr(output)
    assert element_at(output, path) == element
    result = with_element(output, path, 9)
    assert result == changed
    assert type(result) is type(changed)
    assert repr(output) == before


def test_the_module_of_an_element():
    network = nn.Sequential(nn.Linear(1, 1))
    assert module_at(network, "0[2][out]") is module_at(network, "0") is network[0]
    assert module_at(network, ".") is network


# ------------------------------------------------------------------------------------------------ observed, replaced


class TwoPaths(nn.Module):
    """Two maps go through the network side by side; the logits are made of both."""

    def __init__(self):
        super().__init__()
        self.split = Split()
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        maps = self.split(images)
        features = maps["fine"].mean((2, 3)) + maps["coarse"][0].mean((2, 3))
        return self.head(features)


class Split(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3, stride=2)

    def forward(self, images):
        return {"fine": self.fine(images), "coarse": (self.coarse(images), images.shape)}


@pytest.fixture
def two_paths():
    torch.manual_seed(0)
    taps = [
        Tap("fine", "split[fine]", "spatial"),
        Tap("coarse", "split[coarse][0]", "spatial", rectify=True),
        Tap("logits", "head", "logits"),
    ]
    return Classifier(TwoPaths(), taps, 8).eval()


def test_elements_are_observed(two_paths):
    network, images = two_paths.network, random_pixels(2, 8) / 127.5 - 1
    positions, maps, logits = observe(two_paths, random_pixels(2, 8))
    assert positions == [0, 1, 2]
    assert torch.equal(maps[0], network.split.fine(images))
    assert torch.equal(maps[1], network.split.coarse(images).relu())
    assert torch.equal(maps[2], logits)


def test_an_element_is_replaced_and_the_others_stay(two_paths):
    *_, logits = observe(two_paths, random_pixels(2, 8))
    with torch.no_grad(), two_paths.replaced(0, lambda own: own + 1):
        changed = two_paths(random_pixels(2, 8))
    torch.testing.assert_close(changed, logits + two_paths.network.head.weight.sum(1))
    with (
        two_paths.replaced(1, lambda own: own[..., 1:]),
        pytest.raises(ValueError, match=r"at split\[coarse\]\[0\] the"),
    ):
        two_paths(random_pixels(2, 8))
    with torch.no_grad():
        assert torch.equal(two_paths(random_pixels(2, 8)), logits)


def test_elements_are_measured_and_interfered_with(two_paths):
    """What goes around one of two maps stays clean: it is no cut."""
    generator = np.random.default_rng(0)
    clean = generator.integers(0, 256, (3, 8, 8, 3), np.uint8)
    other = (clean + generator.uniform(-9, 9, clean.shape)).astype(np.float32)
    labels = np.zeros(3, np.int64)

    distances = layer_distances(two_paths, clean, {"none": other}, labels, ["cosine"], 4, CPU)
    summary, _ = distance_frames(distances, two_paths, ["none"], np.arange(3), labels)
    assert list(summary["module"]) == ["split[fine]", "split[coarse][0]", "head"]
    assert list(summary["n_elements"]) == [8 * 6 * 6, 8 * 3 * 3, 3]
    assert pd.notna(summary["cosine_mean"]).all()

    interventions = intervene(two_paths, clean, {"none": other}, labels, [1.0], 100, CPU)
    assert interventions.is_cut == (False, False, True)
    whole = interventions.margin[0, :, 2]
    np.testing.assert_allclose(whole[2], interventions.margin_images[1], atol=1e-5)
    halfway = sum(whole[:2] - interventions.margin_images[0])
    np.testing.assert_allclose(halfway, interventions.margin_images[1] - interventions.margin_images[0], atol=1e-4)
