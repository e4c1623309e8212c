"""Distances between the feature maps of clean images and their versions, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from scipy.special import stdtrit
from torch import Tensor

from perturbflow.classifiers import Classifier
from perturbflow.distances import METRICS
from perturbflow.evaluation import pixels_of
from perturbflow.storage import Array

# Elements of clean maps that are compared at once on the CPU: the operands in double precision then stay in its cache.
# Fresh memory for whole batches of them costs ten times the arithmetic.
ELEMENTS_AT_ONCE = 2**17


def sample_rows(n_images: int, n_sampled: int, seed: int) -> Array:
    """Sorted rows of a random sample without replacement; all rows where fewer than `n_sampled` exist."""
    generator = np.random.default_rng(seed)
    return np.sort(generator.choice(n_images, min(n_sampled, n_images), replace=False))


@torch.no_grad()
def layer_distances(
    classifier: Classifier,
    clean: Array,
    versions: Mapping[str, Array],
    metrics: Sequence[str],
    batch_size: int,
    device: torch.device,
) -> dict[str, Array]:
    """Distances at every tap between clean images and their versions (Figures 2 and 3 of the paper).

    clean: uint8 (N, H, W, 3). versions: by the name of the denoiser, float32 (N, H, W, 3). A batch of all versions of
    the same few images passes the classifier once; each distance is computed while the map goes by.
    Returns for each metric float64 (n_versions, n_taps, N), and `n_elements` int64 (n_taps,).
    """
    shape = (len(versions), len(classifier.taps), len(clean))
    # They stay on the device to the end: to fetch a number is to wait for all work before it.
    results = {metric: torch.empty(shape, dtype=torch.float64, device=device) for metric in metrics}
    n_elements = np.zeros(len(classifier.taps), dtype=np.int64)
    images_at_once = max(1, batch_size // (1 + len(versions)))

    def receiver(first_row: int, n_images: int) -> Callable[[int, Tensor], None]:
        def receive(position: int, feature_map: Tensor) -> None:
            clean_map, *other_maps = feature_map.split(n_images)
            n_elements[position] = clean_map[0].numel()
            compared_at_once = max(1, ELEMENTS_AT_ONCE // clean_map[0].numel()) if device.type == "cpu" else n_images
            for start in range(0, n_images, compared_at_once):
                images = slice(start, min(start + compared_at_once, n_images))
                rows = slice(first_row + images.start, first_row + images.stop)
                clean_part = clean_map[images].double()
                for version, other_map in enumerate(other_maps):
                    other_part = other_map[images].double()
                    for metric in metrics:
                        results[metric][version, position, rows] = METRICS[metric](clean_part, other_part)

        return receive

    for first_row in range(0, len(clean), images_at_once):
        rows = slice(first_row, first_row + images_at_once)
        clean_batch = clean[rows].astype(np.float32)
        batch = np.concatenate([clean_batch, *(version[rows] for version in versions.values())])
        with classifier.observed(receiver(first_row, len(clean_batch))):
            classifier(pixels_of(batch, device))
    return {**{metric: values.cpu().numpy() for metric, values in results.items()}, "n_elements": n_elements}


def summary(values: Array, confidence: float = 0.95) -> dict[str, float]:
    """Mean over images, standard deviation, and the t interval of the mean (as mean, std, ci_low, ci_high)."""
    mean = float(values.mean())
    if len(values) < 2:
        return {"mean": mean, "std": float("nan"), "ci_low": float("nan"), "ci_high": float("nan")}
    std = float(values.std(ddof=1))
    half = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * std / len(values) ** 0.5
    return {"mean": mean, "std": std, "ci_low": mean - half, "ci_high": mean + half}


def distance_frames(
    distances: Mapping[str, Array],
    classifier: Classifier,
    versions: Sequence[str],
    index: Array,
    labels: Array,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The distances as tables: a row a version and tap, and a row a version, tap and image.

    index: row of each image in the data file. The first has denoiser, position (from 1), layer, module, n_elements,
    n_images and mean, std, ci_low, ci_high of each metric; the second denoiser, position, index, label and the metrics.
    """
    metrics = [name for name in distances if name != "n_elements"]
    summaries, per_image = [], []
    for version, denoiser in enumerate(versions):
        for position, tap in enumerate(classifier.taps):
            values = {metric: distances[metric][version, position] for metric in metrics}
            summaries.append(
                {
                    "denoiser": denoiser,
                    "position": position + 1,
                    "layer": tap.layer,
                    "module": tap.module,
                    "n_elements": int(distances["n_elements"][position]),
                    "n_images": len(index),
                    **{
                        f"{metric}_{name}": value
                        for metric in metrics
                        for name, value in summary(values[metric]).items()
                    },
                }
            )
            per_image.append(
                pd.DataFrame(
                    {"denoiser": denoiser, "position": position + 1, "index": index, "label": labels, **values}
                )
            )
    return pd.DataFrame(summaries), pd.concat(per_image, ignore_index=True)
