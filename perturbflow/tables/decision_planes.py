"""What a perturbation does to a feature map, beyond its size: two tables of a run, with intervals over images.

`decision_planes` measures Figure 4 of the paper: whether the logits move along the clean logits or turn away from
them. `amplification` compares the path of an adversary through a classifier with that of noise of the same norm.
Intervals are 95% bootstrap intervals of the mean over images (`perturbflow.results.bootstrap`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, by_image, interval, resampled_means
from perturbflow.results.reading import RAW, MissingResultError, condition_label, label, select
from perturbflow.tables.rows import Table, markdown_table, three_significant, with_interval

PAPER_PLANES = {
    "resnetv2_50": "radial",
    "vgg19": "tangential",
    "senet154": "tangential",
    "inception_resnet_v2": "tangential",
    "densenet201": "tangential",
}
"""The decision plane that the paper suspects in each classifier (Section 4)."""

_AT_LOGITS = ["along_share", "norm_change", "angle"]
_MARGINS = ["margin_clean", "margin_change"]
_VERSION = ["adversarial_set", "denoiser"]


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
    margin_change    that of this version, minus margin_clean
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
        matrices = [by_image(measured, _VERSION, quantity) for quantity in [*_AT_LOGITS, *_MARGINS]]
        samples = resampled_means(np.stack(matrices, axis=-1))
        low, high = interval(samples)
        n_images: Array = matrices[0].notna().sum().to_numpy()
        number: dict[Any, int] = {version: place for place, version in enumerate(matrices[0].columns)}

        for name in attacks:
            own_controls = [control for control, of in controls.items() if of == name]
            for condition in conditions:
                _refuse_missing(number, classifier, [name, *own_controls], condition)
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
    maps = _of_classifier(distances_images, "distances/{}/*_images.csv.gz", ["position", *_AT_LOGITS], classifier)
    logits = maps[maps["position"] == maps["position"].max()]
    margins = _of_classifier(predictions, "predictions/{}/*.csv.gz", ["margin_clean", "margin"], classifier)
    keys = [*_VERSION, "index"]
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


def _of_classifier(frame: pd.DataFrame, file: str, columns: list[str], classifier: str) -> pd.DataFrame:
    needed = [*_VERSION, "index", *columns]
    return select(frame, file.format(classifier), needed, classifier=classifier)


def _refuse_missing(found: Mapping[Any, Any], classifier: str, sets: Sequence[str], condition: str) -> None:
    for name in sets:
        if (name, condition) not in found:
            raise MissingResultError(
                f"distances/{classifier}/{name}_images.csv.gz has no row with denoiser={condition}; delete it and run "
                "the rule that makes it."
            )


def _plane(low: float, high: float) -> str:
    if low > 0.5:
        return "tangential"
    return "radial" if high < 0.5 else "undecided"


def amplification(
    distances_images: pd.DataFrame, classifiers: Sequence[str], denoisers: Sequence[str], controls: Mapping[str, str]
) -> pd.DataFrame:
    """What an adversary's perturbation grows by, layer by layer, beyond noise of the same norm.

    distances_images: rows of distances/<classifier>/<set>_images.csv.gz. controls: by control set, the set whose norms
    it has. One row a classifier, control, condition and position, in this order:

    classifier
    control, adversarial_set    the noise, and the set that it is compared with
    denoiser, position
    n_images                    images that both perturb; the others are left out
    amplification               geometric mean over the images of the adversary's relative error over its control's
    amplification_ci_low, _ci_high
    relative_error_mean         of the adversaries, ||v - v_clean|| / ||v_clean||
    relative_error_control_mean

    Without a denoiser both enter the classifier with the same norm. Behind one they do not: the ratio then holds what
    the denoiser leaves of each. Raises MissingResultError for rows or columns that the frame lacks.
    """
    return pd.concat(
        [
            _amplification_of(
                _of_classifier(
                    distances_images, "distances/{}/*_images.csv.gz", ["position", "relative_error"], classifier
                ),
                classifier,
                [RAW, *denoisers],
                controls,
            )
            for classifier in classifiers
        ],
        ignore_index=True,
    )


def _amplification_of(
    maps: pd.DataFrame, classifier: str, conditions: Sequence[str], controls: Mapping[str, str]
) -> pd.DataFrame:
    errors = by_image(maps, [*_VERSION, "position"], "relative_error")
    positions = sorted(maps["position"].unique())
    found = {version[:2]: None for version in errors.columns}
    pairs = [(control, name, condition) for control, name in controls.items() for condition in conditions]
    for control, name, condition in pairs:
        _refuse_missing(found, classifier, [control, name], condition)

    def stacked(which: int) -> Array:
        columns = [(pair[which], pair[2], position) for pair in pairs for position in positions]
        return errors[columns].to_numpy()

    control_errors, adversary_errors = stacked(0), stacked(1)
    in_both = (np.minimum(adversary_errors, control_errors) > 0) & np.isfinite(adversary_errors + control_errors)
    ratios = np.divide(adversary_errors, control_errors, out=np.full(in_both.shape, np.nan), where=in_both)
    samples = resampled_means(np.log(ratios))
    low, high = interval(samples)
    with np.errstate(invalid="ignore"):
        means = [
            np.where(in_both, kind, 0).sum(axis=0) / in_both.sum(axis=0) for kind in (adversary_errors, control_errors)
        ]
    return pd.DataFrame(
        {
            "classifier": classifier,
            "control": np.repeat([pair[0] for pair in pairs], len(positions)),
            "adversarial_set": np.repeat([pair[1] for pair in pairs], len(positions)),
            "denoiser": np.repeat([pair[2] for pair in pairs], len(positions)),
            "position": positions * len(pairs),
            "n_images": in_both.sum(axis=0),
            "amplification": np.exp(samples[0]),
            "amplification_ci_low": np.exp(low),
            "amplification_ci_high": np.exp(high),
            "relative_error_mean": means[0],
            "relative_error_control_mean": means[1],
        }
    )


def _intervals(table: pd.DataFrame, quantity: str, form: Callable[[float], str]) -> list[str]:
    mean, low, high = (table[f"{quantity}_{part}"] for part in ("mean", "ci_low", "ci_high"))
    return [with_interval(*values, form=form) for values in zip(mean, low, high, strict=True)]


def decision_planes_markdown(table: pd.DataFrame) -> str:
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
            ("Adversarial set", [label(name) for name in rows["adversarial_set"]]),
            ("Condition", [condition_label(denoiser) for denoiser in rows["denoiser"]]),
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
        parts.append(f"**{label(str(classifier))}**{suspected}\n\n{markdown_table(columns, n_text_columns=3)}")
    return "\n\n".join(parts) + "\n"


def amplification_markdown(table: pd.DataFrame) -> str:
    """The amplification as Markdown: a part a classifier, one row a control and condition."""
    parts = [
        "**Amplification**: how many times larger the relative error of an adversary is than that of noise of the same "
        "norm, image by image (geometric mean and its 95% interval). Beside the largest: its layer's position."
    ]
    for classifier, rows in table.groupby("classifier", sort=False):
        lines = []
        for (name, control, denoiser), line in rows.groupby(["adversarial_set", "control", "denoiser"], sort=False):
            known = line.dropna(subset="amplification")
            largest = known.loc[[known["amplification"].idxmax()]] if len(known) else line.iloc[:1]
            at = f" at {largest['position'].iloc[0]}" if len(known) else ""
            lines.append(
                [
                    label(str(name)),
                    label(str(control)),
                    condition_label(str(denoiser)),
                    _amplified(line.iloc[0]),
                    _amplified(largest.iloc[0]) + at,
                    _amplified(line.iloc[-2:].iloc[0]),
                    _amplified(line.iloc[-1]),
                ]
            )
        heads = ["Adversarial set", "Control", "Condition", "First", "Largest", "Before the logits", "Logits"]
        columns = list(zip(heads, zip(*lines, strict=True), strict=True))
        parts.append(f"**{label(str(classifier))}**\n\n{markdown_table(columns, n_text_columns=3)}")
    return "\n\n".join(parts) + "\n"


def _amplified(row: pd.Series[Any]) -> str:
    return with_interval(
        row["amplification"], row["amplification_ci_low"], row["amplification_ci_high"], form=three_significant
    )


_KEYS = ["denoiser", "index"]

TABLES = {
    "decision_planes": Table(
        decision_planes,
        decision_planes_markdown,
        {
            "distances_images": [*_KEYS, "position", *_AT_LOGITS],
            "predictions": [*_KEYS, "margin_clean", "margin"],
        },
    ),
    "amplification": Table(
        amplification, amplification_markdown, {"distances_images": [*_KEYS, "position", "relative_error"]}
    ),
}
