"""Attacks against Foolbox, torchattacks and a bare loop: the same network, images, steps and result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import foolbox
import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from benchmarks.inputs import classifier, on_device, photographs, predicted
from benchmarks.results import Result
from benchmarks.timing import fastest
from perturbflow.attacks.gradient_sign import IterativeFGSM

STEP = 0.255


@dataclass(frozen=True)
class Size:
    """batch: images attacked at once. steps: the limit. waiting: images for each place of the batch where they stop."""

    batch: int
    steps: int
    waiting: int
    rounds: int


SIZES = {"cpu": Size(16, 6, 4, 16), "cuda": Size(256, 12, 8, 10)}


class OfUnitImages(nn.Module):
    """A network of pixels for torchattacks, whose images lie in 0..1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images * 255)


def bare_loop(network: nn.Module, images: Tensor, labels: Tensor, step: float, n_steps: int) -> Tensor:
    """Equation (2) of the paper and nothing else."""
    for _ in range(n_steps):
        images = images.detach().requires_grad_()
        loss = F.cross_entropy(network(images), labels, reduction="sum")
        gradient = torch.autograd.grad(loss, images)[0]
        images = (images.detach() + step * gradient.sign()).clamp(0, 255)
    return images


def foolbox_adversaries(
    attack: foolbox.Attack, network: nn.Module, images: Tensor, labels: Tensor, step: float, n_steps: int
) -> Tensor:
    """What an attack of Foolbox gives."""
    model = foolbox.PyTorchModel(network, bounds=(0, 255), device=images.device)
    return attack(model, images, labels, epsilons=step * n_steps)[0]


def torchattacks_adversaries(network: nn.Module, images: Tensor, labels: Tensor, step: float, n_steps: int) -> Tensor:
    """What torchattacks' i-FGSM gives, in pixel values."""
    attack = torchattacks.BIM(OfUnitImages(network).eval(), eps=step * n_steps / 255, alpha=step / 255, steps=n_steps)
    return 255 * attack(images / 255, labels)


def run(device: torch.device) -> list[Result]:
    size = SIZES[device.type]
    return [*_nothing_stops(device, size), *_stops(device, size)]


def _nothing_stops(device: torch.device, size: Size) -> list[Result]:
    """All images take all steps. Weights that are not frozen are what a user of Foolbox has who does nothing."""
    frozen, as_made = classifier("resnet18", device), classifier("resnet18", device, frozen=False)
    as_made = as_made.to(memory_format=torch.contiguous_format)
    images = on_device(photographs(size.batch), device).float()
    labels = predicted(frozen, images)
    as_given = images.contiguous()
    walk = (images, labels, STEP, size.steps)
    usual = (as_given, labels, STEP, size.steps)
    ours = IterativeFGSM(step=STEP, max_steps=size.steps, early_stop=False)
    iterative = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=STEP, steps=size.steps, random_start=False)
    functions: dict[str, Callable[[], Any]] = {
        "ours": partial(foolbox_adversaries, ours, frozen, *walk),
        "stream": lambda: list(ours.stream(frozen, None, images, labels)),
        "foolbox": partial(foolbox_adversaries, iterative, as_made, *usual),
        "foolbox, frozen": partial(foolbox_adversaries, iterative, frozen, *walk),
        "torchattacks": partial(torchattacks_adversaries, as_made, *usual),
        "torchattacks, frozen": partial(torchattacks_adversaries, frozen, *walk),
        "loop": partial(bare_loop, frozen, *walk),
    }
    seconds = fastest(functions, size.rounds, device)
    share = float((functions["ours"]() != functions["foolbox"]()).float().mean())
    what = f"i-FGSM, {size.steps} steps of {size.batch} images, ResNet-18 at 128 px"

    def compared(name: str, against: str, bound: str) -> Result:
        rate = size.batch / seconds[name]
        theirs = size.batch / seconds[against.partition(": ")[0]]
        return Result("attack", what, rate, "images/s", against.replace(": ", ", "), theirs, rate / theirs, bound)

    return [
        compared("ours", "foolbox: network as made", ">= 1.4"),
        compared("ours", "foolbox, frozen", ""),
        compared("stream", "torchattacks: network as made", ">= 1"),
        compared("stream", "torchattacks, frozen", ""),
        compared("stream", "loop: of torch.autograd.grad alone", f">= {1 / 1.03:.3f}"),
        Result("attack", "pixels that differ from Foolbox's, for rounding on an untrained network", 100 * share, "%"),
    ]


def _stops(device: torch.device, size: Size) -> list[Result]:
    """The paper's rule, with steps so long that images take a third of the limit in the mean."""
    network = classifier("resnet18", device)
    as_made = classifier("resnet18", device, frozen=False).to(memory_format=torch.contiguous_format)
    limit = 2 * size.steps
    images = on_device(photographs(size.batch * size.waiting), device).float()
    labels = predicted(network, images)
    step = _step_for(limit / 3, limit, network, images, labels, size.batch)
    ours = IterativeFGSM(step=step, max_steps=limit, batch_size=size.batch)
    iterative = foolbox.attacks.LinfBasicIterativeAttack(abs_stepsize=step, steps=limit, random_start=False)
    judge = Alike(network).eval()

    def in_batches() -> None:
        for some, theirs in zip(images.contiguous().split(size.batch), labels.split(size.batch), strict=True):
            foolbox_adversaries(iterative, as_made, some, theirs, step, limit)

    seconds = fastest(
        {
            "white box": lambda: list(ours.stream(network, network, images, labels)),
            "black box": lambda: list(ours.stream(network, judge, images, labels)),
            "foolbox": in_batches,
        },
        max(2, size.rounds // 5),
        device,
    )
    mean = _mean_steps(ours, network, images, labels)
    return [
        Result(
            "attack",
            f"i-FGSM, {kind}, stopping after {mean:.1f} of {limit} steps in the mean",
            len(images) / seconds[kind],
            "images/s",
            "foolbox, which does not stop",
            len(images) / seconds["foolbox"],
            seconds["foolbox"] / seconds[kind],
            ">= 2",
        )
        for kind in ("white box", "black box")
    ]


class Alike(nn.Module):
    """A stopping classifier with the attacker's weights, which the attack takes for another network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images)


def _mean_steps(attack: IterativeFGSM, network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float(torch.cat([part.steps for part in attack.stream(network, network, images, labels)]).float().mean())


def _step_for(wanted: float, limit: int, network: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """A length of steps with which images need `wanted` steps in the mean, by bisection."""
    shortest, longest = 1e-2, 64.0
    for _ in range(8):
        step = (shortest * longest) ** 0.5
        attack = IterativeFGSM(step=step, max_steps=limit, batch_size=batch_size)
        shortest, longest = (
            (step, longest) if _mean_steps(attack, network, images, labels) > wanted else (shortest, step)
        )
    return longest
