"""95% intervals of means and of probabilities over images."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from perturbflow.files.images import Array


def summary(values: Array, confidence: float = 0.95) -> dict[str, float]:
    """Mean over images, standard deviation, and the t interval of the mean (as mean, std, ci_low, ci_high).

    Images whose value is NaN, that is undefined, are left out.
    """
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return {"mean": mean, "std": float("nan"), "ci_low": float("nan"), "ci_high": float("nan")}
    std = float(values.std(ddof=1))
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * std / len(values) ** 0.5
    return {"mean": mean, "std": std, "ci_low": mean - half, "ci_high": mean + half}


def wilson_interval(n_successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a probability, from `n_successes` of `n` trials."""
    z = float(ndtri((1 + confidence) / 2))
    centre = (n_successes + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * (n_successes * (n - n_successes) / n + z**2 / 4) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)
