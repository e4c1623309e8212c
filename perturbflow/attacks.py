"""FGSM, i-FGSM and mi-FGSM that stop image by image as soon as a classifier errs (Section 2.1 of the paper).

They are Foolbox attacks: `attack(model, inputs, criterion, epsilons=...)` works on every PyTorchModel of Foolbox.
The gradient comes from `model`, the attacker. Which classifier has to err is said by the criterion:
`MisclassifiedBy(labels, stopping_classifier)`, or Foolbox's `Misclassification(labels)` for the attacker itself.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import eagerpy as ep
import torch
import torch.nn.functional as F
from foolbox.attacks.base import FixedEpsilonAttack, get_criterion, raise_if_kwargs
from foolbox.criteria import Misclassification
from foolbox.distances import linf
from torch import Tensor, nn

Network = Callable[[Tensor], Tensor]


class MisclassifiedBy(Misclassification):
    """Foolbox criterion: the stopping classifier, rather than the attacked model, gets the label wrong."""

    def __init__(self, labels: Any, classifier: Network) -> None:
        super().__init__(labels)
        self.classifier = classifier

    def __call__(self, perturbed: Any, outputs: Any) -> Any:
        """(B,) booleans; `outputs`, the attacked model's, are not looked at."""
        images, restore_type = ep.astensor_(perturbed)
        wrong = errs(self.classifier, images.raw, self.labels.raw)
        return restore_type(ep.astensor(wrong))


@dataclass
class Attacked:
    """Images that an attack has finished with, in the order in which they finished.

    index: int64 (B,), their positions in the input. images: float (B, C, H, W). steps: int64 (B,), steps taken, or
    -1 for Foolbox's attacks, which do not tell.
    succeeded: bool (B,), the attack made the stopping classifier err. already_misclassified: bool (B,), it erred on
    the image itself, which is left as it is, with 0 steps. Without early stop nobody asks about the image itself:
    already_misclassified is false throughout, and succeeded says whether the stopping classifier errs at the end.
    """

    index: Tensor
    images: Tensor
    steps: Tensor
    succeeded: Tensor
    already_misclassified: Tensor


@torch.enable_grad()
def input_gradient(classifier: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the cross-entropy J(theta, x, y) with respect to the pixels, image by image: like `images`.

    The losses are summed, not averaged, so that an image's gradient does not depend on its batch.
    """
    images = images.detach().requires_grad_()
    # In double precision from the logits on: in single precision 1 - softmax, a factor of the gradient, is lost in
    # rounding for confidently recognised images, and the signs become wrong from a margin of 15 on.
    loss = F.cross_entropy(classifier(images).double(), labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def require_evaluation_mode(network: Network, role: str) -> None:
    """Raises ValueError for a network in training mode."""
    if isinstance(network, nn.Module) and network.training:
        raise ValueError(f"the {role} is in training mode, where outputs depend on the batch; call its eval() first")


@torch.no_grad()
def errs(classifier: Network, images: Tensor, labels: Tensor) -> Tensor:
    """(B,) booleans: the classifier gets the label of the image wrong."""
    return classifier(images).argmax(1) != labels


class GradientSignAttack(FixedEpsilonAttack, ABC):
    """A walk of equal steps along signs of gradients, clipped to the bounds.

    step: length of a step in each pixel, epsilon in the paper's equations, in the units of the bounds.
    max_steps: limit on the number of steps. early_stop: finish an image as soon as the stopping classifier errs.
    batch_size: images worked on at once; None is all. It changes speed and memory, not results.
    round_to_8_bits: the stopping classifier sees, and the attack gives back, each image of the walk rounded to whole
    pixel values. The walk itself and the gradient go on from the image that is not rounded.

    Raises ValueError where one of the numbers is not positive, and where rounding would undo the longest walk.
    """

    distance = linf

    def __init__(
        self,
        *,
        step: float,
        max_steps: int,
        early_stop: bool = True,
        batch_size: int | None = None,
        round_to_8_bits: bool = False,
    ) -> None:
        for name, value in {"step": step, "max_steps": max_steps, "batch_size": batch_size}.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; it must be positive")
        if round_to_8_bits and step * max_steps < 0.5:
            raise ValueError(
                f"{max_steps} steps of {step} change no pixel by half a value, so that round_to_8_bits undoes every "
                "perturbation; take more or longer steps"
            )
        self.step = step
        self.max_steps = max_steps
        self.early_stop = early_stop
        self.batch_size = batch_size
        self.round_to_8_bits = round_to_8_bits

    @abstractmethod
    def start(self, attacker: Network, images: Tensor, labels: Tensor) -> Tensor:
        """What the walk of each image carries from step to step, (B, C, H, W)."""

    @abstractmethod
    def direction(self, attacker: Network, images: Tensor, labels: Tensor, carried: Tensor) -> Tensor:
        """What the next `carried` is; the step goes along its sign. (B, C, H, W)."""

    def stream(
        self,
        attacker: Network,
        stopping_classifier: Network,
        images: Tensor,
        labels: Tensor,
        bounds: tuple[float, float] = (0.0, 255.0),
    ) -> Iterator[Attacked]:
        """Attack (N, C, H, W) images of any type with labels (N,) and give them back as they finish.

        Finished images leave the batch and waiting ones take their place, so that the networks run on full batches
        of undecided images only. Raises ValueError for a network in training mode.
        """
        require_evaluation_mode(attacker, "attacked model")
        require_evaluation_mode(stopping_classifier, "stopping classifier")
        batch_size = self.batch_size or max(1, len(images))
        ready = active = _Walk.none(images)
        n_begun = 0
        while n_begun < len(images) or len(ready) or len(active):
            while len(active) < batch_size and (len(ready) or n_begun < len(images)):
                if not len(ready):
                    begun = torch.arange(n_begun, min(n_begun + batch_size, len(images)), device=images.device)
                    n_begun += len(begun)
                    ready, already_wrong = self._begin(attacker, stopping_classifier, begun, images, labels)
                    if len(already_wrong):
                        yield already_wrong.finished(already=True)
                room = batch_size - len(active)
                active, ready = active.joined(ready[:room]), ready[room:]
            if not len(active):
                continue
            active.carried = self.direction(attacker, active.images, active.labels, active.carried)
            active.images = (active.images + self.step * active.carried.sign()).clamp_(*bounds)
            active.steps = active.steps + 1
            over = active.steps >= self.max_steps
            if self.early_stop or bool(over.any()):
                # Without early stop the classifier is asked once, at the end, whether the attack succeeded.
                candidates = active.images.round() if self.round_to_8_bits else active.images
                wrong = errs(stopping_classifier, candidates, active.labels)
                done = over | wrong if self.early_stop else over
                if bool(done.any()):
                    finished = active[done].finished(succeeded=wrong[done])
                    finished.images = candidates[done]
                    yield finished
                    active = active[~done]

    def _begin(
        self, attacker: Network, stopping_classifier: Network, index: Tensor, images: Tensor, labels: Tensor
    ) -> tuple[_Walk, _Walk]:
        """Walks at their start, and those that need none because the stopping classifier errs already."""
        batch = images[index].to(memory_format=torch.channels_last)
        if not batch.is_floating_point():
            batch = batch.float()
        walk = _Walk(index, batch, labels[index], torch.zeros_like(index), batch)
        wrong = errs(stopping_classifier, walk.images, walk.labels) if self.early_stop else None
        begun, already_wrong = (walk, walk[:0]) if wrong is None else (walk[~wrong], walk[wrong])
        if len(begun):
            begun.carried = self.start(attacker, begun.images, begun.labels)
        return begun, already_wrong

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Foolbox's entry: the perturbed inputs. `epsilon`, the largest change of a pixel, limits the steps too."""
        raise_if_kwargs(kwargs)
        images, restore_type = ep.astensor_(inputs)
        criterion = get_criterion(criterion)
        if not isinstance(criterion, Misclassification):
            raise ValueError(f"{type(self).__name__} needs Misclassification or MisclassifiedBy, got {criterion}")
        stopping_classifier = criterion.classifier if isinstance(criterion, MisclassifiedBy) else model
        # A hair more than epsilon, so that n * step with rounding still allows n steps.
        steps_within = math.floor(epsilon / self.step * (1 + 1e-9))
        limited = copy.copy(self)
        limited.max_steps = min(self.max_steps, steps_within)
        # Integer pixels cannot hold the perturbation.
        result = images.raw.clone() if images.raw.is_floating_point() else images.raw.float()
        if limited.max_steps > 0:
            bounds = (model.bounds.lower, model.bounds.upper)
            for part in limited.stream(model, stopping_classifier, images.raw, criterion.labels.raw, bounds):
                result[part.index] = part.images
        return restore_type(ep.astensor(result))


class FGSM(GradientSignAttack):
    """Fast gradient sign method, equation (1): x + k * epsilon * sign(grad J(theta, x, y)), k = 1, 2, ...

    One gradient, taken at the clean image; the walk goes along its sign.
    """

    def start(self, attacker: Network, images: Tensor, labels: Tensor) -> Tensor:
        return input_gradient(attacker, images, labels)

    def direction(self, attacker: Network, images: Tensor, labels: Tensor, carried: Tensor) -> Tensor:
        return carried


class IterativeFGSM(GradientSignAttack):
    """Iterative fast gradient sign method, equation (2): a new gradient at every step."""

    def start(self, attacker: Network, images: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros_like(images)

    def direction(self, attacker: Network, images: Tensor, labels: Tensor, carried: Tensor) -> Tensor:
        return input_gradient(attacker, images, labels)


class MomentumIterativeFGSM(GradientSignAttack):
    """Momentum iterative fast gradient sign method, equation (3): g <- decay * g + grad / ||grad||_1."""

    def __init__(self, *, decay: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.decay = decay

    def start(self, attacker: Network, images: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros_like(images)

    def direction(self, attacker: Network, images: Tensor, labels: Tensor, carried: Tensor) -> Tensor:
        gradient = input_gradient(attacker, images, labels)
        norm = gradient.abs().sum((1, 2, 3), keepdim=True)
        # An image of zero gradient adds nothing, rather than 0 / 0.
        return self.decay * carried + gradient / norm.where(norm > 0, 1)


ATTACKS: dict[str, type[GradientSignAttack]] = {
    "fgsm": FGSM,
    "ifgsm": IterativeFGSM,
    "mifgsm": MomentumIterativeFGSM,
}


def own_attack(settings: Mapping[str, Any], **common: Any) -> GradientSignAttack:
    """An attack of ATTACKS from the config of a set. common: the arguments of the attack that are not its own."""
    own = {key: settings[key] for key in ("step", "max_steps", "decay") if key in settings}
    return ATTACKS[settings["attack"]](**own, **common)


@dataclass
class _Walk:
    """Images on their way: as many rows in each tensor as there are images."""

    index: Tensor
    images: Tensor
    labels: Tensor
    steps: Tensor
    carried: Tensor

    @staticmethod
    def none(images: Tensor) -> _Walk:
        empty = torch.empty(0, dtype=torch.int64, device=images.device)
        nothing = images[:0] if images.is_floating_point() else images[:0].float()
        return _Walk(empty, nothing, empty, empty, nothing)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> _Walk:
        return _Walk(self.index[rows], self.images[rows], self.labels[rows], self.steps[rows], self.carried[rows])

    def joined(self, other: _Walk) -> _Walk:
        if not len(self):
            return other
        return _Walk(
            torch.cat([self.index, other.index]),
            torch.cat([self.images, other.images]),
            torch.cat([self.labels, other.labels]),
            torch.cat([self.steps, other.steps]),
            torch.cat([self.carried, other.carried]),
        )

    def finished(self, succeeded: Tensor | None = None, already: bool = False) -> Attacked:
        no = torch.zeros_like(self.index, dtype=torch.bool)
        return Attacked(self.index, self.images, self.steps, no if succeeded is None else succeeded, no | already)
