"""Foolbox's own attacks, run in the way of those in gradient_sign.py, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import foolbox
import torch
from foolbox.criteria import Misclassification
from torch import Tensor, nn

from perturbflow.attacks.foolbox_options import (
    SINGLE_PRECISION,
    UNIT_RANGE,
    ZEROS_WHERE_FAILED,
    check_epsilon,
    minimises,
    starting_attack,
)
from perturbflow.attacks.gradient_sign import (
    FinishedImages,
    MisclassifiedBy,
    batch_of,
    misclassified,
    require_evaluation_mode,
)
from perturbflow.attacks.random_numbers import NumbersOfImages, seed_others


class FoolboxAttack:
    """An attack of Foolbox on images in 0..255, with results like those of the attacks of gradient_sign.py.

    attack: from `foolbox_attack`. epsilon: limit on the perturbation in the attack's own norm, in pixel values; None
    asks for the smallest perturbation. batch_size: images attacked at once; it changes speed and memory, not results,
    but for the attacks that `depends_on_batch` names. seed: of Foolbox's random numbers, 0..2**32 - 1. first_row: where
    the images are a part of a data set, the row in it of the first one: an image draws what it would draw in the whole.
    early_stop: images that the stopping classifier gets wrong are left as they are; otherwise all are attacked.
    round_to_8_bits: the stopping classifier sees, and the attack gives back, each candidate rounded to whole pixel
    values; this may take a perturbation past epsilon by half a pixel value.

    Raises ValueError where the attack needs an epsilon or cannot keep to one.
    """

    def __init__(
        self,
        attack: Any,
        *,
        epsilon: float | None,
        batch_size: int,
        seed: int,
        first_row: int = 0,
        early_stop: bool = True,
        round_to_8_bits: bool = False,
    ) -> None:
        check_epsilon(attack, epsilon)
        self.attack = attack
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.seed = seed
        self.first_row = first_row
        self.early_stop = early_stop
        self.round_to_8_bits = round_to_8_bits
        # How many pixel values make one unit of the images that the attack sees.
        self.unit = 255.0 if isinstance(attack, UNIT_RANGE) else 1.0

    def stream(
        self,
        attacker: nn.Module,
        stopping_classifier: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        device: torch.device | None = None,
    ) -> Iterator[FinishedImages]:
        """Attack (N, C, H, W) images of any type with labels (N,) and give them back batch by batch.

        device: of the networks, to which images come batch by batch; None is that of the images.

        An attack that looks for the smallest perturbation leaves an image as it is where it finds none; other attacks
        give back what they came to. The networks' weights should be frozen: Foolbox computes their gradients otherwise.
        Seeds the random numbers of torch and NumPy. Raises ValueError for a network in training mode.
        """
        require_evaluation_mode(attacker, "attacked model")
        require_evaluation_mode(stopping_classifier, "stopping classifier")
        for start in range(0, len(images), self.batch_size):
            seed_others(self.seed, self.first_row + start)
            rows = slice(start, min(start + self.batch_size, len(images)))
            index = torch.arange(rows.start, rows.stop, device=device or images.device)
            clean, expected = batch_of(images[rows], index.device), labels[rows].to(index.device)
            already = torch.zeros_like(index, dtype=torch.bool)
            if self.early_stop:
                already = misclassified(stopping_classifier, clean, expected)
            perturbed = clean.clone()
            if not bool(already.all()):
                perturbed[~already] = self._perturb(
                    attacker, stopping_classifier, clean[~already], expected[~already], self.first_row + index[~already]
                )
            succeeded = misclassified(stopping_classifier, perturbed, expected) & ~already
            yield FinishedImages(index, perturbed, torch.full_like(index, -1), succeeded, already)

    def _perturb(
        self,
        attacker: nn.Module,
        stopping_classifier: nn.Module,
        clean: Tensor,
        labels: Tensor,
        rows_of_data: Tensor,
    ) -> Tensor:
        """What is given back for (B, C, H, W) images that are to be attacked."""
        model = foolbox.PyTorchModel(
            _InDouble(attacker, clean.dtype, self.unit).eval(), bounds=(0, 255 / self.unit), device=clean.device
        )
        if stopping_classifier is attacker and not self.round_to_8_bits:
            judge = None
        else:
            judge = _InDouble(stopping_classifier, clean.dtype, self.unit, self.round_to_8_bits)
        inputs = (clean.float() if isinstance(self.attack, SINGLE_PRECISION) else clean.double()) / self.unit
        with NumbersOfImages(inputs, self.seed, rows_of_data.tolist(), stage=0):
            rows, starting_points = self._starting_points(model, judge, inputs, labels)
        perturbed = clean.clone()
        if len(rows):
            with NumbersOfImages(inputs[rows], self.seed, rows_of_data[rows].tolist(), stage=1):
                _, found, _ = self.attack(
                    model,
                    inputs[rows],
                    _criterion(labels[rows], judge),
                    epsilons=None if self.epsilon is None else self.epsilon / self.unit,
                    **starting_points,
                )
            perturbed[rows] = (self.unit * found).to(clean.dtype)
        # Where it fails an attack may divide by zero.
        failed = ~perturbed.isfinite().flatten(1).all(1)
        if isinstance(self.attack, ZEROS_WHERE_FAILED):
            failed |= ~perturbed.flatten(1).any(1)
        perturbed[failed] = clean[failed]
        perturbed = perturbed.clamp_(0, 255)
        if self.round_to_8_bits:
            perturbed = perturbed.round_()
        if minimises(self.attack):
            failed = ~misclassified(stopping_classifier, perturbed, labels)
            perturbed[failed] = clean[failed]
        return perturbed

    def _starting_points(
        self, model: Any, judge: nn.Module | None, inputs: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Rows that can be attacked, and the attack's further arguments for them.

        Attacks that start from an adversary refuse a whole batch when one image has none; here that image is left out.
        """
        start = starting_attack(self.attack)
        if start is None:
            return torch.arange(len(inputs), device=inputs.device), {}
        criterion = _criterion(labels, judge)
        points = start.run(model, inputs, criterion)
        rows = criterion(points, model(points)).nonzero().flatten()
        return rows, {"starting_points": points[rows]}


class _InDouble(nn.Module):
    """A network for Foolbox, which then computes in double precision: its losses are as `input_gradient` needs them.

    forward: (B, C, H, W) images of which one unit is `unit` pixel values -> logits. The network sees pixels of `dtype`,
    rounded to whole values if `rounded`.
    """

    def __init__(self, network: nn.Module, dtype: torch.dtype, unit: float, rounded: bool = False) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.unit = unit
        self.rounded = rounded

    def forward(self, images: Tensor) -> Tensor:
        pixels = (self.unit * images).to(self.dtype)
        logits: Tensor = self.network(pixels.round() if self.rounded else pixels)
        return logits.double()


def _criterion(labels: Tensor, judge: nn.Module | None) -> Misclassification:
    """Foolbox's criterion; without a judge the attacked model judges."""
    return Misclassification(labels) if judge is None else MisclassifiedBy(labels, judge)
