"""Where a classifier's convolutional part ends is told by what its taps are, whatever they are called."""

import numpy as np
import pandas as pd
import pytest
import torch

from perturbflow.classifiers.architectures import ARCHITECTURES
from perturbflow.classifiers.building import build_classifier
from perturbflow.classifiers.classifier import Classifier
from perturbflow.measuring.propagation import LayerDistances, distance_frames
from perturbflow.tables.claims.claim import TapPositions
from perturbflow.tables.claims.evidence import tap_positions


def positions(n_convolutional: int, before_last: int) -> TapPositions:
    """Of so many convolutional maps, then what pooling leaves of them or hidden layers, and the logits."""
    return TapPositions(tuple(range(1, n_convolutional + 1)), 1, before_last, before_last + 1)


PAPERS = {
    "resnet18": positions(6, 7),
    "resnetv2_50": positions(6, 7),
    "vgg19": positions(5, 7),
    "senet154": positions(5, 6),
    "inception_resnet_v2": positions(12, 13),
    "densenet201": positions(7, 7),
    "densenet201_conv": positions(7, 7),
    "densenet201_prelu": positions(7, 7),
}


def positions_in_the_file(classifier: Classifier, tmp_path) -> TapPositions:
    """By what distances/<classifier>/<set>.csv says of the layers."""
    n_taps = len(classifier.taps)
    values = {"cosine": np.zeros((1, n_taps, 2))}
    nothing = np.zeros((2, 2))
    distances = LayerDistances(values, {}, np.zeros(n_taps, int), nothing, nothing, {})
    layers, _ = distance_frames(distances, classifier, ["none"], np.arange(2), np.zeros(2, int))
    layers.to_csv(tmp_path / "distances.csv", index=False)
    return tap_positions(pd.read_csv(tmp_path / "distances.csv").assign(classifier="it"))["it"]


def built(architecture: str, **settings) -> Classifier:
    with torch.device("meta"):
        return build_classifier(architecture, 10, 64, **settings)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_positions_of_the_papers_networks(name, tmp_path):
    classifier = built(name)
    expected = PAPERS.get(name, positions_in_the_file(classifier, tmp_path))
    assert positions_in_the_file(classifier, tmp_path) == expected


@pytest.mark.parametrize(
    ("architecture", "modules", "expected"),
    [
        ("vgg19", ["features.3", "features.35", "pre_logits.act1", "pre_logits.act2", "head.fc"], (2, 4)),
        ("resnet18", ["act1", "layer4", "global_pool", "fc"], (2, 3)),
        ("torchvision.models:vgg11", ["features.0", "avgpool", "classifier.1", "classifier.6"], (2, 3)),
        ("vit_tiny_patch16_224", ["blocks.0", "blocks.11", "head"], (2, 2)),
    ],
)
@pytest.mark.parametrize("wording", ["{module}", "before the FC: {module}", "FC {module}", "the {position}. of them"])
def test_the_wording_of_a_tap_changes_no_verdict(architecture, modules, expected, wording, tmp_path):
    taps = {
        wording.format(module=module, position=position): module for position, module in enumerate(modules, start=1)
    }
    classifier = built(architecture, taps=taps)
    assert [tap.layer for tap in classifier.taps] == list(taps)
    assert positions_in_the_file(classifier, tmp_path) == positions(*expected)
