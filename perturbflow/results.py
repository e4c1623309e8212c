"""Reading the CSV files of a run, and what the paper calls the things named in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

LABELS = {
    "resnet18": "ResNet-18",
    "resnetv2_50": "ResNet V2-50",
    "vgg19": "VGG-19",
    "senet154": "SENet-154",
    "inception_resnet_v2": "Inception-ResNet V2",
    "densenet201": "DenseNet-201",
    "densenet201_conv": "DenseNet-201 (FC→Conv)",
    "densenet201_prelu": "DenseNet-201 (PReLU after FC)",
    "fgsm": "FGSM",
    "ifgsm": "i-FGSM",
    "mifgsm": "mi-FGSM",
    "fgsm_v1": "FGSM v1",
    "fgsm_v2": "FGSM v2",
    "ifgsm_v1": "i-FGSM v1",
    "ifgsm_v2": "i-FGSM v2",
    "fusionnet": "FusionNet",
    "unet": "U-Net",
}
"""The paper's wording for the names it knows: classifiers, attacks, adversarial sets and denoisers."""

CONDITIONS = {"none": "w/o DN", "fusionnet": "w/ FN", "unet": "w/ UN"}
"""The paper's short wording for what stands in front of the classifier (DN: denoiser)."""

RAW = "none"  # what the artifacts call the adversary without a denoiser
_NAMES = ["classifier", "adversarial_set", "denoiser", "split", "layer", "module"]


class MissingResultError(ValueError):
    """A result file is missing, empty, or lacks a row or a column that a table or figure needs."""


def label(name: str) -> str:
    """The paper's wording for a name of the config; a name that the paper does not know stays as it is."""
    return LABELS.get(name, name)


def condition_label(denoiser: str) -> str:
    """`w/o DN` for "none", the paper's short form for its denoisers, `w/ <name>` for others."""
    return CONDITIONS.get(denoiser, f"w/ {label(denoiser)}")


def read_results(paths: str | Iterable[str]) -> pd.DataFrame:
    """One frame of all rows of the CSV files at `paths`; names stay text, whatever they look like.

    Raises MissingResultError for a file that does not exist or is empty.
    """
    return pd.concat([_read_csv(path) for path in ([paths] if isinstance(paths, str) else paths)], ignore_index=True)


def _read_csv(path: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=dict.fromkeys(_NAMES, str))
    except (FileNotFoundError, pd.errors.EmptyDataError) as error:
        raise MissingResultError(f"{path} is missing or empty; run the rule that makes it.") from error


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
