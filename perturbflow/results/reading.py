"""Reading the CSV files of a run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from perturbflow.results.replicates import replicate_of

_NAMES = ["classifier", "adversarial_set", "denoiser", "split", "layer", "module", "kind", "part"]
_IMAGE_FILES = [
    re.compile(r"(?:distances|interventions)/(?P<classifier>[^/]+)/(?P<adversarial_set>[^/]+)_images\.csv\.gz$"),
    re.compile(r"predictions/(?P<classifier>[^/]+)/(?P<adversarial_set>[^/]+)\.csv\.gz$"),
    re.compile(r"mse/(?P<adversarial_set>[^/]+)_images\.csv\.gz$"),
]
"""Files with a row an image: the names that all their rows share stand in the path alone."""
_IMAGE_FILE_TYPES = {
    **dict.fromkeys(_NAMES, "category"),
    "position": "int16",
    "index": "int32",
    "label": "int32",
    "predicted_clean": "int32",
    "predicted": "int32",
}


class MissingResultError(ValueError):
    """A result file is missing, empty, or lacks a row or a column that a table or figure needs."""


def read_results(paths: str | Iterable[str], columns: Collection[str] | None = None) -> pd.DataFrame:
    """One frame of all rows of the CSV files at `paths`; names stay text, whatever they look like.

    columns: the only ones to read; None reads all. One that a file lacks is left out.

    All get `replicate` from the path, see perturbflow/results/replicates.py.
    Rows of the files that hold one per image (distances/<classifier>/<set>_images.csv.gz, and likewise of
    interventions, predictions and mse) get `classifier` and `adversarial_set` from the path. There are millions of
    them: their names are categories, their integers short.

    Raises MissingResultError for a file that does not exist or is empty.
    """
    frames = [_read_csv(path, columns) for path in ([paths] if isinstance(paths, str) else paths)]
    if not frames:
        return pd.DataFrame()
    for name in _NAMES:
        columns_of_name = [frame[name] for frame in frames if name in frame]
        if columns_of_name and all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns_of_name):
            values = dict.fromkeys(value for column in columns_of_name for value in column.cat.categories)
            common = pd.CategoricalDtype(list(values))  # unlike categories would be joined as text
            frames = [frame.astype({name: common}) if name in frame else frame for frame in frames]
    return pd.concat(frames, ignore_index=True)


def _read_csv(path: str, columns: Collection[str] | None) -> pd.DataFrame:
    matches = (pattern.search(Path(path).as_posix()) for pattern in _IMAGE_FILES)
    match = next((match for match in matches if match), None)
    try:
        frame = pd.read_csv(
            path,
            keep_default_na=False,
            na_values=[""],
            usecols=None if columns is None else (lambda column: column in columns),
            dtype=_IMAGE_FILE_TYPES if match else dict.fromkeys(_NAMES, str),
        )
    except (FileNotFoundError, pd.errors.EmptyDataError) as error:
        raise MissingResultError(f"{path} is missing or empty; run the rule that makes it.") from error
    if match:
        shared = {name: value for name, value in match.groupdict().items() if name not in frame}
        frame = frame.assign(**{name: pd.Categorical([value]).repeat(len(frame)) for name, value in shared.items()})
    return frame.assign(replicate=np.int16(replicate_of(Path(path).as_posix())))


def select(frame: pd.DataFrame, file: str, columns: Sequence[str], **keys: str) -> pd.DataFrame:
    """The rows of `frame` whose columns equal `keys`.

    file: the result file that should hold them, for the message. columns: what the rows must have besides.
    Raises MissingResultError for a missing column or if there is no such row.
    """
    absent = [column for column in (*keys, *columns) if column not in frame]
    if absent:
        raise MissingResultError(f"{file} has no column {', '.join(absent)}; delete it and run the rule that makes it.")
    chosen = pd.Series(True, index=frame.index)
    for column, value in keys.items():
        chosen &= frame[column] == value
    if not chosen.any():
        wanted = ", ".join(f"{column}={value}" for column, value in keys.items())
        raise MissingResultError(f"{file} has no row with {wanted}; delete it and run the rule that makes it.")
    return frame[chosen]
