"""What a change of a feature map does: passes that go on from the clean map with a part of the change added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from perturbflow.classifiers.classifier import Classifier
from perturbflow.files.images import Array, Images
from perturbflow.machine.batches import pixels_of, ready_for
from perturbflow.machine.prefetch import ahead
from perturbflow.measuring.margins import check_finite, count_not_finite, margins
from perturbflow.measuring.metrics import part_along
from perturbflow.results.intervals import summary, wilson_interval
from perturbflow.results.replicates import coverage


@dataclass(frozen=True)
class Interventions:
    """What the passes that were interfered with predicted.

    parts: name and fraction of each. predicted: int64, and margin (see `measuring.margins`): float64, both
    (n_conditions, n_taps, n_parts, N). predicted_images and margin_images: the same of undisturbed passes, (1 +
    n_conditions, N), clean images first. is_cut: for each tap, whether all that the network makes of an image goes
    through it.
    """

    parts: tuple[tuple[str, float], ...]
    predicted: Array
    margin: Array
    predicted_images: Array
    margin_images: Array
    is_cut: tuple[bool, ...]


@torch.no_grad()
def intervene(
    classifier: Classifier,
    clean: Images,
    conditions: Mapping[str, Images],
    labels: Array,
    fractions: Sequence[float],
    batch_size: int,
    device: torch.device,
) -> Interventions:
    """Predictions where one tap's clean map c gets a part of its change d = o - c, o being the map under a condition.

    At each tap the pass of the clean image goes on from c plus: the part `along` c, (<d, c> / ||c||^2) c; the part
    `across` it, the rest of d; each of `fractions` of the `whole` d. The maps are those that the rest of the network
    starts from (see `Classifier.replaced`), not rectified where those observed are.

    clean: uint8 (N, H, W, 3). conditions: the adversaries, by the denoiser that they went through, float32 (N, H, W,
    3). labels: int64 (N,). At most `batch_size` images pass at once, or one with all its variants.

    Raises ValueError where logits are not finite.
    """
    parts = (("along", 1.0), ("across", 1.0), *(("whole", fraction) for fraction in fractions))
    n_conditions, n_taps, n_images = len(conditions), len(classifier.taps), len(clean)
    expected = torch.from_numpy(labels).to(device)
    is_cut = tuple(_is_cut(classifier, position, pixels_of(clean[:1], device)) for position in range(n_taps))

    # All stays on the device to the end: to fetch a number is to wait for all work before it.
    margin = torch.empty(n_conditions, n_taps, len(parts), n_images, dtype=torch.float64, device=device)
    predicted = torch.empty_like(margin, dtype=torch.int64)
    predicted_images = torch.empty(1 + n_conditions, n_images, dtype=torch.int64, device=device)
    margin_images = torch.empty(1 + n_conditions, n_images, dtype=torch.float64, device=device)
    n_not_finite = torch.zeros(1 + n_conditions, dtype=torch.int64, device=device)
    images_at_once = max(1, batch_size // (n_conditions * (len(parts) + 1)))

    def load(first: int) -> tuple[slice, Tensor]:
        rows = slice(first, min(first + images_at_once, n_images))
        batch = [clean[rows].astype(np.float32), *(of[rows] for of in conditions.values())]
        return rows, ready_for(device, np.concatenate(batch))

    for rows, batch in ahead(load, range(0, n_images, images_at_once)):
        pixels = pixels_of(batch, device).unflatten(0, (1 + n_conditions, -1))
        logits = classifier(pixels.flatten(0, 1)).unflatten(0, (1 + n_conditions, -1))
        predicted_images[:, rows], margin_images[:, rows] = logits.argmax(-1), margins(logits, expected[rows])
        n_not_finite += count_not_finite(logits)
        for position in range(n_taps):
            logits = _logits_of_variants(classifier, position, pixels, fractions, is_cut[position])
            predicted[:, position, :, rows] = logits.argmax(-1)
            margin[:, position, :, rows] = margins(logits, expected[rows])

    check_finite(n_not_finite, n_images, ["clean", *conditions])
    return Interventions(
        parts,
        predicted.cpu().numpy(),
        margin.cpu().numpy(),
        predicted_images.cpu().numpy(),
        margin_images.cpu().numpy(),
        is_cut,
    )


def _logits_of_variants(
    classifier: Classifier, position: int, pixels: Tensor, fractions: Sequence[float], is_cut: bool
) -> Tensor:
    """Logits (n_conditions, n_parts, B, n_classes) of pixels (1 + n_conditions, B, 3, H, W), clean ones first.

    Where the tap is a cut, clean and other images go up to it once, and their variants on from it. Elsewhere the
    network goes on from more than the map, all of which must be clean: a copy of the clean image passes for each
    variant.
    """
    n_conditions, n_images = len(pixels) - 1, pixels.shape[1]
    n_variants = n_conditions * (2 + len(fractions)) * n_images
    conditions = pixels[1:].flatten(0, 1)

    def replace(output: Tensor) -> Tensor:
        clean, others = output[:n_images], output[-len(conditions) :]
        variants = _variants(clean, others.unflatten(0, (n_conditions, -1)), fractions)
        return variants if is_cut else torch.cat([variants, others])

    copies = 1 if is_cut else n_variants // n_images
    with classifier.replaced(position, replace):
        logits = classifier(torch.cat([pixels[0].repeat(copies, 1, 1, 1), conditions]))
    return logits[:n_variants].unflatten(0, (n_conditions, -1, n_images))


def _variants(clean: Tensor, others: Tensor, fractions: Sequence[float]) -> Tensor:
    """Clean maps (B, ...) plus each part of their change to others (n_conditions, B, ...), one condition after another.

    The parts are found and added in double precision: the whole change then gives the other map itself.
    """
    variants = []
    exact = clean.double()
    for other in others:
        difference = other.double() - exact
        along = part_along(exact, difference)
        variants += [(exact + along).to(clean.dtype), (exact + (difference - along)).to(clean.dtype)]
        variants += [(exact + fraction * difference).to(clean.dtype) for fraction in fractions]
    return torch.cat(variants)


def _is_cut(classifier: Classifier, position: int, image: Tensor) -> bool:
    """Whether all that the network makes of an image (1, 3, H, W) goes through the tap, in however large a batch.

    The maps of the image and of its negative are exchanged, and one of them doubled: behind a cut that exchanges and
    doubles their logits. What goes around another tap meets a batch of another size there.
    """
    pair = torch.cat([image, 255 - image])
    expected = classifier(pair)[[1, 0, 1]]
    try:
        with classifier.replaced(position, lambda output: output[[1, 0, 1]]):
            logits = classifier(pair)
    except Exception:  # whatever a network raises where batches of two and three meet
        return False
    rounding = 1e-4 * float(expected.abs().max())
    return logits.shape == expected.shape and torch.allclose(logits, expected, rtol=0, atol=rounding)


def intervention_frames(
    interventions: Interventions, classifier: Classifier, conditions: Sequence[str], index: Array, labels: Array
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions as tables: a row a condition, tap and part, and a row a condition, tap, part and image.

    index: row of each image in the data file. The first has denoiser, position, layer, module, kind, is_cut, part,
    fraction, n_images, interval_covers, top1 with its 95% Wilson interval, and mean, std and 95% t interval of the
    margin; the second denoiser, position, part, fraction, index, label, predicted and margin. Position 0, layer and
    kind `image`, is the undisturbed pass: the whole change with fraction 0 is the clean image, with fraction 1 the
    other image.
    """
    summaries, per_image = [], []
    for condition, denoiser in enumerate(conditions):
        for place, predicted, margin in _cells(interventions, classifier, condition):
            cell = {"denoiser": denoiser, **place}
            correct = predicted == labels
            low, high = wilson_interval(int(correct.sum()), len(correct))
            margin_statistics = {f"margin_{name}": value for name, value in summary(margin).items()}
            top1 = {"top1": correct.mean(), "top1_ci_low": low, "top1_ci_high": high}
            counted = {"n_images": len(correct), "interval_covers": coverage(1)}
            summaries.append({**cell, **counted, **top1, **margin_statistics})
            del cell["layer"], cell["module"], cell["kind"], cell["is_cut"]
            per_image.append(
                pd.DataFrame({**cell, "index": index, "label": labels, "predicted": predicted, "margin": margin})
            )
    return pd.DataFrame(summaries), pd.concat(per_image, ignore_index=True)


def _cells(
    interventions: Interventions, classifier: Classifier, condition: int
) -> Iterator[tuple[dict[str, Any], Array, Array]]:
    """Place, predictions (N,) and margins (N,) of each pass of one condition."""
    image = {"position": 0, "layer": "image", "module": "", "kind": "image", "is_cut": True, "part": "whole"}
    for fraction, row in ((0.0, 0), (1.0, 1 + condition)):
        yield {**image, "fraction": fraction}, interventions.predicted_images[row], interventions.margin_images[row]
    for position, tap in enumerate(classifier.taps):
        tap_columns = {
            "position": position + 1,
            "layer": tap.layer,
            "module": tap.module,
            "kind": tap.kind,
            "is_cut": interventions.is_cut[position],
        }
        predicted, margin = interventions.predicted[condition, position], interventions.margin[condition, position]
        for (part, fraction), *values in zip(interventions.parts, predicted, margin, strict=True):
            yield {**tap_columns, "part": part, "fraction": fraction}, *values
