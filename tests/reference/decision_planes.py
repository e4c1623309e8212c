"""Figure 4 of the paper from logits: how noise and adversaries move them, by literal loops over Python's own numbers.

Slow and independent: it imports nothing of the package. The words are those of docs/method.md, "Decision planes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import acos, degrees, fsum, isnan, nan, sqrt

import numpy as np
from scipy.stats import t

N_RESAMPLES = 2000
QUANTITIES = ("along_share", "norm_change", "angle", "margin_clean", "margin_change")

Logits = Sequence[float]
# Of each quantity the value of every image, by training.
Values = Sequence[Sequence[float]]


def centred(logits: Logits) -> list[float]:
    """Without what softmax does not see: the mean of an image's logits is taken off."""
    mean = fsum(logits) / len(logits)
    return [logit - mean for logit in logits]


def product(left: Logits, right: Logits) -> float:
    """<left, right>."""
    return fsum(x * y for x, y in zip(left, right, strict=True))


def margin(logits: Logits, label: int) -> float:
    """Logit of the true class minus the largest other one."""
    return logits[label] - max(logit for place, logit in enumerate(logits) if place != label)


def quantities(clean: Logits, other: Logits, label: int) -> dict[str, float]:
    """Of one image; all NaN where its centred logits do not change.

    With c the clean ones, o the others and d = o - c: the share <d, c>^2 / (||d||^2 ||c||^2), the change of the norm
    ||o|| / ||c|| - 1, and the angle between c and o.
    """
    c, o = centred(clean), centred(other)
    d = [after - before for before, after in zip(c, o, strict=True)]
    if product(d, d) == 0:
        return dict.fromkeys(QUANTITIES, nan)
    return {
        "along_share": product(d, c) ** 2 / (product(d, d) * product(c, c)),
        "norm_change": sqrt(product(o, o) / product(c, c)) - 1,
        "angle": degrees(acos(product(c, o) / sqrt(product(c, c) * product(o, o)))),
        "margin_clean": margin(clean, label),
        "margin_change": margin(other, label) - margin(clean, label),
    }


def mean(values: Sequence[float]) -> float:
    """Over the images that have a value."""
    known = [value for value in values if not isnan(value)]
    return fsum(known) / len(known) if known else nan


def variance(values: Sequence[float], n_free: int) -> float:
    """The sum of squares around the mean over n_free."""
    middle = fsum(values) / len(values)
    return fsum((value - middle) ** 2 for value in values) / n_free


class Estimated:
    """A mean over trainings and images, and its two standard errors.

    Between the trainings: s / sqrt(R) of the R trainings' means. Between the images: that of resampled images, the same
    in all trainings, less what the images do to each training alone.
    """

    def __init__(self, values: Values) -> None:
        n_trainings, n_drawn = len(values), len(values[0])
        self.n_trainings = n_trainings
        self.n_images = sum(any(not isnan(of[image]) for of in values) for image in range(n_drawn))
        means = [mean(of_training) for of_training in values]
        self.value = fsum(means) / n_trainings
        draws = np.random.default_rng(0).integers(n_drawn, size=(N_RESAMPLES, n_drawn)).tolist()
        drawn = [[mean([of_training[image] for image in draw]) for of_training in values] for draw in draws]
        together = [fsum(of_trainings) / n_trainings for of_trainings in drawn]
        between_images = variance(together, N_RESAMPLES)
        self.trainings_error = 0.0
        if n_trainings > 1:
            self.trainings_error = sqrt(variance(means, n_trainings - 1) / n_trainings)
            alone = [
                variance([of[place] - all_ for of, all_ in zip(drawn, together, strict=True)], N_RESAMPLES)
                for place in range(n_trainings)
            ]
            between_images -= fsum(alone) / (n_trainings - 1) / n_trainings
            if between_images < 0:
                between_images = 0.0
        # A resample varies by 1/n of the sample's variance around its own mean, which is short by n / (n - 1).
        scale = self.n_images / (self.n_images - 1) if self.n_images > 1 else nan
        self.images_error = sqrt(between_images * scale)

    def half_width(self, confidence: float) -> float:
        """Both errors times Student's t of their own degrees of freedom, in quadrature."""
        tail = (1 - confidence) / 2
        images = t.isf(tail, self.n_images - 1) * self.images_error
        trainings = t.isf(tail, self.n_trainings - 1) * self.trainings_error if self.n_trainings > 1 else 0.0
        return sqrt(images**2 + trainings**2)

    def p_value(self, bound: float) -> float:
        """One minus the confidence whose interval reaches the bound, by halving; NaN of an interval of no width."""
        distance = abs(self.value - bound)
        if not self.half_width(0.95) > 1e-9 * abs(self.value):
            return nan
        low, high = 0.0, 1.0
        for _ in range(50):
            confidence = (low + high) / 2
            if self.half_width(confidence) < distance:
                low = confidence
            else:
                high = confidence
        return 1 - low


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm (1979): the smallest p times their number, the next times one less, and none below the one before."""
    order = sorted((p, place) for place, p in enumerate(p_values) if not isnan(p))
    adjusted, largest = [nan] * len(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p))
        adjusted[place] = largest
    return adjusted


def decision_planes(
    clean: Sequence[Sequence[Logits]],
    perturbed: Mapping[str, Sequence[Sequence[Logits]]],
    labels: Sequence[int],
    controls: Mapping[str, str],
) -> list[dict[str, float | str]]:
    """The rows of one classifier under one condition: of each control, of each other set and what it has beyond noise.

    clean: logits by training and image; perturbed: the same by set. controls: by control, the set whose norms it has.
    """
    measured = {
        name: [
            [quantities(before, after, label) for before, after, label in zip(*of_training, labels, strict=True)]
            for of_training in zip(clean, trainings, strict=True)
        ]
        for name, trainings in perturbed.items()
    }
    rows = [_row("noise", measured[control], 0.5, ("tangential", "radial")) for control in controls]
    for name, adversary in measured.items():
        if name in controls:
            continue
        rows.append(_row("adversary", adversary, 0.5, ("tangential", "radial")))
        for control in (control for control, of in controls.items() if of == name):
            beyond = [
                [
                    {quantity: own[quantity] - noise[quantity] for quantity in QUANTITIES} | {"margin_clean": nan}
                    for own, noise in zip(*of_training, strict=True)
                ]
                for of_training in zip(adversary, measured[control], strict=True)
            ]
            rows.append(_row("adversary minus noise", beyond, 0.0, ("more tangential", "more radial")))
    for row, p_holm in zip(rows, holm([float(row["p_value"]) for row in rows]), strict=True):
        row["p_holm"] = p_holm
        row["verdict_holm"] = row["verdict"] if p_holm < 0.05 else "undecided"
    return rows


def _row(
    perturbation: str, images: Sequence[Sequence[Mapping[str, float]]], bound: float, words: tuple[str, str]
) -> dict[str, float | str]:
    """A row of the table; the verdict is whether the whole interval of the share lies above the bound, or below it."""
    row: dict[str, float | str] = {"perturbation": perturbation}
    for quantity in QUANTITIES:
        estimated = Estimated([[image[quantity] for image in of_training] for of_training in images])
        half = estimated.half_width(0.95)
        row[f"{quantity}_mean"] = estimated.value
        row[f"{quantity}_ci_low"], row[f"{quantity}_ci_high"] = estimated.value - half, estimated.value + half
        if quantity == "along_share":
            row["n_images"], row["p_value"] = estimated.n_images, estimated.p_value(bound)
            above, below = estimated.value - half > bound, estimated.value + half < bound
            decided = not isnan(estimated.p_value(bound))
            row["verdict"] = words[0] if decided and above else words[1] if decided and below else "undecided"
    return row
