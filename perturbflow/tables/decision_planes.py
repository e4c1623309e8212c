"""Figure 4 of the paper, measured: whether the logits move along the clean logits or turn away from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, by_image, interval, resampled_means
from perturbflow.results.reading import MissingResultError
from perturbflow.tables.markdown import markdown_table, with_interval
from perturbflow.tables.rows import SET_AND_CONDITION, refuse_missing, rows_of_classifier
from perturbflow.tables.table import Table
from perturbflow.vocabulary import DECISION_PLANE_METRICS, PAPER_PLANES, RAW, Labels

_AT_LOGITS = [*DECISION_PLANE_METRICS]
_MARGINS = ["margin_clean", "margin_change"]


def decision_planes(
    distances_images: pd.DataFrame,
    predictions: pd.DataFrame,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    controls: Mapping[str, str],
) -> pd.DataFrame:
    """Figure 4, measured: how the adversaries move the logits, and across which plane that would be.

    distances_images: rows of distances/<classifier>/<set>_images.csv.gz. predictions: rows of
    predictions/<classifier>/<set>.csv.gz. controls: by control set, the set whose norms it has; controls get no rows
    of their own. One row a classifier, set and condition, in this order, at the last position:

    classifier, adversarial_set, denoiser
    n_images         images whose logits the perturbation changes; the others are left out of everything below
    along_share      share of the squared perturbation that lies along the clean logits, 0 to 1
    norm_change      length of the logits relative to the clean ones, minus 1
    angle            between the two, degrees
    margin_clean     logit of the true class minus the largest other one, of the clean image
    margin_change    that under this condition, minus margin_clean
    <each of the five>_mean, _ci_low, _ci_high
    along_share_controls_mean   of the set's controls under the same condition; empty without controls
    verdict          `tangential` where the interval of along_share lies above 0.5: the perturbation mostly lengthens
                     or shortens the logits, as would cross the plane of Figure 4(b); `radial` where it lies below: it
                     mostly turns them, Figure 4(a); `undecided` elsewhere
    verdict_paper    what the paper suspects of the classifier, whatever the set; empty for its others

    Raises MissingResultError for rows or columns that the frames lack.
    """
    conditions = [RAW, *denoisers]
    attacks = [name for name in adversarial_sets if name not in controls]
    rows = []
    for classifier in classifiers:
        measured = _logits(distances_images, predictions, classifier)
        matrices = [by_image(measured, SET_AND_CONDITION, quantity) for quantity in [*_AT_LOGITS, *_MARGINS]]
        samples = resampled_means(np.stack(matrices, axis=-1))
        low, high = interval(samples)
        n_images: Array = matrices[0].notna().sum().to_numpy()
        number: dict[Any, int] = {key: place for place, key in enumerate(matrices[0].columns)}

        for name in attacks:
            own_controls = [control for control, of in controls.items() if of == name]
            for condition in conditions:
                refuse_missing(number, classifier, [name, *own_controls], condition)
                this = number[name, condition]
                row: dict[str, Any] = {
                    "classifier": classifier,
                    "adversarial_set": name,
                    "denoiser": condition,
                    "n_images": n_images[this],
                }
                for place, quantity in enumerate([*_AT_LOGITS, *_MARGINS]):
                    row[f"{quantity}_mean"] = samples[0, this, place]
                    row[f"{quantity}_ci_low"] = low[this, place]
                    row[f"{quantity}_ci_high"] = high[this, place]
                shares = [samples[0, number[control, condition], 0] for control in own_controls]
                row["along_share_controls_mean"] = np.mean(shares) if shares else float("nan")
                row["verdict"] = _plane(row["along_share_ci_low"], row["along_share_ci_high"])
                row["verdict_paper"] = PAPER_PLANES.get(classifier)
                rows.append(row)
    return pd.DataFrame(rows)


def _logits(distances_images: pd.DataFrame, predictions: pd.DataFrame, classifier: str) -> pd.DataFrame:
    """A row a set, condition and image of `classifier`: what decision_planes averages; NaN throughout if unchanged."""
    maps = rows_of_classifier(distances_images, "distances/{}/*_images.csv.gz", ["position", *_AT_LOGITS], classifier)
    logits = maps[maps["position"] == maps["position"].max()]
    margins = rows_of_classifier(predictions, "predictions/{}/*.csv.gz", ["margin_clean", "margin"], classifier)
    keys = [*SET_AND_CONDITION, "index"]
    both = logits[[*keys, *_AT_LOGITS]].merge(
        margins[[*keys, "margin_clean", "margin"]], on=keys, how="left", validate="one_to_one"
    )
    if (lost := both["margin"].isna()).any():
        first = both[lost].iloc[0]
        raise MissingResultError(
            f"predictions/{classifier}/{first['adversarial_set']}.csv.gz has no margin of image {first['index']} with "
            f"denoiser={first['denoiser']}; delete it and run again."
        )
    both["margin_change"] = both["margin"] - both["margin_clean"]
    both.loc[both["along_share"].isna(), [*_AT_LOGITS, *_MARGINS]] = np.nan
    return both


def _plane(low: float, high: float) -> str:
    if low > 0.5:
        return "tangential"
    return "radial" if high < 0.5 else "undecided"


def _intervals(table: pd.DataFrame, quantity: str, form: Callable[[float], str]) -> list[str]:
    mean, low, high = (table[f"{quantity}_{part}"] for part in ("mean", "ci_low", "ci_high"))
    return [with_interval(*values, form=form) for values in zip(mean, low, high, strict=True)]


def decision_planes_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """The decision planes as Markdown: a part a classifier, one row a set and condition."""
    parts = [
        "**Decision planes** (Figure 4 of the paper), measured at the logits, with 95% intervals of the means over the "
        "images. Along: share of the squared perturbation that lies along the clean logits. A plane is *tangential* "
        "where that is more than a half (the perturbation mostly lengthens or shortens the logits), *radial* where it "
        "is less (it mostly turns them). Noise: the same share for noise of the same norm. Margin: logit of the true "
        "class minus the largest other one."
    ]
    for classifier, rows in table.groupby("classifier", sort=False):
        paper = rows["verdict_paper"].iloc[0]
        columns = [
            ("Adversarial set", [*map(labels.adversarial_set, rows["adversarial_set"])]),
            ("Condition", [*map(labels.condition, rows["denoiser"])]),
            ("Plane", list(rows["verdict"])),
            ("Images", [f"{number}" for number in rows["n_images"]]),
            ("Along", _intervals(rows, "along_share", "{:.2f}".format)),
            ("Noise", ["" if isnan(share) else f"{share:.2f}" for share in rows["along_share_controls_mean"]]),
            ("Length (%)", _intervals(rows, "norm_change", lambda change: f"{100 * change:+.1f}")),
            ("Angle (°)", _intervals(rows, "angle", "{:.1f}".format)),
            ("Margin, clean", ["" if isnan(margin) else f"{margin:.2f}" for margin in rows["margin_clean_mean"]]),
            ("Margin, change", _intervals(rows, "margin_change", "{:+.2f}".format)),
        ]
        columns = [(head, cells) for head, cells in columns if head != "Noise" or any(cells)]
        suspected = "" if pd.isna(paper) else f" (the paper: {paper})"
        parts.append(
            f"**{labels.classifier(str(classifier))}**{suspected}\n\n{markdown_table(columns, n_text_columns=3)}"
        )
    return "\n\n".join(parts) + "\n"


TABLE = Table(
    decision_planes,
    decision_planes_markdown,
    {
        "distances_images": ["denoiser", "index", "position", *_AT_LOGITS],
        "predictions": ["denoiser", "index", "margin_clean", "margin"],
    },
)
