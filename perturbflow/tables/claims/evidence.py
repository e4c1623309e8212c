"""Where the numbers of a claim's effect come from: the run, or the paper's own tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, by_image, resampled_means
from perturbflow.tables.claims.claim import CLEAN, NotMeasuredError, TapPositions
from perturbflow.vocabulary import COSD, NED, RAW


class _Means:
    """Resampled means over images of one column, by the other columns `keys`, of each training."""

    def __init__(self, frame: pd.DataFrame, keys: list[str], column: str) -> None:
        self._keys = keys
        self._column = column
        self.n_images = 0
        self._samples: dict[Any, Array] = {}
        if {*keys, column, "index"} <= {*frame.columns}:
            index, values = by_image(frame, keys, column)
            samples = resampled_means(values)
            self._samples = {key: samples[..., place] for place, key in enumerate(index)}
            self.n_images = values.shape[1]

    def of(self, *key: str | int) -> Array:
        if key in self._samples:
            return self._samples[key]
        if not self._samples:
            raise NotMeasuredError(self._column)
        for place, (name, value) in enumerate(zip(self._keys, key, strict=True)):
            if all(known[place] != value for known in self._samples):
                raise NotMeasuredError(f"{name.replace('_', ' ')} {value}")
        raise NotMeasuredError(f"{self._column} of {', '.join(map(str, key))}")


class RunEvidence:
    """The numbers of a run, from its per-image frames."""

    def __init__(
        self,
        distances_images: pd.DataFrame,
        predictions: pd.DataFrame,
        mse_images: pd.DataFrame,
        adversarial_sets: Sequence[str],
    ) -> None:
        def rows_of_sets(frame: pd.DataFrame) -> pd.DataFrame:
            return frame[frame["adversarial_set"].isin(adversarial_sets)] if len(frame) else frame

        distances, predictions, errors = map(rows_of_sets, (distances_images, predictions, mse_images))
        keys = ["classifier", "adversarial_set", "denoiser"]
        self._distances = {metric: _Means(distances, [*keys, "position"], metric) for metric in (NED, COSD)}
        if len(predictions):
            predictions = predictions.assign(
                accuracy=100.0 * (predictions["predicted"] == predictions["label"]),
                clean=100.0 * (predictions["predicted_clean"] == predictions["label"]),
            )
        self._accuracy = _Means(predictions, keys, "accuracy")
        self._clean = _Means(predictions, keys, "clean")
        if len(errors):
            errors = errors[
                errors["split"] == errors["split"].iloc[0]
            ]  # the training split, but in a study of one other
        self._mse = _Means(errors, keys[1:], "mse_px2")

    @property
    def n_images(self) -> int:
        """Images that effects are computed from: those that are measured, or all where there are errors alone."""
        counts = [one.n_images for one in (*self._distances.values(), self._accuracy, self._mse)]
        return min((count for count in counts if count), default=0)

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        if condition == CLEAN:
            return self._clean.of(classifier, adversarial_set, RAW)
        return self._accuracy.of(classifier, adversarial_set, condition)

    def mse(self, adversarial_set: str, condition: str) -> Array:
        return self._mse.of(adversarial_set, condition)

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        return self._distances[metric].of(classifier, adversarial_set, condition, position)


class PaperEvidence:
    """The numbers of the paper's tables; NaN where they have none."""

    def __init__(self, paper3: pd.DataFrame, paper4: pd.DataFrame, paper5: pd.DataFrame, paper7: pd.DataFrame) -> None:
        self._clean = dict(zip(paper3["classifier"], paper3["top1_train_pct"], strict=True))
        self._mse = paper4.set_index("adversarial_set").stack().to_dict()
        keys = ["classifier", "adversarial_set", "denoiser"]
        self._accuracy = pd.concat([paper5, paper7]).set_index(keys)["top1_train_pct"].to_dict()

    def accuracy(self, classifier: str, adversarial_set: str, condition: str) -> Array:
        if condition == CLEAN:
            return _single(self._clean.get(classifier))
        return _single(self._accuracy.get((classifier, adversarial_set, condition)))

    def mse(self, adversarial_set: str, condition: str) -> Array:
        column = "mse_adv_px2" if condition == RAW else f"mse_{condition}_px2"
        return _single(self._mse.get((adversarial_set, column)))

    def distance(self, metric: str, classifier: str, adversarial_set: str, condition: str, position: int) -> Array:
        return _single(None)


def _single(number: float | None) -> Array:
    return np.array([[np.nan if number is None else number]])


def tap_positions(layers: pd.DataFrame) -> dict[str, TapPositions]:
    """Of each classifier. layers: `classifier`, `position` and `kind`, as in distances/<classifier>/<set>.csv."""
    if not len(layers):
        return {}
    taps = {}
    for classifier, rows in layers.groupby("classifier", observed=True):
        positions = sorted(rows["position"].unique())
        spatial = sorted(rows.loc[rows["kind"] == "spatial", "position"].unique()) or positions[:1]
        taps[str(classifier)] = TapPositions(tuple(spatial), positions[0], positions[-2:][0], positions[-1])
    return taps
