"""Taps: the feature maps of a network to observe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

ITSELF = "."
"""Path of the network itself, whose output is the logits even where no module of it gives them."""

Kind = Literal["spatial", "pooled", "fully connected", "logits"]
"""Of a feature map: it has many places, of convolutions or tokens; it is what global pooling leaves of those; it is the
output of a hidden fully connected layer; it is that of the last layer."""


@dataclass(frozen=True)
class Tap:
    """A feature map to observe.

    layer: what has run just before it, in the words of the paper's Table 6.
    module: dotted path of the module of the network whose output it is; `.` is the network itself.
    kind: what `layer` says in words of one's own.
    rectify: observe the output after a ReLU, for the two maps that no ReLU of the network follows directly.
    cut: path of the module where a pass can be made to go on from another map, where that is not `module`, because
        layers further on read what comes before `module` as well.
    """

    layer: str
    module: str
    kind: Kind
    rectify: bool = False
    cut: str = ""


def module_at(network: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path, `.` for the network itself. Raises AttributeError where there is none."""
    return network.get_submodule("" if path == ITSELF else path)
