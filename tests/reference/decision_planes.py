"""Figure 4 of the paper from logits: how noise and adversaries move them, by literal loops over Python's own numbers.

Slow and independent: it imports nothing of the package. The words are those of docs/method.md, "Decision planes".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import acos, degrees, fsum, isnan, nan, sqrt

from tests.reference.intervals import Estimated, draws, holm

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


def estimated(values: Values) -> Estimated:
    """Of the images' mean."""
    n_drawn = len(values[0])
    n_images = sum(any(not isnan(of[image]) for of in values) for image in range(n_drawn))
    drawn = [[mean([of_training[image] for image in draw]) for of_training in values] for draw in draws(n_drawn)]
    return Estimated([mean(of_training) for of_training in values], drawn, n_images)


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
        found = estimated([[image[quantity] for image in of_training] for of_training in images])
        half = found.half_width()
        row[f"{quantity}_mean"] = found.value
        row[f"{quantity}_ci_low"], row[f"{quantity}_ci_high"] = found.value - half, found.value + half
        if quantity == "along_share":
            row["n_images"], row["p_value"] = found.n_images, found.p_value(bound)
            above, below = found.value - half > bound, found.value + half < bound
            row["verdict"] = (
                words[0] if found.decides and above else words[1] if found.decides and below else "undecided"
            )
    return row
