"""Verdicts: whether a value lies where somebody says that it lies, and how many of them may be believed together."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan

import numpy as np
from numpy.typing import ArrayLike

from perturbflow.results.bootstrap import CONFIDENCE, Array, Estimate

UNDECIDED = "undecided"


@dataclass(frozen=True)
class Region:
    """Where a value lies if a statement is true: between `low` and `high`, both included if `closed`."""

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

    def verdict(self, estimate: Estimate) -> str:
        """`holds` if the whole 95% interval of a single value lies inside, `fails` if all of it lies outside.

        `undecided` elsewhere, where there is no interval, and where it has no width: what no image and no training
        changes was not seen to vary, which does not say that it cannot.
        """
        low, high = map(float, estimate.interval())
        if not estimate.varies:
            return UNDECIDED
        if self.closed:
            inside, outside = low >= self.low and high <= self.high, high < self.low or low > self.high
        else:
            inside, outside = low > self.low and high < self.high, high <= self.low or low >= self.high
        return "holds" if inside else "fails" if outside else UNDECIDED

    def p_value(self, estimate: Estimate) -> float:
        """The least p at which there is a verdict: 1 - the confidence whose interval just reaches a bound.

        NaN where there is no interval, or one of no width.
        """
        if not estimate.varies:
            return nan
        value = float(estimate.value)
        if self.low <= value <= self.high:
            return max(estimate.p_value(bound) for bound in (self.low, self.high) if np.isfinite(bound))
        return estimate.p_value(self.low if value < self.low else self.high)


def holm(p_values: ArrayLike) -> Array:
    """Holm's (1979) adjusted p-values, of any shape: below 0.05 all together, one of them wrongly, in 5% of studies.

    NaN stays NaN and counts for nothing.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted, order = np.full(p_values.size, nan), np.argsort(p_values, axis=None)
    ordered = p_values.ravel()[order]
    n = int(np.isfinite(ordered).sum())
    times = ordered[:n] * np.arange(n, 0, -1)
    adjusted[order[:n]] = np.minimum(np.maximum.accumulate(times), 1)
    return adjusted.reshape(p_values.shape)


def corrected(verdict: str, adjusted_p: float) -> str:
    """A verdict of those that stand together: undecided where Holm's p is not below 1 - 0.95."""
    return verdict if adjusted_p < 1 - CONFIDENCE else UNDECIDED
