"""The attacks of Section 2.1 of the paper, and the noise that is compared with them; one image at a time.

Images are float64 (3, H, W) in 0..255, networks as in networks.py. White box: the stopping classifier is the attacker.
Black box: it is another. Adaptive: both are `behind` a denoiser. None: the walk goes to its limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from tests.reference.networks import Network


class Adversary(NamedTuple):
    """What an attack made of an image, in how many steps, and whether the stopping classifier errs on it.

    already_misclassified: it erred on the image itself, which no attack then touches.
    """

    image: Tensor
    steps: int
    succeeded: bool
    already_misclassified: bool


def gradient_of_loss(attacker: Network, image: Tensor, label: int) -> Tensor:
    """The gradient of J(theta, x, y) with respect to x, J being the cross-entropy."""
    x = image.clone().requires_grad_()
    logits = attacker(x)
    loss = torch.logsumexp(logits, 0) - logits[label]
    return torch.autograd.grad(loss, x)[0]


def errs(classifier: Network, image: Tensor, label: int) -> bool:
    """Whether a classifier gets the label of an image wrong."""
    return int(classifier(image).argmax()) != label


def walk(
    image: Tensor,
    label: int,
    attacker: Network,
    stopping: Network | None,
    max_steps: int,
    rounded: bool,
    next_point: Callable[[Tensor], Tensor],
) -> Adversary:
    """Steps "until it successes to mis-classify for the classifier or gets to step limitation" (Section 2.1).

    rounded: what is judged and given back is rounded to 8 bits, while the walk goes on from what is not.
    """
    if stopping is not None and errs(stopping, image, label):
        return Adversary(image, 0, False, True)
    point = image
    for steps in range(1, max_steps + 1):
        point = next_point(point)
        candidate = point.round() if rounded else point
        if stopping is not None and errs(stopping, candidate, label):
            return Adversary(candidate, steps, True, False)
    # Nobody has stopped the walk. Where nobody was to, the attacker says whether it has succeeded.
    return Adversary(candidate, max_steps, stopping is None and errs(attacker, candidate, label), False)


def fgsm(
    image: Tensor,
    label: int,
    attacker: Network,
    stopping: Network | None,
    step: float,
    max_steps: int,
    rounded: bool = False,
) -> Adversary:
    """FGSM, equation (1): x_adv <- x + epsilon sign(grad J(theta, x, y)), accumulated along this one gradient."""
    direction = gradient_of_loss(attacker, image, label).sign()

    def next_point(x_k: Tensor) -> Tensor:
        return (x_k + step * direction).clip(0, 255)

    return walk(image, label, attacker, stopping, max_steps, rounded, next_point)


def ifgsm(
    image: Tensor,
    label: int,
    attacker: Network,
    stopping: Network | None,
    step: float,
    max_steps: int,
    rounded: bool = False,
) -> Adversary:
    """i-FGSM, equation (2): x_{k+1} <- x_k + epsilon sign(grad J(theta, x_k, y))."""

    def next_point(x_k: Tensor) -> Tensor:
        return (x_k + step * gradient_of_loss(attacker, x_k, label).sign()).clip(0, 255)

    return walk(image, label, attacker, stopping, max_steps, rounded, next_point)


def mifgsm(
    image: Tensor,
    label: int,
    attacker: Network,
    stopping: Network | None,
    step: float,
    max_steps: int,
    rounded: bool = False,
    decay: float = 1.0,
) -> Adversary:
    """mi-FGSM, equation (3): g_0 = 0, g_{k+1} <- mu g_k + grad / ||grad||_1, x_{k+1} <- x_k + epsilon sign(g_{k+1})."""
    g = torch.zeros_like(image)

    def next_point(x_k: Tensor) -> Tensor:
        nonlocal g
        gradient = gradient_of_loss(attacker, x_k, label)
        g = decay * g + gradient / gradient.abs().sum()
        return (x_k + step * g.sign()).clip(0, 255)

    return walk(image, label, attacker, stopping, max_steps, rounded, next_point)


def noise_of_norm(image: Tensor, norm: float, direction: Tensor) -> Tensor:
    """The image and noise along `direction`, of the L2 norm of an adversary's perturbation, within 0..255.

    A component that would leave 0..255 has its sign turned round; one that fits on neither side goes as far as it can,
    and the others are longer for it. The length is found by halving an interval in which it lies.
    """
    room = torch.maximum(image, 255 - image)

    def lengths(scale: float) -> Tensor:
        return torch.minimum(scale * direction.abs(), room)

    shortest, longest = 0.0, 255 / float(direction.abs()[direction != 0].min())
    for _ in range(200):
        middle = (shortest + longest) / 2
        if float(lengths(middle).norm()) < norm:
            shortest = middle
        else:
            longest = middle
    change = lengths(longest) * direction.sign()
    fits = (image + change >= 0) & (image + change <= 255)
    return image + torch.where(fits, change, -change)
