"""What the tables count and average, by loops over images.

Images are float64 (3, H, W) in 0..255, networks as in networks.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tests.reference.attacks import Adversary, errs
from tests.reference.intervals import Estimated, draws
from tests.reference.interventions import margin
from tests.reference.networks import Network


def accuracy(classifier: Network, images: Sequence[Tensor], labels: Sequence[int]) -> float:
    """Top-1 accuracy (Tables 1, 3, 5 and 7), 0..1."""
    n_right = 0
    for image, label in zip(images, labels, strict=True):
        n_right += not errs(classifier, image, label)
    return n_right / len(images)


def n_close(classifier: Network, images: Sequence[Tensor], labels: Sequence[int], smallest: float) -> int:
    """Images whose margin is smaller than `smallest`, so that rounding may decide over them."""
    return sum(abs(margin(classifier(image), label)) < smallest for image, label in zip(images, labels, strict=True))


def squared_error(image: Tensor, clean: Tensor) -> float:
    """The mean over pixels and channels of the squared difference (Tables 1 and 4), pixels squared."""
    return float(((image - clean) ** 2).mean())


def mean_squared_error(images: Sequence[Tensor], clean: Sequence[Tensor]) -> float:
    """The mean of that over images."""
    return average([squared_error(*pair) for pair in zip(images, clean, strict=True)])


def average(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def success(adversaries: Sequence[Adversary], clean: Sequence[Tensor], asked: bool) -> dict[str, Any]:
    """What came of an attack. asked: whether a stopping classifier judged the images before it.

    Steps and sizes are those of the images that were attacked: L2 norms of perturbations and their largest changes.
    """
    n_wrong_before, n_fooled, steps, l2, linf = 0, 0, [], [], []
    for adversary, image in zip(adversaries, clean, strict=True):
        if adversary.already_misclassified:
            n_wrong_before += 1
            continue
        n_fooled += adversary.succeeded
        steps.append(adversary.steps)
        change = adversary.image - image
        l2.append(math.sqrt(float((change**2).sum())))
        linf.append(float(change.abs().max()))
    return {
        "n_images": len(adversaries),
        "n_wrong_before": n_wrong_before if asked else math.nan,
        "n_fooled": n_fooled,
        "steps_mean": average(steps),
        "l2_mean": average(l2),
        "l2_max": max(l2),
        "linf_mean": average(linf),
        "linf_max": max(linf),
    }


def n_parameters(network: nn.Module) -> int:
    """Trainable numbers (Table 3)."""
    return sum(math.prod(parameter.shape) for parameter in network.parameters())


def n_layers(network: nn.Module) -> int:
    """Convolutions and fully connected layers, but for those of shortcuts (Table 3)."""
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear)
        for name, module in network.named_modules()
        if "downsample" not in name.split(".")
    )


def amplification(adversary: Sequence[float], noise: Sequence[float]) -> dict[str, float]:
    """How many times larger the relative error under the adversary is than under noise of the same norm.

    adversary, noise: relative errors at a layer, of the same images in the same order. The geometric mean of their
    ratio over the images that both change, with its 95% interval: its logarithm's standard error by 2,000 bootstrap
    resamples of all images, as many times as Student's t has it for so many images.
    """
    pairs = list(zip(adversary, noise, strict=True))
    changed = [a > 0 and b > 0 and math.isfinite(a + b) for a, b in pairs]
    logs = [math.log(a / b) if both else math.nan for (a, b), both in zip(pairs, changed, strict=True)]

    def mean_log(images: Sequence[int]) -> list[float]:
        return [average([logs[image] for image in images if changed[image]])]

    found = Estimated(mean_log(range(len(logs))), [mean_log(drawn) for drawn in draws(len(logs))], sum(changed))
    half = found.half_width()
    return {
        "n_images": found.n_images,
        "amplification": math.exp(found.value),
        "amplification_ci_low": math.exp(found.value - half),
        "amplification_ci_high": math.exp(found.value + half),
        "relative_error_mean": average([a for (a, _), both in zip(pairs, changed, strict=True) if both]),
        "relative_error_control_mean": average([b for (_, b), both in zip(pairs, changed, strict=True) if both]),
    }
