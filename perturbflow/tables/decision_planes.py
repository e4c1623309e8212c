"""Figure 4 of the paper, measured: whether the logits move along the clean ones or turn away, and how noise moves them.

What a network does to noise of the same norm, it does to anything; only what differs from that is the adversary's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, by_image, estimate, resampled_means
from perturbflow.results.replicates import coverage
from perturbflow.results.verdicts import UNDECIDED, Region, corrected, holm
from perturbflow.tables.markdown import markdown_table, with_interval
from perturbflow.tables.rows import SET_AND_CONDITION, refuse_missing, rows_of_classifier
from perturbflow.tables.table import Table
from perturbflow.vocabulary import LOGITS_METRICS, PAPER_PLANES, RAW, Labels

NOISE, ADVERSARY, DIFFERENCE = "noise", "adversary", "adversary minus noise"
"""Whose change of the logits a row tells."""

_COLUMNS = [*LOGITS_METRICS, "margin_clean", "margin"]
_QUANTITIES = [name.removeprefix("logits_") for name in LOGITS_METRICS] + ["margin_clean", "margin_change"]
_SHARE = _QUANTITIES.index("along_share")
_DIFFERS = np.array([quantity != "margin_clean" for quantity in _QUANTITIES])
# The share along by which a change is called after a plane, or after the plane that it leans to more than noise does.
_VERDICTS = {
    NOISE: (Region(low=0.5), {"holds": "tangential", "fails": "radial"}),
    ADVERSARY: (Region(low=0.5), {"holds": "tangential", "fails": "radial"}),
    DIFFERENCE: (Region(low=0), {"holds": "more tangential", "fails": "more radial"}),
}


class _Line(NamedTuple):
    """What a row of the table is of."""

    perturbation: str
    adversarial_set: str
    control: str | None
    denoiser: str

    @property
    def sets(self) -> list[str]:
        """What is measured, and what is taken from it."""
        control = [self.control] if self.control else []
        return control if self.perturbation == NOISE else [self.adversarial_set, *control]


def decision_planes(
    predictions: pd.DataFrame,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
    controls: Mapping[str, str],
) -> pd.DataFrame:
    """Figure 4, measured: how noise and adversaries move the logits, and across which plane that would be.

    predictions: rows of predictions/<classifier>/<set>.csv.gz. controls: by control set, the set whose norms it has;
    without any there is nothing to compare the adversaries with. Rows of a classifier, in this order: a row a control
    and condition; then a row a set and condition, each followed by its differences from its controls under the same
    condition:

    classifier
    perturbation     `noise`, `adversary`, or `adversary minus noise`, image by image
    adversarial_set  the set; of noise, the one whose norms it has
    control          the noise; empty for an adversary
    denoiser
    n_images         images whose logits the perturbation changes, of a difference both perturbations, in some
                     training; the others are left out of everything below
    interval_covers  what the intervals cover
    along_share      share of the squared change of the centred logits that lies along the clean ones, 0 to 1
    norm_change      length of the centred logits relative to the clean ones, minus 1
    angle            between the two, degrees
    margin_clean     logit of the true class minus the largest other one, of the clean image; empty for a difference
    margin_change    that under this condition, minus margin_clean
    <each of the five>_mean, _ci_low, _ci_high
    verdict          `tangential` where the interval of along_share lies above 0.5: the change mostly lengthens or
                     shortens the logits, as would cross the plane of Figure 4(b); `radial` where it lies below: it
                     mostly turns them, Figure 4(a). Of a difference `more tangential` or `more radial` where it lies
                     above or below 0. `undecided` elsewhere, and where the interval has no width
    p_value          the least p at which there is a verdict; empty where there can be none
    p_holm           that with Holm's correction for all p-values of the table
    verdict_holm     the verdict, undecided where p_holm is not below 0.05
    verdict_paper    what the paper suspects of the classifier, whatever the set; empty for its others

    Without a denoiser adversary and noise enter the classifier with the same norm. Behind one they do not: a difference
    then holds what the denoiser leaves of each. Raises MissingResultError for rows or columns that the frame lacks.
    """
    attacks = [name for name in adversarial_sets if name not in controls]
    rows = [
        row
        for classifier in classifiers
        for row in _rows_of(predictions, classifier, attacks, [RAW, *denoisers], controls)
    ]
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p_value"])
    table["verdict_holm"] = list(map(corrected, table["verdict"], table["p_holm"]))
    table["verdict_paper"] = table["classifier"].map(PAPER_PLANES)
    return table


def _rows_of(
    predictions: pd.DataFrame,
    classifier: str,
    attacks: Sequence[str],
    conditions: Sequence[str],
    controls: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """The rows of a classifier, without what depends on the other rows of the table."""
    images = rows_of_classifier(predictions, "predictions/{}/*.csv.gz", _COLUMNS, classifier)
    images = images.rename(columns=dict(zip(LOGITS_METRICS, _QUANTITIES, strict=False)))
    images["margin_change"] = images["margin"] - images["margin_clean"]
    images[_QUANTITIES] = images[_QUANTITIES].where(images["along_share"].notna())
    measured = {quantity: by_image(images, SET_AND_CONDITION, quantity) for quantity in _QUANTITIES}
    places = {key: place for place, key in enumerate(measured["along_share"][0])}
    values = np.stack([of_images for _, of_images in measured.values()], axis=-1)

    def quantities(line: _Line) -> Array:
        """Of a line, (n_trainings, n_images, n_quantities)."""
        refuse_missing(places, f"predictions/{classifier}/{{}}.csv.gz", line.sets, line.denoiser)
        first, *second = (values[..., places[name, line.denoiser], :] for name in line.sets)
        return np.where(_DIFFERS, first - second[0], np.nan) if second else first

    lines = list(_lines(attacks, conditions, controls))
    compared = np.stack([quantities(line) for line in lines], axis=2)
    n_images = (~np.isnan(compared[..., _SHARE])).any(axis=0).sum(axis=0)
    samples = resampled_means(compared)
    found = estimate(samples, n_images[:, None])
    low, high = found.interval()
    for place, line in enumerate(lines):
        row = {
            "classifier": classifier,
            **line._asdict(),
            "n_images": n_images[place],
            "interval_covers": coverage(found.n_trainings),
        }
        for number, quantity in enumerate(_QUANTITIES):
            row[f"{quantity}_mean"] = found.value[place, number]
            row[f"{quantity}_ci_low"] = low[place, number]
            row[f"{quantity}_ci_high"] = high[place, number]
        region, words = _VERDICTS[line.perturbation]
        share = estimate(samples[..., place, _SHARE], n_images[place])
        yield row | {"verdict": words.get(region.verdict(share), UNDECIDED), "p_value": region.p_value(share)}


def _lines(attacks: Sequence[str], conditions: Sequence[str], controls: Mapping[str, str]) -> Iterator[_Line]:
    """What the rows of a classifier are of, in order."""
    for control, name in controls.items():
        for condition in conditions:
            yield _Line(NOISE, name, control, condition)
    for name in attacks:
        for condition in conditions:
            yield _Line(ADVERSARY, name, None, condition)
            for control in (control for control, of in controls.items() if of == name):
                yield _Line(DIFFERENCE, name, control, condition)


def decision_planes_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """The decision planes as Markdown: all classifiers in short, then a part a classifier, a line a row."""
    n_verdicts = int(table["p_value"].notna().sum())
    decided, kept = (int((table[column] != UNDECIDED).sum()) for column in ("verdict", "verdict_holm"))
    parts = [
        "**Decision planes** (Figure 4 of the paper), measured at the logits with their mean taken off. Along: share "
        "of the squared change that lies along the clean logits. *Tangential*: more than a half does (the change "
        "mostly lengthens or shortens the logits); *radial*: less (it mostly turns them). In brackets: 95% intervals "
        f"of the means, which cover {table['interval_covers'].iloc[0]}. A random direction among n classes has a share "
        "of 1 / (n - 1), but no network moves its logits at random: what it does to noise is what to compare with. "
        "Margin: logit of the true class minus the largest other one.",
        "First stands what the network does to noise of an adversary's norm, and so to anything. Beneath an adversary "
        "stands what only it gets, its change minus that of noise, image by image: *more tangential* or *more radial*."
        if (table["perturbation"] == NOISE).any()
        else "Nothing is compared: the study has no noise of an adversary's norm (`norm_of:` in the config). Whether a "
        "plane is the adversary's or the network's own is not told.",
        f"Verdicts that could be: {n_verdicts}. Decided each by itself: {decided}; with Holm's correction for all of "
        f"them: {kept}. Those that it leaves undecided stand in parentheses. In short, with the correction and without "
        "a denoiser:",
        _in_short(table[table["denoiser"] == RAW], labels),
    ]
    for classifier, rows in table.groupby("classifier", sort=False):
        is_difference = rows["perturbation"] == DIFFERENCE
        signed = [("{:+.2f}" if own else "{:.2f}", "{:+.1f}" if own else "{:.1f}") for own in is_difference]
        columns = [
            ("Perturbation", [_perturbation(row, labels) for row in rows.to_dict("records")]),
            ("Condition", [*map(labels.condition, rows["denoiser"])]),
            ("Plane", [*map(_shown, rows["verdict"], rows["verdict_holm"])]),
            ("Images", [f"{number}" for number in rows["n_images"]]),
            ("Along", _intervals(rows, "along_share", [share.format for share, _ in signed])),
            ("Length (%)", _intervals(rows, "norm_change", [_signed_percent] * len(rows))),
            ("Angle (°)", _intervals(rows, "angle", [angle.format for _, angle in signed])),
            ("Margin, clean", ["" if pd.isna(margin) else f"{margin:.2f}" for margin in rows["margin_clean_mean"]]),
            ("Margin, change", _intervals(rows, "margin_change", ["{:+.2f}".format] * len(rows))),
        ]
        parts.append(f"**{labels.classifier(str(classifier))}**\n\n{markdown_table(columns, n_text_columns=3)}")
    return "\n\n".join(parts) + "\n"


def _in_short(raw: pd.DataFrame, labels: Labels) -> str:
    """How many verdicts of each kind, with Holm's correction, a classifier has without a denoiser."""
    lines = []
    for classifier, rows in raw.groupby("classifier", sort=False):
        counts = [
            ", ".join(f"{number} {verdict}" for verdict, number in chosen["verdict_holm"].value_counts().items())
            for chosen in (rows[rows["perturbation"] == one] for one in _VERDICTS)
        ]
        paper = rows["verdict_paper"].iloc[0]
        lines.append([labels.classifier(str(classifier)), "" if pd.isna(paper) else paper, *counts])
    heads = ["Classifier", "The paper", "Noise", "Adversaries", "Adversaries minus noise"]
    columns = [(head, cells) for head, cells in zip(heads, zip(*lines, strict=True), strict=True) if any(cells)]
    return markdown_table(columns, n_text_columns=len(columns))


def _perturbation(row: Mapping[Any, Any], labels: Labels) -> str:
    name, control = (labels.adversarial_set(row[key]) for key in ("adversarial_set", "control"))
    return {NOISE: f"noise: {control}", ADVERSARY: name, DIFFERENCE: f"minus {control}"}[row["perturbation"]]


def _shown(verdict: str, with_holm: str) -> str:
    return verdict if verdict == with_holm else f"({verdict})"


def _signed_percent(share: float) -> str:
    return f"{100 * share:+.1f}"


def _intervals(table: pd.DataFrame, quantity: str, forms: Sequence[Callable[[float], str]]) -> list[str]:
    values = zip(*(table[f"{quantity}_{part}"] for part in ("mean", "ci_low", "ci_high")), strict=True)
    return [with_interval(*one, form=form) for one, form in zip(values, forms, strict=True)]


TABLE = Table(
    decision_planes, decision_planes_markdown, {"predictions": ["classifier", *SET_AND_CONDITION, "index", *_COLUMNS]}
)
