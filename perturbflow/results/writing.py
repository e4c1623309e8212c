"""Writing the CSV files of a run."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd

from perturbflow.files.whole import whole_file


def write_csv(frame: pd.DataFrame, path: str | Path) -> None:
    """Write a frame as CSV, compressed where the name ends with `.gz`. Equal frames give equal files of one name."""
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        if Path(path).suffix != ".gz":
            frame.to_csv(file, index=False)
            return
        # The header names the file, and no time.
        with gzip.GzipFile(Path(path).name, "wb", fileobj=file, mtime=0) as compressed:
            frame.to_csv(compressed, index=False)
