"""How a perturbation propagates: distances between the feature maps of clean and other images, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from perturbflow.classifiers.classifier import Classifier
from perturbflow.files.images import Array, Images
from perturbflow.machine.batches import pixels_of, ready_for
from perturbflow.machine.prefetch import ahead
from perturbflow.measuring.decision_planes import LOGITS_METRICS, centred_change
from perturbflow.measuring.margins import check_finite, count_not_finite, margins
from perturbflow.measuring.metrics import (
    ALL_METRICS,
    METRICS,
    SET_METRICS,
    TAP_TO_TAP,
    Change,
    Maps,
    SetMetric,
    blocks,
    gram_matrix,
)
from perturbflow.results.intervals import summary
from perturbflow.results.replicates import coverage

# Elements of clean maps that are compared at once on the CPU: the operands in double precision then stay in its cache.
# Fresh memory for whole batches of them costs ten times the arithmetic.
ELEMENTS_AT_ONCE = 2**17


@dataclass(frozen=True)
class LayerDistances:
    """What the passes of clean images, and of the same images under each condition, gave.

    per_image: by metric, float64 (n_conditions, n_taps, N). whole_set: by metric, float64 (n_conditions, n_taps, 3):
    the value and the ends of its 95% interval. n_elements: of one image's map, int64 (n_taps,). predicted: int64, and
    margin (see `margins`): float64, both (1 + n_conditions, N), the clean images first. logits_change: what
    `centred_change` gives, float64 (n_conditions, N).
    """

    per_image: dict[str, Array]
    whole_set: dict[str, Array]
    n_elements: Array
    predicted: Array
    margin: Array
    logits_change: dict[str, Array]


@torch.no_grad()
def layer_distances(
    classifier: Classifier,
    clean: Images,
    conditions: Mapping[str, Images],
    labels: Array,
    metrics: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> LayerDistances:
    """Distances at every tap between clean images and the same under each condition (Figures 2 and 3 of the paper).

    clean: uint8 (N, H, W, 3). conditions: the adversaries, by the denoiser that they went through, float32 (N, H, W,
    3). labels: int64 (N,). A batch of the same few images under all conditions passes the classifier once; each
    distance is computed while the map goes by. A batch holds `batch_size` images or, where a metric of the whole set is
    asked for, a block under all conditions. Batches are read ahead by a thread.

    Raises ValueError for an unknown metric, and where logits are not finite.
    """
    if unknown := [name for name in metrics if name not in ALL_METRICS]:
        raise ValueError(f"unknown metric {unknown[0]}; known: {', '.join(ALL_METRICS)}")
    between_taps = [name for name in metrics if name in TAP_TO_TAP]
    set_metrics = [name for name in metrics if name in SET_METRICS]
    map_metrics = [name for name in METRICS if name in metrics or (name == "relative_error" and between_taps)]

    n_conditions, n_taps, n_images = len(conditions), len(classifier.taps), len(clean)
    # All stays on the device to the end: to fetch a number is to wait for all work before it.
    empty = partial(torch.empty, dtype=torch.float64, device=device)
    values = {name: empty(n_conditions, n_taps, n_images) for name in map_metrics}
    pixel_errors = {"relative_error": empty(n_conditions, n_images)} if between_taps else {}
    block_statistics: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(n_taps)] for name in set_metrics}
    n_elements = np.zeros(n_taps, dtype=np.int64)

    def receiver(rows: slice) -> Callable[[int, Tensor], None]:
        def receive(position: int, feature_map: Tensor) -> None:
            maps = _flattened(feature_map).split(rows.stop - rows.start)
            n_elements[position] = maps[0].shape[1]
            _compare(maps, {name: metric_values[:, position, rows] for name, metric_values in values.items()})
            if set_metrics:
                clean_gram, *grams = (
                    gram_matrix(maps_of_condition, _elements_at_once(maps_of_condition)) for maps_of_condition in maps
                )
                for name, tap_statistics in block_statistics.items():
                    statistics = SET_METRICS[name].block_statistics
                    tap_statistics[position].append(torch.stack([statistics(clean_gram, gram) for gram in grams]))

        return receive

    # Files are ordered by class, and a block must be a sample of the whole set.
    order = np.random.default_rng(0).permutation(n_images)
    expected = torch.from_numpy(labels[order]).to(device)
    predicted = torch.empty(1 + n_conditions, n_images, dtype=torch.int64, device=device)
    margin = empty(1 + n_conditions, n_images)
    logits_change = {name: empty(n_conditions, n_images) for name in LOGITS_METRICS}
    n_not_finite = torch.zeros(1 + n_conditions, dtype=torch.int64, device=device)
    images_at_once = max(1, batch_size // (1 + n_conditions))
    few = [slice(first, min(first + images_at_once, n_images)) for first in range(0, n_images, images_at_once)]

    def load(rows: slice) -> tuple[slice, Tensor]:
        images = order[rows]
        batch = [clean[images].astype(np.float32), *(of[images] for of in conditions.values())]
        return rows, ready_for(device, np.concatenate(batch))

    for rows, batch in ahead(load, blocks(n_images) if set_metrics else few):
        pixels = pixels_of(batch, device)
        _compare(
            _flattened(pixels).split(rows.stop - rows.start),
            {name: metric_values[:, rows] for name, metric_values in pixel_errors.items()},
        )
        with classifier.observed(receiver(rows)):
            logits = classifier(pixels).unflatten(0, (1 + n_conditions, -1))
        predicted[:, rows], margin[:, rows] = logits.argmax(-1), margins(logits, expected[rows])
        for name, changes in centred_change(logits).items():
            logits_change[name][:, rows] = changes
        n_not_finite += count_not_finite(logits)

    check_finite(n_not_finite, n_images, ["clean", *conditions])
    for name in between_taps:
        here = values["relative_error"]
        values[name] = TAP_TO_TAP[name](here, torch.cat([pixel_errors["relative_error"][:, None], here[:, :-1]], dim=1))
    in_order = torch.from_numpy(np.argsort(order)).to(device)
    return LayerDistances(
        {name: values[name][..., in_order].cpu().numpy() for name in metrics if name in values},
        {name: _combined(SET_METRICS[name], tap_statistics) for name, tap_statistics in block_statistics.items()},
        n_elements,
        predicted[:, in_order].cpu().numpy(),
        margin[:, in_order].cpu().numpy(),
        {name: changes[:, in_order].cpu().numpy() for name, changes in logits_change.items()},
    )


def _flattened(maps: Tensor) -> Tensor:
    """(N, ...) -> (N, n_elements), in the order in which they lie in memory: a view. No metric depends on the order."""
    order = sorted(range(1, maps.ndim), key=maps.stride, reverse=True)
    return maps.permute(0, *order).flatten(1)


def _compare(maps: Sequence[Tensor], values: Mapping[str, Tensor]) -> None:
    """Write into `values`, float64 (n_conditions, N) by metric, those of maps (N, n_elements), the clean ones first."""
    clean, *others = maps
    images_at_once = max(1, _elements_at_once(clean) // clean.shape[1])
    for start in range(0, len(clean), images_at_once):
        images = slice(start, start + images_at_once)
        clean_part = Maps(clean[images])
        for condition, other in enumerate(others):
            change = Change(clean_part, Maps(other[images]))
            for name, metric_values in values.items():
                metric_values[condition, images] = METRICS[name](change)


def _elements_at_once(maps: Tensor) -> int:
    return ELEMENTS_AT_ONCE if maps.device.type == "cpu" else maps.numel()


def _combined(metric: SetMetric, tap_statistics: Sequence[Sequence[Tensor]]) -> Array:
    """(n_conditions, n_taps, 3) of the numbers of each tap's blocks, (n_conditions, k) each."""
    values = [
        [metric.combine_blocks(maps_of_condition) for maps_of_condition in torch.stack(list(blocks), 1).cpu()]
        for blocks in tap_statistics
    ]
    return np.array(values).transpose(1, 0, 2)


def distance_frames(
    distances: LayerDistances,
    classifier: Classifier,
    conditions: Sequence[str],
    index: Array,
    labels: Array,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The distances as tables: a row a condition and tap, and a row a condition, tap and image.

    index: row of each image in the data file. The first has denoiser, position (from 1), layer, module, kind,
    n_elements, n_images, interval_covers and mean, std, ci_low, ci_high of each metric, with no std for those of the
    whole set; the second denoiser, position, index, label and the metrics of images.
    """
    summaries, per_image = [], []
    for condition, denoiser in enumerate(conditions):
        for position, tap in enumerate(classifier.taps):
            values = {
                metric: metric_values[condition, position] for metric, metric_values in distances.per_image.items()
            }
            statistics = {metric: summary(image_values) for metric, image_values in values.items()}
            for metric, metric_values in distances.whole_set.items():
                mean, low, high = metric_values[condition, position]
                statistics[metric] = {"mean": mean, "std": float("nan"), "ci_low": low, "ci_high": high}
            summaries.append(
                {
                    "denoiser": denoiser,
                    "position": position + 1,
                    "layer": tap.layer,
                    "module": tap.module,
                    "kind": tap.kind,
                    "n_elements": int(distances.n_elements[position]),
                    "n_images": len(index),
                    "interval_covers": coverage(1),
                    **{f"{metric}_{name}": value for metric, row in statistics.items() for name, value in row.items()},
                }
            )
            per_image.append(
                pd.DataFrame(
                    {"denoiser": denoiser, "position": position + 1, "index": index, "label": labels, **values}
                )
            )
    return pd.DataFrame(summaries), pd.concat(per_image, ignore_index=True)


def prediction_frame(distances: LayerDistances, conditions: Sequence[str], index: Array, labels: Array) -> pd.DataFrame:
    """A row a condition and image: denoiser, index, label, both images' prediction and margin, the logits' change."""
    (clean, *others), (clean_margin, *margins_of_others) = distances.predicted, distances.margin
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "denoiser": denoiser,
                    "index": index,
                    "label": labels,
                    "predicted_clean": clean,
                    "predicted": predicted,
                    "margin_clean": clean_margin,
                    "margin": margin,
                    **{name: changes[condition] for name, changes in distances.logits_change.items()},
                }
            )
            for condition, (denoiser, predicted, margin) in enumerate(
                zip(conditions, others, margins_of_others, strict=True)
            )
        ],
        ignore_index=True,
    )
