import sys

import pytest

from perturbflow.classifiers.building import save_classifier
from tests.unit.classifiers.example_networks import description, smallest

OWN_NETWORK = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=4):
        super().__init__()
        if width < 1:
            raise ArithmeticError("no width")
        self.head = nn.Linear(width, num_classes)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images):
        return self.head(self.body(images))

def make(**arguments):
    return Net(**arguments)

def of_nothing(num_classes):
    return None

def without_classes(width=4):
    return Net(3, width)

number = 3
"""


@pytest.fixture
def own_networks(tmp_path, monkeypatch):
    """A module `own_networks` in the working directory."""
    (tmp_path / "own_networks.py").write_text(OWN_NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_networks", None)


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of `smallest()`."""
    save_classifier(tmp_path / "checkpoint.pt", smallest(), description(smallest()))
    return tmp_path / "checkpoint.pt"
