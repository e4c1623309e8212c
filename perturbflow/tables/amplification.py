"""How much more a classifier amplifies an adversary than noise of the same norm, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, by_image, estimate, resampled_means
from perturbflow.results.replicates import coverage
from perturbflow.tables.markdown import markdown_table, three_significant, with_interval
from perturbflow.tables.rows import SET_AND_CONDITION, refuse_missing, rows_of_classifier
from perturbflow.tables.table import Table
from perturbflow.vocabulary import RAW, Labels


def amplification(
    distances_images: pd.DataFrame, classifiers: Sequence[str], denoisers: Sequence[str], controls: Mapping[str, str]
) -> pd.DataFrame:
    """What an adversary's perturbation grows by, layer by layer, beyond noise of the same norm.

    distances_images: rows of distances/<classifier>/<set>_images.csv.gz. controls: by control set, the set whose norms
    it has. One row a classifier, control, condition and position, in this order:

    classifier
    control, adversarial_set    the noise, and the set that it is compared with
    denoiser, position
    n_images                    images that both perturb, in some training; the others are left out
    amplification               geometric mean over the images of the adversary's relative error over its control's
    amplification_ci_low, _ci_high
    interval_covers             what that interval covers
    relative_error_mean         of the adversaries, ||v - v_clean|| / ||v_clean||
    relative_error_control_mean

    Without a denoiser both enter the classifier with the same norm. Behind one they do not: the ratio then holds what
    the denoiser leaves of each. Raises MissingResultError for rows or columns that the frame lacks.
    """
    return pd.concat(
        [
            _amplification_of(
                rows_of_classifier(
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
    columns, errors = by_image(maps, [*SET_AND_CONDITION, "position"], "relative_error")
    places = {key: place for place, key in enumerate(columns)}
    positions = sorted(maps["position"].unique())
    found = {key[:2]: None for key in columns}
    pairs = [(control, name, condition) for control, name in controls.items() for condition in conditions]
    for control, name, condition in pairs:
        refuse_missing(found, f"distances/{classifier}/{{}}_images.csv.gz", [control, name], condition)

    def stacked(which: int) -> Array:
        return errors[..., [places[pair[which], pair[2], position] for pair in pairs for position in positions]]

    control_errors, adversary_errors = stacked(0), stacked(1)
    in_both = (np.minimum(adversary_errors, control_errors) > 0) & np.isfinite(adversary_errors + control_errors)
    ratios = np.divide(adversary_errors, control_errors, out=np.full(in_both.shape, np.nan), where=in_both)
    n_images = in_both.any(axis=0).sum(axis=0)
    found_ratios = estimate(resampled_means(np.log(ratios)), n_images)
    low, high = found_ratios.interval()
    with np.errstate(invalid="ignore"):
        means = [
            (np.where(in_both, kind, 0).sum(axis=1) / in_both.sum(axis=1)).mean(axis=0)
            for kind in (adversary_errors, control_errors)
        ]
    return pd.DataFrame(
        {
            "classifier": classifier,
            "control": np.repeat([pair[0] for pair in pairs], len(positions)),
            "adversarial_set": np.repeat([pair[1] for pair in pairs], len(positions)),
            "denoiser": np.repeat([pair[2] for pair in pairs], len(positions)),
            "position": positions * len(pairs),
            "n_images": n_images,
            "amplification": np.exp(found_ratios.value),
            "amplification_ci_low": np.exp(low),
            "amplification_ci_high": np.exp(high),
            "interval_covers": coverage(found_ratios.n_trainings),
            "relative_error_mean": means[0],
            "relative_error_control_mean": means[1],
        }
    )


def amplification_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """The amplification as Markdown: a part a classifier, one row a control and condition."""
    parts = [
        "**Amplification**: how many times larger the relative error of an adversary is than that of noise of the same "
        "norm, image by image (geometric mean and its 95% interval, which covers "
        f"{table['interval_covers'].iloc[0]}). Beside the largest: its layer's position."
    ]
    for classifier, rows in table.groupby("classifier", sort=False):
        lines = []
        for (name, control, denoiser), line in rows.groupby(["adversarial_set", "control", "denoiser"], sort=False):
            known = line.dropna(subset="amplification")
            largest = known.loc[[known["amplification"].idxmax()]] if len(known) else line.iloc[:1]
            at = f" at {largest['position'].iloc[0]}" if len(known) else ""
            lines.append(
                [
                    labels.adversarial_set(str(name)),
                    labels.adversarial_set(str(control)),
                    labels.condition(str(denoiser)),
                    _amplified(line.iloc[0]),
                    _amplified(largest.iloc[0]) + at,
                    _amplified(line.iloc[-2:].iloc[0]),
                    _amplified(line.iloc[-1]),
                ]
            )
        heads = ["Adversarial set", "Control", "Condition", "First", "Largest", "Before the logits", "Logits"]
        columns = list(zip(heads, zip(*lines, strict=True), strict=True))
        parts.append(f"**{labels.classifier(str(classifier))}**\n\n{markdown_table(columns, n_text_columns=3)}")
    return "\n\n".join(parts) + "\n"


def _amplified(row: pd.Series[Any]) -> str:
    return with_interval(
        row["amplification"], row["amplification_ci_low"], row["amplification_ci_high"], form=three_significant
    )


TABLE = Table(
    amplification,
    amplification_markdown,
    {"distances_images": ["denoiser", "index", "position", "relative_error"]},
)
