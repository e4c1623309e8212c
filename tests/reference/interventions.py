"""Which part of a change does the damage: a clean image's pass goes on from a changed feature map. By plain hooks."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.reference.networks import Classifier, FeatureMap


def map_at(classifier: Classifier, feature_map: FeatureMap, image: Tensor) -> Tensor:
    """The map that the rest of the network starts from, in its shape: no ReLU of the observation is in it."""
    seen = []

    def look(module: Any, inputs: Any, output: Any) -> None:
        seen.append(element_of(output, feature_map).clone())

    hook = module_at(classifier, feature_map).register_forward_hook(look)
    classifier(image)
    hook.remove()
    return seen[0]


def logits_from(classifier: Classifier, feature_map: FeatureMap, image: Tensor, changed: Tensor) -> Tensor:
    """The logits of an image's pass that goes on from the map `changed`; what passes by the map stays the image's."""

    def replace(module: Any, inputs: Any, output: Any) -> Any:
        return output_with(output, feature_map, changed.clone())

    hook = module_at(classifier, feature_map).register_forward_hook(replace)
    logits = classifier(image)
    hook.remove()
    return logits


def parts(c: Tensor, o: Tensor, fractions: list[float]) -> dict[tuple[str, float], Tensor]:
    """The maps to go on from: c plus the part of d = o - c along c, the part across it, or a fraction of the whole."""
    d = o - c
    along = (d * c).sum() / (c * c).sum() * c if c.any() else torch.zeros_like(c)
    across = d - along
    return {
        ("along", 1.0): c + along,
        ("across", 1.0): c + across,
        **{("whole", fraction): c + fraction * d for fraction in fractions},
    }


def logits_of_parts(
    classifier: Classifier, feature_map: FeatureMap, clean: Tensor, other: Tensor, fractions: list[float]
) -> dict[tuple[str, float], Tensor]:
    """The logits of the clean image's pass with each part of the change that another image makes of its map."""
    c, o = (map_at(classifier, feature_map, image) for image in (clean, other))
    return {
        part: logits_from(classifier, feature_map, clean, changed) for part, changed in parts(c, o, fractions).items()
    }


def margin(logits: Tensor, label: int) -> float:
    """The logit of the true class less the largest of the others."""
    others = [float(logit) for number, logit in enumerate(logits) if number != label]
    return float(logits[label]) - max(others)


def module_at(classifier: Classifier, feature_map: FeatureMap) -> torch.nn.Module:
    """The module behind which the pass is cut."""
    return classifier.network.get_submodule(feature_map.cut or feature_map.module)


def element_of(output: Any, feature_map: FeatureMap) -> Tensor:
    """The map in a module's output."""
    for key in () if feature_map.cut else feature_map.element:
        output = output[key]
    return output


def output_with(output: Any, feature_map: FeatureMap, changed: Tensor) -> Any:
    """A module's output with another map in the place of its own, one or two levels deep."""

    def replaced(inner: Any, keys: tuple[int | str, ...]) -> Any:
        if not keys:
            return changed
        if isinstance(inner, dict):
            return {key: replaced(value, keys[1:]) if key == keys[0] else value for key, value in inner.items()}
        return tuple(replaced(value, keys[1:]) if key == keys[0] else value for key, value in enumerate(inner))

    return replaced(output, () if feature_map.cut else feature_map.element)


def share_with_interval(correct: list[bool]) -> tuple[float, float, float]:
    """The share of right images, and Wilson's 95% interval: all p with |p - share| <= z sqrt(p (1 - p) / n)."""
    z = 1.959963984540054
    n, share = len(correct), sum(correct) / len(correct)
    # Its ends are the roots of (1 + z^2/n) p^2 - (2 share + z^2/n) p + share^2.
    a, b = 1 + z**2 / n, 2 * share + z**2 / n
    root = math.sqrt(max(0.0, b**2 - 4 * a * share**2))
    return share, (b - root) / (2 * a), (b + root) / (2 * a)
