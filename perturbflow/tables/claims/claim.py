"""A claim: an effect, and the region in which the paper says that it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from perturbflow.results.bootstrap import Array
from perturbflow.results.verdicts import UNDECIDED, Region
from perturbflow.vocabulary import PAPER_SETS

CLEAN = "(clean)"  # no name of a denoiser; beside the conditions "none" and each denoiser: the clean image itself
NOT_MEASURED = "not measured"
VERDICTS = ("holds", "fails", UNDECIDED, NOT_MEASURED)


class NotMeasuredError(LookupError):
    """The run lacks what a claim needs; the message names it."""


@dataclass(frozen=True)
class TapPositions:
    """Positions at which a classifier is observed.

    convolutional: those whose maps have places, without what pooling leaves of them; the first one where none has.
    """

    convolutional: tuple[int, ...]
    first: int
    before_last: int
    last: int

    @property
    def middle(self) -> range:
        return range(self.first + 1, self.last)


@dataclass(frozen=True)
class Scope:
    """What an effect is computed over."""

    adversarial_sets: tuple[str, ...]
    conditions: tuple[str, ...]
    taps: Mapping[str, TapPositions]

    def taps_of(self, classifier: str) -> TapPositions:
        if classifier not in self.taps:
            raise NotMeasuredError(f"classifier {classifier}")
        return self.taps[classifier]


class Evidence(Protocol):
    """Where numbers come from.

    All arrays have one shape: (1 + N_RESAMPLES, n_trainings) of a run, (1, 1) of the paper.
    """

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        """Top-1 accuracy, percent."""

    def mse(self, adversarial_set: str, condition: str) -> Array:
        """Mean squared error against the clean images, pixels squared, training split."""

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        """Mean distance between feature maps."""


Effect = Callable[..., Array]
"""Of evidence, a scope and the names of the claim's subject, in this order; each training by itself."""

Scale = Literal["ratio", "difference"]
"""Of an effect: ratios are averaged over the trainings as logarithms."""

Names = str | tuple[str, ...]
"""Names given one by one, or a key of what `_names` returns."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper; resources/paper/claims.csv has the sentence that it stands for, by its name.

    name: a short one. statement: what the effect is, with its unit. region: where the paper says that it lies. scale:
    of the effect. adversarial_sets: those it is pooled over. subject: the names it is about; it gets a row a
    combination of them. Where one classifier is to be above several others, each of these is a row of its own, since
    the largest of them, chosen by the data that judge it, would be too large: it is above all if all rows hold.
    """

    name: str
    statement: str
    region: Region
    scale: Scale
    adversarial_sets: tuple[str, ...]
    subject: tuple[Names, ...]
    effect: Effect


CLAIMS: list[Claim] = []


def claim(
    statement: str,
    region: Region,
    *subject: Names,
    scale: Scale = "ratio",
    adversarial_sets: tuple[str, ...] = PAPER_SETS,
) -> Callable[[Effect], Effect]:
    """Register an effect as a claim of the function's name."""

    def register(effect: Effect) -> Effect:
        name = effect.__name__.removeprefix("_")
        CLAIMS.append(Claim(name, statement, region, scale, adversarial_sets, subject, effect))
        return effect

    return register
