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
from typing import Any, ClassVar

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
        wrong = misclassified(self.classifier, images.raw, self.labels.raw)
        return restore_type(ep.astensor(wrong))


@dataclass
class FinishedImages:
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


def input_gradient(classifier: Network, images: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the cross-entropy J(theta, x, y) with respect to the pixels, image by image: like `images`.

    The losses are summed, not averaged, so that an image's gradient does not depend on its batch.
    """
    return input_gradient_and_errors(classifier, images, labels)[0]


@torch.enable_grad()
def input_gradient_and_errors(classifier: Network, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """`input_gradient`, and from the same pass what `misclassified` says of the images."""
    images = images.detach().requires_grad_()
    # In double precision from the logits on: in single precision 1 - softmax, a factor of the gradient, is lost in
    # rounding for confidently recognised images, and the signs become wrong from a margin of 15 on.
    logits = classifier(images).double()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    return torch.autograd.grad(loss, images)[0], logits.detach().argmax(1) != labels


def require_evaluation_mode(network: Network, role: str) -> None:
    """Raises ValueError for a network in training mode."""
    if isinstance(network, nn.Module) and network.training:
        raise ValueError(f"the {role} is in training mode, where outputs depend on the batch; call its eval() first")


@torch.no_grad()
def misclassified(classifier: Network, images: Tensor, labels: Tensor) -> Tensor:
    """(B,) booleans: the classifier gets the label of the image wrong."""
    return classifier(images).argmax(1) != labels


ATTACKS: dict[str, type[GradientSignAttack]] = {}
"""The attacks of this file by their names in the config."""


class GradientSignAttack(FixedEpsilonAttack, ABC):
    """A walk of equal steps along signs of gradients, clipped to the bounds.

    step: length of a step in each pixel, epsilon in the paper's equations, in the units of the bounds.
    max_steps: limit on the number of steps. early_stop: finish an image as soon as the stopping classifier errs.
    batch_size: images worked on at once; None is all. It changes speed, memory and the rounding of the networks.
    round_to_8_bits: the stopping classifier sees, and the attack gives back, each image of the walk rounded to whole
    pixel values. The walk itself and the gradient go on from the image that is not rounded.

    Raises ValueError where one of the numbers is not positive, and where rounding would undo the longest walk.

    A subclass has its name in the config as a class argument. What it says of its gradients is read from this file, not
    imported, wherever a study's costs are counted (perturbflow/planning/declarations.py). Raises TypeError for a
    subclass with a `gradient` of its own that does not say how many passes it takes.
    """

    distance = linf

    # Passes of the attacker, forth and back, that `gradient` takes.
    gradients_per_step: ClassVar[int] = 1
    # Whether the walk goes along one gradient, taken at the image itself.
    one_gradient: ClassVar[bool] = False

    def __init_subclass__(cls, name: str = "", **keywords: Any) -> None:
        super().__init_subclass__(**keywords)

        def place(attribute: str) -> int:
            return next(place for place, base in enumerate(cls.__mro__) if attribute in vars(base))

        if place("gradient") < place("gradients_per_step"):
            raise TypeError(
                f"{cls.__name__} has a gradient of its own and does not say what it takes; write beside it "
                "gradients_per_step = 1, or how often it passes the attacker forth and back"
            )
        if name:
            ATTACKS[name] = cls

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

    def gradient(self, attacker: Network, images: Tensor, labels: Tensor) -> Tensor:
        """What leads the walk from images (B, C, H, W): like them, for each image independent of its batch, not random.

        An override says `gradients_per_step`. Its passes judge no image; those of the stopping classifier come on top.
        """
        return input_gradient(attacker, images, labels)

    @abstractmethod
    def accumulated(self, carried: Tensor, gradient: Tensor) -> Tensor:
        """What the walk carries on from what it carried (zeros at first) and the gradient, (B, C, H, W) each.

        The next step goes along its sign.
        """

    def stream(
        self,
        attacker: Network,
        stopping_classifier: Network | None,
        images: Tensor,
        labels: Tensor,
        bounds: tuple[float, float] = (0.0, 255.0),
        device: torch.device | None = None,
    ) -> Iterator[FinishedImages]:
        """Attack (N, C, H, W) images of any type with labels (N,) and give them back as they finish.

        device: of the networks, to which images come batch by batch; None is that of the images.

        Finished images leave the batch and waiting ones take their place, so that the networks run on full batches
        of undecided images only. Without early stop there may be no stopping classifier; nobody then says whether the
        attack succeeded. Raises ValueError for a network in training mode and for early stop without such a classifier.
        """
        require_evaluation_mode(attacker, "attacked model")
        if stopping_classifier is not None:
            require_evaluation_mode(stopping_classifier, "stopping classifier")
        elif self.early_stop:
            raise ValueError("an attack with early stop needs a stopping classifier")
        waiting = _Waiting(images, labels, self.batch_size or max(1, len(images)), device or images.device)
        if not self.one_gradient and self._shares_passes(attacker, stopping_classifier):
            return self._judged_by_attacker(attacker, waiting, bounds)
        return self._judged(attacker, stopping_classifier, waiting, bounds)

    def _shares_passes(self, attacker: Network, stopping_classifier: Network | None) -> bool:
        """Whether the pass that gives an image's gradient is also the one that judges it."""
        is_plain = type(self).gradient is GradientSignAttack.gradient
        return is_plain and self.early_stop and attacker is stopping_classifier and not self.round_to_8_bits

    def _judged_by_attacker(
        self, attacker: Network, waiting: _Waiting, bounds: tuple[float, float]
    ) -> Iterator[FinishedImages]:
        """The pass that gives the gradient says as well which images the attacker gets wrong, which need none."""
        active = waiting.take(0)
        while len(active := active.joined(waiting.take(waiting.batch_size - len(active)))):
            gradient, wrong = input_gradient_and_errors(attacker, active.images, active.labels)
            done = wrong | (active.steps >= self.max_steps)
            if bool(done.any()):
                yield active[done].finished(wrong[done])
                active, gradient = active[~done], gradient[~done]
            self._advance(active, gradient, bounds)

    def _judged(
        self,
        attacker: Network,
        stopping_classifier: Network | None,
        waiting: _Waiting,
        bounds: tuple[float, float],
    ) -> Iterator[FinishedImages]:
        """Each step is followed by a pass of the stopping classifier; without early stop, the last one alone."""
        active = begun = waiting.take(0)
        while True:
            while len(active) < waiting.batch_size:
                if not len(begun):
                    begun = waiting.take(waiting.batch_size)
                    if not len(begun):
                        break
                    already_wrong = self._begin(attacker, stopping_classifier, begun)
                    if bool(already_wrong.any()):
                        yield begun[already_wrong].finished(already_wrong[already_wrong])
                        begun = begun[~already_wrong]
                room = waiting.batch_size - len(active)
                active, begun = active.joined(begun[:room]), begun[room:]
            if not len(active):
                return
            gradient = None if self.one_gradient else self.gradient(attacker, active.images, active.labels)
            self._advance(active, gradient, bounds)
            over = active.steps >= self.max_steps
            if self.early_stop or bool(over.any()):
                candidates = active.images.round() if self.round_to_8_bits else active.images
                wrong = torch.zeros_like(over)
                if stopping_classifier is not None:
                    wrong = misclassified(stopping_classifier, candidates, active.labels)
                done = over | wrong if self.early_stop else over
                if bool(done.any()):
                    finished = active[done].finished(wrong[done])
                    finished.images = candidates[done]
                    yield finished
                    active = active[~done]

    def _begin(self, attacker: Network, stopping_classifier: Network | None, walk: _Walk) -> Tensor:
        """(B,) booleans: the stopping classifier errs on the image itself. A walk along one gradient gets it here."""
        if self.one_gradient and self._shares_passes(attacker, stopping_classifier):
            walk.carried, wrong = input_gradient_and_errors(attacker, walk.images, walk.labels)
            return wrong
        wrong = torch.zeros_like(walk.index, dtype=torch.bool)
        if self.early_stop and stopping_classifier is not None:
            wrong = misclassified(stopping_classifier, walk.images, walk.labels)
        if self.one_gradient and not bool(wrong.all()):
            walk.carried[~wrong] = self.gradient(attacker, walk.images[~wrong], walk.labels[~wrong])
        return wrong

    def _advance(self, walk: _Walk, gradient: Tensor | None, bounds: tuple[float, float]) -> None:
        """Go on by a step."""
        if gradient is not None:
            walk.carried = self.accumulated(walk.carried, gradient)
        walk.images = (walk.images + self.step * walk.carried.sign()).clamp_(*bounds)
        walk.steps = walk.steps + 1

    def run(self, model: Any, inputs: Any, criterion: Any, *, epsilon: float, **kwargs: Any) -> Any:
        """Foolbox's entry: the perturbed inputs. `epsilon`, the largest change of a pixel, limits the steps too."""
        raise_if_kwargs(kwargs)
        images, restore_type = ep.astensor_(inputs)
        criterion = get_criterion(criterion)
        if not isinstance(criterion, Misclassification):
            raise ValueError(f"{type(self).__name__} needs Misclassification or MisclassifiedBy, got {criterion}")
        # Without early stop Foolbox alone asks whether the attack succeeded, and asks again in any case.
        judge = criterion.classifier if isinstance(criterion, MisclassifiedBy) else model
        stopping_classifier = judge if self.early_stop else None
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


class FGSM(GradientSignAttack, name="fgsm"):
    """Fast gradient sign method, equation (1): x + k * epsilon * sign(grad J(theta, x, y)), k = 1, 2, ...

    One gradient, taken at the clean image; the walk goes along its sign.
    """

    one_gradient = True

    def accumulated(self, carried: Tensor, gradient: Tensor) -> Tensor:
        return gradient


class IterativeFGSM(GradientSignAttack, name="ifgsm"):
    """Iterative fast gradient sign method, equation (2): a new gradient at every step."""

    def accumulated(self, carried: Tensor, gradient: Tensor) -> Tensor:
        return gradient


class MomentumIterativeFGSM(GradientSignAttack, name="mifgsm"):
    """Momentum iterative fast gradient sign method, equation (3): g <- decay * g + grad / ||grad||_1."""

    def __init__(self, *, decay: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        self.decay = decay

    def accumulated(self, carried: Tensor, gradient: Tensor) -> Tensor:
        norm = gradient.abs().sum((1, 2, 3), keepdim=True)
        # An image of zero gradient adds nothing, rather than 0 / 0.
        return self.decay * carried + gradient / norm.where(norm > 0, 1)


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

    def finished(self, wrong: Tensor) -> FinishedImages:
        """As a result; wrong: (B,), whether the stopping classifier errs."""
        return FinishedImages(self.index, self.images, self.steps, wrong & (self.steps > 0), wrong & (self.steps == 0))


class _Waiting:
    """The images that no walk has begun with, which are taken in order."""

    def __init__(self, images: Tensor, labels: Tensor, batch_size: int, device: torch.device) -> None:
        self.images = images
        self.labels = labels
        self.batch_size = batch_size
        self.device = device
        self.n_taken = 0

    def take(self, n_images: int) -> _Walk:
        """Walks at their start, of so many images or of those that are left."""
        rows = slice(self.n_taken, min(self.n_taken + n_images, len(self.images)))
        index = torch.arange(rows.start, rows.stop, device=self.device)
        self.n_taken = rows.stop
        batch = batch_of(self.images[rows], self.device)
        return _Walk(index, batch, self.labels[rows].to(self.device), torch.zeros_like(index), torch.zeros_like(batch))


def batch_of(images: Tensor, device: torch.device) -> Tensor:
    """A copy of (B, C, H, W) images of any type on a device, as the networks take them."""
    batch = images.to(device, copy=True).to(memory_format=torch.channels_last)
    return batch if batch.is_floating_point() else batch.float()
