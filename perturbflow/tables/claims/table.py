"""The table of the paper's claims, with what a run says to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from math import isnan

import numpy as np
import pandas as pd

from perturbflow.results.bootstrap import Array, Estimate, estimate
from perturbflow.results.replicates import coverage
from perturbflow.results.verdicts import Region, corrected, holm
from perturbflow.tables.claims.claim import (
    CLAIMS,
    NOT_MEASURED,
    VERDICTS,
    Claim,
    Names,
    NotMeasuredError,
    Scope,
)
from perturbflow.tables.claims.evidence import PaperEvidence, RunEvidence, tap_positions
from perturbflow.tables.claims.statements import COSD_STAYS
from perturbflow.tables.markdown import markdown_table, three_significant, with_interval
from perturbflow.tables.table import Table
from perturbflow.vocabulary import (
    COSD,
    MODIFIED_CLASSIFIERS,
    NED,
    PAPER_CLASSIFIERS,
    PAPER_DENOISERS,
    PAPER_SETS,
    RAW,
    Labels,
)

_OF_PAPER = {*PAPER_CLASSIFIERS, *MODIFIED_CLASSIFIERS, *PAPER_SETS, *PAPER_DENOISERS}


def _names(classifiers: Sequence[str], denoisers: Sequence[str]) -> dict[str, list[str]]:
    """What "every" means: the paper's and the run's own."""
    every_classifier = list(dict.fromkeys([*PAPER_CLASSIFIERS, *classifiers]))
    return {
        "every classifier": every_classifier,
        "every classifier whose COS-D fades": [name for name in every_classifier if name not in COSD_STAYS],
        "every classifier but ResNet V2-50": [name for name in every_classifier if name != "resnetv2_50"],
        "every denoiser": list(dict.fromkeys([*PAPER_DENOISERS, *denoisers])),
    }


def claims(
    distances_images: pd.DataFrame,
    layers: pd.DataFrame,
    predictions: pd.DataFrame,
    mse_images: pd.DataFrame,
    paper_claims: pd.DataFrame,
    paper3: pd.DataFrame,
    paper4: pd.DataFrame,
    paper5: pd.DataFrame,
    paper7: pd.DataFrame,
    classifiers: Sequence[str],
    adversarial_sets: Sequence[str],
    denoisers: Sequence[str],
) -> pd.DataFrame:
    """What a run says to each claim of the paper.

    distances_images, predictions, mse_images: rows of distances/<classifier>/<set>_images.csv.gz,
    predictions/<classifier>/<set>.csv.gz and mse/<set>_images.csv.gz; without rows where a run has none. layers: rows
    of distances/<classifier>/<set>.csv, of one set a classifier, for the kind of each position. paper_claims: the
    sentence that each claim stands for, resources/paper/claims.csv. paper3 to paper7: the paper's tables of that
    number. Sets other than the paper's are left aside. One row a claim and subject:

    claim, statement
    section, sentence   of the paper
    reading             `stated` there, `inferred` from what it says, or read off a `table`
    bar, bar_reason     where the inequality's bound is from: the `paper`, or `ours` where it has words alone
    subject             the classifiers, denoisers and sets that it is about, joined by ", "
    of_paper            whether the paper has all of these; else its claim is put to others
    adversarial_sets    the sets that the effect is pooled over, likewise; fewer than the claim's where a run lacks some
    effect, ci_low, ci_high     with its 95% interval; the statement has the unit
    interval_covers     what the interval covers
    effect_paper        the same from the paper's tables, where they give it
    inequality          where the paper says that the effect lies
    verdict             "holds" (the whole interval lies there), "fails" (all of it lies outside), "undecided", or
                        "not measured"
    p_value             the least p at which there is a verdict
    p_holm              the same by Holm for all verdicts of the table together
    verdict_holm        the verdict at that p: "undecided" where it is not below 0.05
    note                what is missing, or why there is no verdict

    An effect with nothing to divide by, such as the share of no loss, is undecided; so is one that no image and no
    training changes.
    """
    sets = [name for name in PAPER_SETS if name in adversarial_sets]
    conditions = (RAW, *(name for name in PAPER_DENOISERS if name in denoisers))
    taps = tap_positions(layers)
    run = RunEvidence(distances_images, predictions, mse_images, sets)
    paper = PaperEvidence(paper3, paper4, paper5, paper7)
    names = _names(classifiers, denoisers)
    sources = paper_claims.set_index("claim")[["section", "sentence", "reading", "bar", "bar_reason"]]
    rows = []
    for claim in CLAIMS:
        pooled = tuple(name for name in claim.adversarial_sets if name in sets)
        scope = Scope(pooled, conditions, taps)
        for subject in product(*(names[part] if isinstance(part, str) else part for part in claim.subject)):
            own_set = [name for name in subject if name in PAPER_SETS]
            rows.append(
                {
                    "claim": claim.name,
                    "statement": claim.statement,
                    **sources.loc[claim.name],
                    "subject": ", ".join(subject),
                    "of_paper": set(subject) <= _OF_PAPER,
                    "adversarial_sets": ", ".join(own_set or pooled),
                    **_measured(claim, run, scope, subject),
                    "effect_paper": _effect_of_paper(claim, paper, scope, subject),
                    "inequality": str(claim.region),
                }
            )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p_value"])
    pairs = zip(table["verdict"], table["p_holm"], strict=True)
    table["verdict_holm"] = [one if one == NOT_MEASURED else corrected(one, p_value) for one, p_value in pairs]
    order = ["claim", "statement", *sources, "subject", "of_paper", "adversarial_sets", "effect", "ci_low", "ci_high"]
    order += ["interval_covers", "effect_paper", "inequality", "verdict", "p_value", "p_holm", "verdict_holm", "note"]
    return table[order]


def _measured(claim: Claim, run: RunEvidence, scope: Scope, subject: tuple[str, ...]) -> dict[str, object]:
    """A row's effect, interval, verdict and note."""
    nothing = {
        **dict.fromkeys(["effect", "ci_low", "ci_high", "p_value"], np.nan),
        "interval_covers": None,
        "verdict": NOT_MEASURED,
    }
    if not scope.adversarial_sets:
        return {**nothing, "note": f"adversarial set {' or '.join(claim.adversarial_sets)}"}
    try:
        samples = claim.effect(run, scope, *subject)
    except NotMeasuredError as error:
        return {**nothing, "note": str(error)}
    undefined = np.isnan(samples).any(axis=1).mean()
    found, region, form = _estimated(claim, samples, run.n_images)
    low, high = found.interval()
    note = f"undefined in {undefined:.1%} of the resamples" if undefined else None
    if not undefined and not found.varies:
        note = "the same with all images: no interval"
    return {
        "effect": form(found.value),
        "ci_low": form(low),
        "ci_high": form(high),
        "interval_covers": coverage(found.n_trainings),
        "verdict": region.verdict(found),
        "p_value": region.p_value(found),
        "note": note,
    }


def _estimated(claim: Claim, samples: Array, n_images: int) -> tuple[Estimate, Region, Callable[[Array], Array]]:
    """An effect and its region on the scale on which it is averaged, and what leads back from there."""
    if claim.scale == "difference":
        return estimate(samples, n_images), claim.region, np.asarray
    with np.errstate(divide="ignore", invalid="ignore"):
        logarithms = np.log(samples)
        low, high = np.log([max(claim.region.low, 0), claim.region.high])
    # A ratio of nothing has no logarithm.
    logarithms[~np.isfinite(logarithms)] = np.nan
    return estimate(logarithms, n_images), Region(float(low), float(high), claim.region.closed), np.exp


def _effect_of_paper(claim: Claim, paper: PaperEvidence, scope: Scope, subject: tuple[str, ...]) -> float:
    if not scope.adversarial_sets:
        return float("nan")
    try:
        return float(claim.effect(paper, scope, *subject).squeeze())
    except NotMeasuredError:
        return float("nan")


def claims_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """The claims as Markdown: how many hold, claim by claim and in all, then each claim with its rows."""
    own = table[table["of_paper"]]
    n_verdicts = int(table["p_holm"].notna().sum())
    covers = table["interval_covers"].dropna()
    parts = [
        f"**Claims of the paper:** {_counts(own['verdict'])}; with Holm's correction {_counts(own['verdict_holm'])}."
    ]
    others = table[~table["of_paper"]]
    if len(others):
        parts.append(
            f"Put to classifiers and denoisers that are not the paper's: {_counts(others['verdict'])}; with Holm's "
            f"correction {_counts(others['verdict_holm'])}."
        )
    parts.append(
        "A claim holds where the whole 95% interval lies where the paper says, fails where all of it lies elsewhere, "
        f"and is undecided in between. {f'Intervals cover {covers.iloc[0]}. ' if len(covers) else ''}The table has "
        f"{n_verdicts} verdicts, of which one in twenty would be wrong by chance; Holm's correction (1979) is for all "
        "of them together, and a verdict that does not stand after it is in parentheses. One claim is asked of many "
        "classifiers and denoisers: read claim by claim, not row by row."
    )
    per_claim = [(str(claim), rows) for claim, rows in table.groupby("claim", sort=False)]
    counts = [("Claim", [f"`{claim}`" for claim, _ in per_claim])] + [
        (verdict.capitalize(), [_count_of(rows, verdict) for _, rows in per_claim]) for verdict in VERDICTS
    ]
    heading = "Rows of each claim by verdict (those that stand after Holm's correction)"
    parts.append(f"{heading}:\n\n{markdown_table(counts)}")
    subjects = {claim.name: claim.subject for claim in CLAIMS}
    for claim, rows in per_claim:
        labellers = [_labeller(part, labels) for part in subjects[claim]]
        verdicts = zip(rows["verdict"], rows["verdict_holm"], rows["note"], strict=True)
        columns = [
            ("Subject", [_labelled(subject, labellers) for subject in rows["subject"]]),
            ("Verdict", [_verdict(*row) for row in verdicts]),
            (
                "Effect",
                [_effect(*row) for row in zip(rows["effect"], rows["ci_low"], rows["ci_high"], strict=True)],
            ),
            ("Claimed", list(rows["inequality"])),
            ("Paper", [_number(effect) for effect in rows["effect_paper"]]),
        ]
        pooled = rows["adversarial_sets"].unique()
        sets = ", ".join(map(labels.adversarial_set, pooled[0].split(", ")))
        over = f" Over {sets}." if len(pooled) == 1 and pooled[0] else ""
        first = rows.iloc[0]
        quotation = f"> {first['sentence']} ({_place(first['section'])}; {first['reading']})"
        bar = f"Bound ({first['bar']}): {first['bar_reason']}."
        text = f"`{claim}`: {first['statement']}{over}\n\n{quotation}\n\n{bar}"
        parts.append(f"{text}\n\n{markdown_table(columns, n_text_columns=2)}")
    return "\n\n".join(parts) + "\n"


def _place(section: str) -> str:
    """Where a sentence stands: sections have numbers, other places names."""
    return f"Section {section}" if section[0].isdigit() else section


def _count_of(rows: pd.DataFrame, verdict: str) -> str:
    """Rows of a verdict, and in parentheses those that stand after Holm's correction, where these are others."""
    count, standing = (int((rows[column] == verdict).sum()) for column in ("verdict", "verdict_holm"))
    return f"{count} ({standing})" if count != standing else str(count or "")


def _counts(verdicts: pd.Series[str]) -> str:
    return ", ".join(f"{verdict} {(verdicts == verdict).sum()}" for verdict in VERDICTS)


def _labeller(names: Names, labels: Labels) -> Callable[[str], str]:
    """What gives the names in one part of a claim's subject their labels."""
    if isinstance(names, str):
        return labels.denoiser if names == "every denoiser" else labels.classifier
    return labels.adversarial_set if set(names) <= set(PAPER_SETS) else labels.classifier


def _labelled(subject: str, labellers: Sequence[Callable[[str], str]]) -> str:
    return ", ".join(label(name) for label, name in zip(labellers, subject.split(", "), strict=True))


def _effect(effect: float, low: float, high: float) -> str:
    return _number(effect) if isnan(low) else with_interval(effect, low, high, form=_number)


def _number(value: float) -> str:
    if isnan(value):
        return ""
    return f"-{three_significant(-value)}" if value < 0 else three_significant(value)


def _verdict(verdict: str, corrected: str, note: str | None) -> str:
    """A verdict; in parentheses where it does not stand after Holm's correction."""
    shown = verdict if verdict == corrected else f"({verdict})"
    return shown if pd.isna(note) else f"{shown}: {note}"


_KEYS = ["denoiser", "index"]

TABLE = Table(
    claims,
    claims_markdown,
    {
        "distances_images": [*_KEYS, "position", NED, COSD],
        "layers": ["classifier", "position", "kind"],
        "predictions": [*_KEYS, "label", "predicted_clean", "predicted"],
        "mse_images": [*_KEYS, "split", "mse_px2"],
    },
)
