"""Taps: the feature maps of a network to observe."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
    module: dotted path of the module of the network whose output it is; `.` is the network itself. Where the output is
        a tuple, list or mapping, the path of the element follows: `stage4[0]`, `backbone[features][1]`.
    kind: what `layer` says in words of one's own.
    rectify: observe the output after a ReLU, for the two maps that no ReLU of the network follows directly.
    cut: path, as `module`, where a pass can be made to go on from another map, where that is not `module`, because
        layers further on read what comes before `module` as well.
    """

    layer: str
    module: str
    kind: Kind
    rectify: bool = False
    cut: str = ""


def module_at(network: nn.Module, path: str) -> nn.Module:
    """The module at a path, whichever element of its output the path goes on to; `.` is the network itself.

    Raises AttributeError where there is none.
    """
    module, _, _ = path.partition("[")
    return network.get_submodule("" if module == ITSELF else module)


def element_at(output: Any, path: str) -> Any:
    """The element of a module's output that the module's path goes on to; the output itself for a path without."""
    for key in _keys(path):
        output = output[_of_its_type(key, output)]
    return output


def with_element(output: Any, path: str, element: Any) -> Any:
    """The output with another element there. Tuples, lists and mappings on the way are copied, the rest is not."""
    return _with_element(output, _keys(path), element)


def _with_element(output: Any, keys: Sequence[str], element: Any) -> Any:
    if not keys:
        return element
    key = _of_its_type(keys[0], output)
    inner = _with_element(output[key], keys[1:], element)
    if isinstance(output, tuple):
        elements = [*output[:key], inner, *output[key + 1 :]]
        return type(output)(*elements) if hasattr(output, "_fields") else type(output)(elements)  # a named tuple
    changed = copy.copy(output)
    changed[key] = inner
    return changed


def _keys(path: str) -> list[str]:
    """`stage4[0][out]` -> `0`, `out`."""
    return [key.removesuffix("]") for key in path.split("[")[1:]]


def _of_its_type(key: str, output: Any) -> Any:
    return key if isinstance(output, Mapping) and key in output else int(key)
