"""A claim: an effect, and the region in which the paper says that it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Protocol

from perturbflow.results.bootstrap import Array
from perturbflow.vocabulary import PAPER_SETS

CLEAN = "(clean)"  # no name of a denoiser; beside the conditions "none" and each denoiser: the clean image itself
VERDICTS = ("holds", "fails", "undecided", "not measured")


class NotMeasuredError(LookupError):
    """The run lacks what a claim needs; the message names it."""


@dataclass(frozen=True)
class Region:
    """Where an effect lies if the claim is true: between `low` and `high`, both included if `closed`."""

    low: float = -inf
    high: float = inf
    closed: bool = False

    def __str__(self) -> str:
        equal = "=" if self.closed else ""
        if self.high == inf:
            return f">{equal} {self.low:.3g}"
        if self.low == -inf:
            return f"<{equal} {self.high:.3g}"
        left, right = "[]" if self.closed else "()"
        return f"in {left}{self.low:.3g}, {self.high:.3g}{right}"

    def verdict(self, ci_low: float, ci_high: float) -> str:
        """`holds` if the whole interval lies inside, `fails` if all of it lies outside, else `undecided`."""
        if self.closed:
            inside = ci_low >= self.low and ci_high <= self.high
            outside = ci_high < self.low or ci_low > self.high
        else:
            inside = ci_low > self.low and ci_high < self.high
            outside = ci_high <= self.low or ci_low >= self.high
        return "holds" if inside else "fails" if outside else "undecided"


@dataclass(frozen=True)
class TapPositions:
    """Positions at which a classifier is observed."""

    first: int
    last_convolutional: int
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
    """Where numbers come from. All arrays have one length: 1 + N_RESAMPLES of a run, 1 of the paper."""

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        """Top-1 accuracy, percent."""

    def mse(self, adversarial_set: str, condition: str) -> Array:
        """Mean squared error against the clean images, pixels squared, training split."""

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        """Mean distance between feature maps."""


Effect = Callable[..., Array]
"""Of evidence, a scope and the names of the claim's subject, in this order."""

Names = str | tuple[str, ...]
"""Names given one by one, or a key of what `_names` returns."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    name: a short one. statement: what the effect is, with its unit. region: where the paper says that it lies.
    adversarial_sets: those it is pooled over. subject: the names it is about; it gets a row a combination of them.
    """

    name: str
    statement: str
    region: Region
    adversarial_sets: tuple[str, ...]
    subject: tuple[Names, ...]
    effect: Effect


CLAIMS: list[Claim] = []


def claim(
    statement: str, region: Region, *subject: Names, adversarial_sets: tuple[str, ...] = PAPER_SETS
) -> Callable[[Effect], Effect]:
    """Register an effect as a claim of the function's name."""

    def register(effect: Effect) -> Effect:
        name = effect.__name__.removeprefix("_")
        CLAIMS.append(Claim(name, statement, region, adversarial_sets, subject, effect))
        return effect

    return register
