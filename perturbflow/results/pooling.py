"""The numbers of all replicates of a study together, in files like those that each of them leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from perturbflow.results.bootstrap import CONFIDENCE, Array, by_image, estimate, resampled_means
from perturbflow.results.intervals import wilson_interval
from perturbflow.results.reading import MissingResultError, read_results
from perturbflow.results.replicates import coverage
from perturbflow.results.writing import write_csv

ACCURACY_KEYS = ["classifier", "adversarial_set", "denoiser", "split"]
DISTANCE_KEYS = ["denoiser", "position"]
INTERVENTION_KEYS = ["denoiser", "position", "part", "fraction"]
MSE_KEYS = ["denoiser", "split"]

Pool = Callable[..., pd.DataFrame]


def pool_accuracies(accuracy: pd.DataFrame, keys: Sequence[str] = ACCURACY_KEYS) -> pd.DataFrame:
    """Accuracies averaged over the replicates, with top1_ci_low, top1_ci_high and interval_covers.

    accuracy: rows of accuracy/<classifier>/<set>.csv or classifiers/<classifier>/accuracy.csv, with `replicate`.

    Files hold no accuracy image by image. The images' part of the interval is Wilson's of one training, which is what
    remains where all trainings err on the same images: the widest that it can be.
    """
    rows, values = _by_replicate(accuracy, keys, "top1")
    low, high = np.transpose(
        [wilson_interval(share * n, n) for share, n in zip(values.mean(axis=0), rows["n_images"], strict=True)]
    )
    middle, between = values.mean(axis=0), _between_trainings(values)
    return rows.assign(
        top1=middle,
        top1_ci_low=np.maximum(middle - np.hypot(between, middle - low), 0),
        top1_ci_high=np.minimum(middle + np.hypot(between, high - middle), 1),
        interval_covers=coverage(len(values)),
    )


def pool_errors(mse: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Mean squared errors of a set averaged over the replicates, with mse_px2_ci_low, _ci_high and interval_covers.

    mse, images: rows of mse/<set>.csv and mse/<set>_images.csv.gz, with `replicate`.
    """
    rows, values = _by_replicate(mse, MSE_KEYS, "mse_px2")
    names = {"": "value", "_ci_low": "low", "_ci_high": "high"}
    # Splits by themselves: they have other images, and other numbers of them.
    parts = [_over_images(one, MSE_KEYS, "mse_px2", names) for _, one in images.groupby("split", observed=True)]
    pooled = _beside(rows.drop(columns="mse_px2"), MSE_KEYS, pd.concat(parts))
    return pooled.assign(interval_covers=coverage(len(values)))


def pool_distances(distances: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Distances of a classifier on a set over the replicates, with the columns of distances/<classifier>/<set>.csv.

    distances, images: rows of that file and of <set>_images.csv.gz, with `replicate`. `_std` is that over the images of
    the mean of their trainings. A metric of the whole set has no values of images; the images' part of its interval is
    that of one training, as in `pool_accuracies`.
    """
    metrics = [column.removesuffix("_mean") for column in map(str, distances) if column.endswith("_mean")]
    rows, _ = _by_replicate(distances, DISTANCE_KEYS, f"{metrics[0]}_mean")
    for metric in metrics:
        if metric in images:
            pooled = _over_images(images, DISTANCE_KEYS, metric, _STATISTICS)
            rows = _beside(rows.drop(columns=[f"{metric}{name}" for name in _STATISTICS]), DISTANCE_KEYS, pooled)
            continue
        (_, values), (_, low), (_, high) = (
            _by_replicate(distances, DISTANCE_KEYS, f"{metric}{name}") for name in ("_mean", "_ci_low", "_ci_high")
        )
        middle, between = values.mean(axis=0), _between_trainings(values)
        below, above = (np.sqrt(np.mean((bound - values) ** 2, axis=0)) for bound in (low, high))
        rows[f"{metric}_mean"] = middle
        rows[f"{metric}_ci_low"] = middle - np.hypot(between, below)
        rows[f"{metric}_ci_high"] = middle + np.hypot(between, above)
    return rows.assign(interval_covers=coverage(distances["replicate"].nunique()))[distances.columns.drop("replicate")]


def pool_interventions(interventions: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Likewise of interventions/<classifier>/<set>.csv: accuracies as in `pool_accuracies`, margins image by image."""
    rows = pool_accuracies(interventions, INTERVENTION_KEYS)
    margins = _over_images(images, INTERVENTION_KEYS, "margin", _STATISTICS)
    pooled = _beside(rows.drop(columns=[f"margin{name}" for name in _STATISTICS]), INTERVENTION_KEYS, margins)
    return pooled[interventions.columns.drop("replicate")]


_STATISTICS = {"_mean": "value", "_std": "std", "_ci_low": "low", "_ci_high": "high"}
"""The ends of columns, and what stands in them."""


def _by_replicate(frame: pd.DataFrame, keys: Sequence[str], column: str) -> tuple[pd.DataFrame, Array]:
    """The rows of the first replicate, and `column` as (n_replicates, n_rows), in the order of these.

    Raises MissingResultError where another replicate has other rows.
    """
    by_number = {str(number): rows for number, rows in frame.groupby("replicate", sort=True)}
    first = next(iter(by_number.values()))
    wanted = pd.MultiIndex.from_frame(first[[*keys]].astype(object))
    values = []
    for number, rows in by_number.items():
        index = pd.MultiIndex.from_frame(rows[[*keys]].astype(object))
        if len(index) != len(wanted) or not index.isin(wanted).all():
            raise MissingResultError(
                f"replicate {number} has other rows than the others, by {', '.join(keys)}; delete its files and run "
                "again."
            )
        values.append(rows[column].set_axis(index).reindex(wanted).to_numpy(np.float64))
    return first.drop(columns="replicate").reset_index(drop=True), np.array(values)


def _between_trainings(values: Array) -> Array:
    """The half-width of the interval that (n_replicates, n_rows) values give the choice of the trainings alone."""
    n_replicates = len(values)
    error = values.std(axis=0, ddof=1) / n_replicates**0.5
    return np.asarray(stdtrit(n_replicates - 1, (1 + CONFIDENCE) / 2) * error)


def _over_images(images: pd.DataFrame, keys: list[str], column: str, names: dict[str, str]) -> pd.DataFrame:
    """`column` of a frame with a row an image over trainings and images: a row a combination of `keys`."""
    index, values = by_image(images, keys, column)
    found = estimate(resampled_means(values), (~np.isnan(values)).any(axis=0).sum(axis=0))
    low, high = found.interval()
    std = pd.DataFrame(values.mean(axis=0)).std()
    statistics = {"value": found.value, "low": low, "high": high, "std": std.to_numpy()}
    columns = {f"{column}{end}": statistics[name] for end, name in names.items()}
    return pd.DataFrame(columns, index=index).reset_index()


def _beside(rows: pd.DataFrame, keys: list[str], pooled: pd.DataFrame) -> pd.DataFrame:
    return rows.merge(pooled.astype(rows[keys].dtypes.to_dict()), on=keys, how="left", validate="one_to_one")


def pool_to_files(pool: Pool, outputs: Iterable[str], *inputs: Sequence[str]) -> None:
    """Pool what several files hold, each into one of `outputs`.

    pool: one of the functions above. inputs: of each frame that it takes, the files, those of one replicate after
    another; each replicate's in the order of the outputs.
    """
    outputs = list(outputs)
    for place, output in enumerate(outputs):
        frames = [read_results(files[place :: len(outputs)]) for files in inputs]
        write_csv(pool(*frames), output)
